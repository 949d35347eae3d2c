"use strict";
// Two models: differences per suite on the items that both have, and the items where they differ most.
async function compareView() {
  const a = modelBySlug(query.get("a")), b = modelBySlug(query.get("b"));
  const pick = (name, now) => h("label", {}, name.toUpperCase(), h("select", { "data-control": name, onchange: (event) => update({ [name]: event.target.value }) },
    h("option", { value: "" }, "choose a model"), index.models.map((model, number) =>
      h("option", { value: model.slug, selected: number === now }, nameOf(number)))));
  const head = [h("h2", {}, "Compare two models"), h("div", { class: "controls" }, pick("a", a), pick("b", b))];
  if (a < 0 || b < 0 || a === b) return [...head, h("p", {}, "Choose two different models.")];
  const tab = index.tabs.find((one) => one.members.includes(a) && one.members.includes(b));
  const warning = tab ? null : h("p", { class: "note" }, "These two are in different tabs (different data, limit, protocol or judge): only answers to the same items can be compared here, and their marks are not comparable.");
  const models = slugsOf([a, b]);
  const items = await largestDifferences(a, b);
  return [...head, warning,
    tab ? plainTable(["figure", "A", "B", "A − B", term("95 % interval"), "n", "on which items", "A, all items", "B, all items"], await differenceRows(a, b), "Differences") : null,
    tab ? h("p", { class: "legend" }, "A is ", h("b", {}, nameOf(a)), ", B is ", h("b", {}, nameOf(b)),
      ". A, B and A − B are over the items that both have a mark for (paired, Miller 2024); without such items they are over all items, and the interval comes from the two standard errors. Bold: 0 lies outside the interval (Student's t), or the exact sign test says so where all items differ by the same amount.") : null,
    await fieldsOfParts(a, b),
    h("h3", {}, "Items where they differ most"),
    items.length ? plainTable(["item", "part", "question", "A", "B"], items.map(({ part, item, x, y }) =>
      [h("a", { href: itemAddress(part, item, [a, b], { order: "differ-most" }) }, part.labels[item]), part.title, h("span", { class: "question" }, part.titles[item] || ""), markText(x, part), markText(y, part)])) : h("p", {}, "No item was marked differently."),
    h("p", {}, link({ view: "items", models, only: "differ", order: "differ-most" }, "All items of both, side by side")),
  ];
}

function partsOf(column) {
  return index.parts.filter((part) => column.items && (column.items.endsWith("/") ? part.name.startsWith(column.items) : part.name === column.items));
}

// A function of two models that gives their difference in a column: paired by item where there are items.
async function differencesIn(column, models) {
  const parts = partsOf(column), marks = [];
  for (const part of parts) marks.push(await marksOf(part));
  const joined = new Map();
  // Parts that one of the two lacks do not count: what is joined depends on the pair.
  const join = (model, places) => {
    const key = model + ":" + places.join();
    if (!joined.has(key)) joined.set(key, Float64Array.from(places.flatMap((place) => [...marks[place][model]])));
    return joined.get(key);
  };
  const has = new Map(models.map((model) => [model, new Set(parts.map((part, place) => (part.models.includes(model) ? place : -1)))]));
  return (a, b) => {
    const shared = parts.map((_, place) => place).filter((place) => has.get(a).has(place) && has.get(b).has(place));
    const found = shared.length ? pairedDifference(join(a, shared), join(b, shared)) : null;
    if (found) return { ...found, paired: true };
    const [x, y] = [a, b].map((model) => index.models[model].figures[column.key]);
    return x[0] === null || y[0] === null ? null : figureDifference(x, y);
  };
}

async function differenceRows(a, b) {
  const rows = [];
  for (const column of index.columns) {
    const [x] = index.models[a].figures[column.key], [y] = index.models[b].figures[column.key];
    if (x === null || y === null) continue;
    const found = (await differencesIn(column, [a, b]))(a, b);
    const text = figure(found ? found.mean : x - y, column.digits), bounded = found && found.low !== null;
    const shared = found && found.paired;
    rows.push([column.title, figure(shared ? found.a : x, column.digits), figure(shared ? found.b : y, column.digits),
      found && found.clear ? h("b", {}, text) : text, bounded ? interval([found.low, found.high], column.digits) : "–",
      shared ? String(found.n) : "", !found ? "all; no interval" : (shared ? "shared, paired" : "all, not paired") + (bounded ? "" : "; the same on every item"),
      figure(x, column.digits), figure(y, column.digits)]);
  }
  return rows;
}

// Both, one or neither right in every part that both have, each count with its items.
async function fieldsOfParts(a, b) {
  const models = slugsOf([a, b]), rows = [];
  for (const part of index.parts.filter((one) => one.models.includes(a) && one.models.includes(b))) {
    const marks = await marksOf(part), counts = { both: 0, a: 0, b: 0, none: 0 };
    for (let item = 0; item < part.n; item++) {
      const where = field(marks[a][item], marks[b][item], part);
      if (where) counts[where]++;
    }
    rows.push([part.title, ...Object.entries(counts).map(([fields, count]) => link({ view: "items", part: part.name, models, fields }, count)), pValue(mcnemar(counts.a, counts.b))]);
  }
  if (!rows.length) return null;
  return [h("h3", {}, "Both, one or neither right"), plainTable(["part", "both", "A only", "B only", "neither", term("McNemar's p")], rows),
    h("p", { class: "legend" }, "Right: at least half of the maximum mark. A count opens its items.")];
}

async function largestDifferences(a, b) {
  const items = [];
  for (const part of index.parts.filter((one) => one.models.includes(a) && one.models.includes(b))) {
    const marks = await marksOf(part);
    for (let item = 0; item < part.n; item++) {
      const gap = Math.abs(marks[a][item] - marks[b][item]) / part.top;
      if (gap > 0) items.push({ part, item, gap, x: marks[a][item], y: marks[b][item] });
    }
  }
  return items.sort((one, other) => other.gap - one.gap).slice(0, 50);
}
