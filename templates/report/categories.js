"use strict";
// Models against categories: the mean mark of each, shaded, with its interval on hover, sorted by either side.
function groupsOfItems() {
  const groups = [];
  for (const part of index.parts) {
    const column = index.columns.find((one) => one.key === part.column);
    const suite = column ? index.suites[column.suite] && column.items.endsWith("/") ? column.title : column.title : part.title;
    const group = groups.find((one) => one.column === part.column) || { column: part.column, title: suite, parts: [] };
    if (!group.parts.length) groups.push(group);
    group.parts.push(part);
  }
  return groups;
}

// {category: {model: [marks]}}: by category where items have one, else by part.
async function marksByCategory(group) {
  const table = new Map();
  for (const part of group.parts) {
    const marks = await marksOf(part), several = group.parts.length > 1;
    for (let item = 0; item < part.n; item++) {
      const name = part.categories[item] || (several ? part.title : "all");
      if (!table.has(name)) table.set(name, { part, models: new Map() });
      const row = table.get(name);
      for (const model of part.models) {
        if (!row.models.has(model)) row.models.set(model, []);
        row.models.get(model).push(marks[model][item]);
      }
    }
  }
  return table;
}

async function categoriesView() {
  const groups = groupsOfItems();
  if (!groups.length) return [h("h2", {}, "Categories"), h("p", {}, "The results have no recorded items, only figures.")];
  const group = groups.find((one) => one.column === query.get("of")) || groups[0], top = group.parts[0].top;
  const table = await marksByCategory(group);
  const names = [...table.keys()], models = [...new Set(group.parts.flatMap((part) => part.models))];
  const means = new Map(models.map((model) => [model, new Map(names.map((name) => [name, table.get(name).models.has(model) ? meanOf(table.get(name).models.get(model), top) : null]))]));
  const [side, key] = (query.get("by") || "").split(":"), value = (model, name) => means.get(model).get(name)?.mean ?? -Infinity;
  if (side === "category" && names.includes(key)) models.sort((a, b) => value(b, key) - value(a, key));
  const by = side === "model" ? modelBySlug(key) : -1;
  if (means.has(by)) names.sort((a, b) => value(by, b) - value(by, a));
  const known = models.flatMap((model) => names.map((name) => value(model, name))).filter(Number.isFinite);
  const low = Math.min(...known), high = Math.max(...known), digits = top > 1 ? 1 : 3;
  const cell = (model, name) => {
    const mean = means.get(model).get(name);
    if (!mean) return h("td", {}, "–");
    const part = table.get(name).part, says = `95 % interval ${interval(mean.ci, digits)}${mean.method ? " (" + mean.method + ")" : ""}; n = ${mean.n}`;
    const box = h("td", { "data-value": mean.mean }, h("a", { title: says, href: addressOf({ view: "items", part: part.name, models: index.models[model].slug, category: part.categories.includes(name) ? name : "" }) }, figure(mean.mean, digits)));
    box.style.backgroundColor = `color-mix(in srgb, var(--accent) ${Math.round(4 + 30 * (high > low ? (mean.mean - low) / (high - low) : 0.5))}%, var(--paper))`;
    return box;
  };
  const sorter = (kind, name, text) => h("button", { type: "button", "data-control": kind + name, "aria-pressed": String(query.get("by") === kind + ":" + name),
    onclick: () => update({ by: query.get("by") === kind + ":" + name ? "" : kind + ":" + name }) }, text);
  return [
    h("h2", {}, "Categories: ", group.title),
    h("div", { class: "controls" }, h("label", {}, "Benchmark", h("select", { "data-control": "of", onchange: (event) => update({ of: event.target.value, by: "" }) },
      groups.map((one) => h("option", { value: one.column, selected: one === group }, one.title)))),
    h("button", { type: "button", onclick: (event) => saveFile("categories.csv", "text/csv", tableAsCsv(event.target.closest("#view").querySelector("table.heat"))) }, "Save CSV")),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Models against categories" }, h("table", { class: "heat" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "pinned" }, "Model"), names.map((name) => h("th", { scope: "col" }, sorter("category", name, name))))),
      h("tbody", {}, models.map((model) => h("tr", {}, h("th", { scope: "row", class: "pinned" }, sorter("model", index.models[model].slug, shortName(nameOf(model), 40))), names.map((name) => cell(model, name))))))),
    h("p", { class: "legend" }, "Mean mark of the scored items, up to " + top + "; darker is higher. Click a category or model to sort by it, a figure to open its items; its interval is on hover."),
  ];
}
