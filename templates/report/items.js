"use strict";
// The list of items: filtered, ordered and paged as the address says.
const PAGE = 100;

function itemAddress(part, item, picked, values) {
  const state = new URLSearchParams(values || {});
  for (const [key, value] of Object.entries({ view: "item", part: part.name, item, models: slugsOf(picked), page: "" })) state.set(key, value);
  const block = blockOf(part, item);
  return (block && block[2].endsWith(".html") ? block[2] : "") + addressOf(state);
}

async function itemsView(_, box) {
  if (!index.parts.length) return [h("h2", {}, "Items"), h("p", {}, "The results have no recorded items, only figures.")];
  const part = partOf(query), picked = pickedModels(query, part);
  const list = h("div", {}), fields = h("div", {});
  const refill = async () => {
    fields.replaceChildren(...(await fieldsTable(part, picked)));
    await fillItems(list, part);
  };
  await refill();
  const same = [part.name, slugsOf(picked)].join();
  box.refresh = async () => {
    const now = partOf(query);
    if ([now.name, slugsOf(pickedModels(query, now))].join() !== same) return false;
    for (const control of box.querySelectorAll("[data-control]")) {
      const value = query.get(control.dataset.control) || "";
      if (control.value !== value && control !== document.activeElement) control.value = value;
    }
    await refill();
    return true;
  };
  box.refresh.view = query.get("view");
  return [
    h("h2", {}, "Items: ", part.title),
    h("div", { class: "controls" }, partSelect(part, picked),
      modelBoxes(part, picked, (next) => update({ models: slugsOf(next), page: "" })), await filterControls(part, picked)),
    fields, list,
  ];
}

function partSelect(part, picked) {
  return h("label", {}, "Part", h("select", { "data-control": "part", onchange: (event) => go({ view: "items", part: event.target.value, models: slugsOf(picked) }) },
    index.parts.map((other) => h("option", { value: other.name, selected: other === part }, other.title + " (" + other.n + ")"))));
}

function modelBoxes(part, picked, then) {
  return popup(picked.length + " of " + part.models.length + " models", part.models.map((model) => h("label", {}, h("input", {
    type: "checkbox", checked: picked.includes(model), "data-control": "model " + index.models[model].slug,
    onchange: (event) => then(event.target.checked ? [...picked, model] : picked.filter((other) => other !== model)),
  }), h("span", {}, nameOf(model)))));
}

// The four fields of two models: both right, one of them, none; each opens its items.
async function fieldsTable(part, picked) {
  if (picked.length !== 2) return [];
  const marks = await marksOf(part), counts = { both: 0, a: 0, b: 0, none: 0 };
  for (let item = 0; item < part.n; item++) {
    const where = field(marks[picked[0]][item], marks[picked[1]][item], part);
    if (where) counts[where]++;
  }
  const [a, b] = picked.map(nameOf), chosen = query.get("fields");
  const cell = (key, says) => h("td", {}, h("a", { href: changed({ fields: chosen === key ? "" : key, page: "" }), "aria-current": chosen === key && "true" },
    h("b", {}, counts[key]), " ", says));
  const from = part.top === 1 ? "" : ` Right: a mark of at least ${part.top / 2} of ${part.top}.`;
  return [h("details", { open: true }, h("summary", {}, "Both, one or neither right"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Both, one or neither right" }, h("table", { class: "fields" },
      h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col" }, shortName(b, 34), " right"), h("th", { scope: "col" }, shortName(b, 34), " wrong"))),
      h("tbody", {},
        h("tr", {}, h("th", { scope: "row" }, shortName(a, 34), " right"), cell("both", "both right"), cell("a", "only the first")),
        h("tr", {}, h("th", { scope: "row" }, shortName(a, 34), " wrong"), cell("b", "only the second"), cell("none", "neither right"))))),
    h("p", { class: "legend" }, term("McNemar's p"), ": ", pValue(mcnemar(counts.a, counts.b)), ` (${counts.a} against ${counts.b}).`, from,
      chosen && [" ", h("a", { href: changed({ fields: "", page: "" }) }, "Show all items")]))];
}

async function fillItems(list, part) {
  const { items, note, picked, marks } = await matchingItems(part, query);
  const page = Math.max(0, Math.min(Number(query.get("page")) || 0, Math.ceil(items.length / PAGE) - 1));
  const reasons = await factsOf(part, "unscored");
  const head = [h("th", { scope: "col", class: "pinned" }, "Item"), h("th", { scope: "col" }, "Question")];
  const hasCategory = part.categories.some(Boolean);
  head.push(...picked.map((model) => h("th", { scope: "col", class: "mark-cell" }, shortName(nameOf(model), 30))));
  if (hasCategory) head.push(h("th", { scope: "col", class: "category-head" }, "Category"));
  const row = (item) => h("tr", {},
    h("th", { scope: "row", class: "pinned" }, h("a", { href: itemAddress(part, item, picked, query) }, part.labels[item])),
    h("td", { class: "question-cell" }, part.titles.length ? part.titles[item] || "(no text)" : "text in the item's page"),
    picked.map((model) => {
      const mark = marks[model][item], missing = Number.isNaN(mark);
      return h("td", { class: "mark-cell" + (missing || part.top !== 1 ? "" : isRight(mark, part) ? " right" : " wrong"), title: missing && reasons && reasons[model](item) }, markText(mark, part));
    }),
    hasCategory && h("td", { class: "category" }, part.categories[item] || ""));
  const step = (by, label) => h("button", { type: "button", "data-control": "page" + by, disabled: page + by < 0 || (page + by) * PAGE >= items.length,
    onclick: () => update({ page: page + by || "" }) }, label);
  const count = h("p", { class: "legend" }, items.length === part.n ? plural(items.length, "item") + "; " : `${items.length} of ${part.n} items; `, term("mark", "marks"), " up to " + part.top + ".", note && " " + note);
  if (!items.length) {
    say("No item matches");
    list.replaceChildren(h("p", { class: "nothing" }, "No item matches these filters. ", note, " ",
      link({ view: "items", part: part.name, models: slugsOf(picked) }, "Clear the filters")));
    return;
  }
  say(plural(items.length, "item"));
  list.replaceChildren(count,
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Items" }, h("table", { class: "items" }, h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, items.slice(page * PAGE, (page + 1) * PAGE).map(row)))),
    items.length > PAGE ? h("p", { class: "pager" }, step(-1, "Previous page"), " page " + (page + 1) + " of " + Math.ceil(items.length / PAGE) + " ", step(1, "Next page")) : "");
}
