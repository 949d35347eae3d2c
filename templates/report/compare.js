"use strict";
// Two models: paired differences per suite with intervals, and the items where they differ most.
async function compareView(query) {
  const a = modelBySlug(query.get("a")), b = modelBySlug(query.get("b"));
  const pick = (name, now) => h("label", {}, name.toUpperCase() + " ", h("select", { onchange: (event) => {
    const values = { view: "compare", a: query.get("a") || "", b: query.get("b") || "" };
    values[name] = event.target.value;
    go(values);
  } }, h("option", { value: "" }, "choose a model"), index.models.map((model, number) =>
    h("option", { value: model.slug, selected: number === now }, nameOf(number)))));
  const head = [h("h2", {}, "Compare two models"), h("div", { class: "controls" }, pick("a", a), pick("b", b))];
  if (a < 0 || b < 0 || a === b) return [...head, h("p", {}, "Choose two different models.")];
  const tab = index.tabs.find((one) => one.members.includes(a) && one.members.includes(b));
  const warning = tab ? null : h("p", { class: "note" }, "These two are in different tabs (other data, limit, protocol or judge): only answers to the same items can be compared here, and their marks do not rank.");
  const { rows, items } = await differences(a, b);
  const models = [a, b].map((p) => index.models[p].slug).join(",");
  return [...head, warning,
    tab ? plainTable(["figure", nameOf(a), nameOf(b), "A − B", "95 % interval", "n", "how"], rows, "Differences") : null,
    tab ? h("p", { class: "legend" }, "Bold: 0 lies outside the interval (Student's t), or the exact sign test says so where all items differ alike. Paired: the mean difference over items that both were marked on (Miller 2024). Not paired: from the two standard errors.") : null,
    h("h3", {}, "Items where they differ most"),
    items.length ? plainTable(["part", "item", "question", nameOf(a), nameOf(b)], items.map(({ part, item, x, y }) =>
      [part.title, h("a", { href: itemAddress(part, item, [a, b]) }, part.labels[item]), h("span", { class: "question" }, part.titles[item] || ""), markText(x, part), markText(y, part)])) : h("p", {}, "No item was marked differently."),
    h("p", {}, link({ view: "items", models, only: "differ" }, "All items of both, side by side")),
  ];
}

async function differences(a, b) {
  const rows = [], items = [], marks = new Map();
  for (const part of index.parts.filter((one) => one.models.includes(a) && one.models.includes(b))) {
    const both = await marksOf(part);
    marks.set(part, both);
    for (let item = 0; item < part.n; item++) {
      const gap = Math.abs(both[a][item] - both[b][item]) / part.top;
      if (gap > 0) items.push({ part, item, gap, x: both[a][item], y: both[b][item] });
    }
  }
  for (const column of index.columns) {
    const one = index.models[a].figures[column.key], other = index.models[b].figures[column.key], [x] = one, [y] = other;
    if (x === null || y === null) continue;
    const parts = [...marks.keys()].filter((part) => column.items && (column.items.endsWith("/") ? part.name.startsWith(column.items) : part.name === column.items));
    const join = (number) => Float64Array.from(parts.flatMap((part) => [...marks.get(part)[number]]));
    let difference = parts.length ? pairedDifference(join(a), join(b)) : null, how = "paired";
    if (!difference) [difference, how] = [figureDifference(one, other), "not paired"];
    const clear = difference && difference.clear, bounded = difference && difference.low !== null;
    const text = figure(difference ? difference.mean : x - y, column.digits);
    rows.push([column.title, figure(x, column.digits), figure(y, column.digits), clear ? h("b", {}, text) : text,
      bounded ? figure(difference.low, column.digits) + " to " + figure(difference.high, column.digits) : "–",
      difference && difference.n ? String(difference.n) : "", bounded ? how : difference ? how + ", the same on every item" : "no interval"]);
  }
  items.sort((one, other) => other.gap - one.gap);
  return { rows, items: items.slice(0, 50) };
}
