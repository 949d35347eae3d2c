"use strict";
// Which items a list shows, and in which order: told by the address, so that Next and Previous walk the same list.
const SHOW = [
  ["", "all items"], ["differ", "where the marks differ"], ["unscored", "with an unscored answer"],
  ["judges", "where judges disagree"], ["closed", "with thinking cut at its budget"], ["cut", "with an answer that was cut"],
  ["thought", "with a thought"], ["guided", "with a verdict completed under guided output"],
];
const ORDERS = [
  ["", "as asked"], ["low", "lowest mark first"], ["high", "highest mark first"], ["differ-most", "largest difference first"],
  ["a-first", "first model better first"], ["b-first", "second model better first"],
];
const FLAGS = { thought: 1, closed: 2, cut: 4, guided: 16 };

// An answer counts as right from half of the best mark on; of right and wrong that is right.
function isRight(mark, part) {
  return mark >= part.top / 2;
}

function partOf(values) {
  return index.parts.find((part) => part.name === values.get("part")) || index.parts[0];
}

function pickedModels(values, part) {
  const wanted = (values.get("models") || "").split(",").map(modelBySlug).filter((model) => model >= 0 && part.models.includes(model));
  return wanted.length ? wanted : part.models.slice(0, 2);
}

function slugsOf(models) {
  return models.map((model) => index.models[model].slug).join(",");
}

// The same folder judged by others: its other entries among the models of a part.
function otherJudges(model, part) {
  return part.models.filter((other) => other !== model && index.models[other].folder === index.models[model].folder);
}

function field(a, b, part) {
  if (Number.isNaN(a) || Number.isNaN(b)) return null;
  return isRight(a, part) ? (isRight(b, part) ? "both" : "a") : isRight(b, part) ? "b" : "none";
}

// The items of the address' filters, in its order: {items, note}.
async function matchingItems(part, values) {
  const picked = pickedModels(values, part), marks = await marksOf(part);
  const at = (item) => picked.map((model) => marks[model][item]);
  const known = (item) => at(item).filter((mark) => !Number.isNaN(mark));
  const range = (item) => { const all = known(item); return all.length > 1 ? Math.max(...all) - Math.min(...all) : -1; };
  const tests = [];
  const only = values.get("only"), category = values.get("category"), fields = values.get("fields"), score = values.get("score");
  if (category) tests.push((item) => (part.categories[item] || "") === category);
  if (only === "differ") tests.push((item) => range(item) > 0);
  if (only === "unscored") tests.push((item) => at(item).some(Number.isNaN));
  if (only === "judges") {
    tests.push((item) => picked.some((model) => otherJudges(model, part).some((other) => Math.abs(marks[model][item] - marks[other][item]) > 1e-9)));
  }
  if (FLAGS[only]) {
    const flags = await factsOf(part, "flags");
    tests.push((item) => flags !== null && picked.some((model) => (flags[model](item) & FLAGS[only]) > 0));
  }
  if (fields && picked.length > 1) tests.push((item) => field(marks[picked[0]][item], marks[picked[1]][item], part) === fields);
  if (score) {
    const [low, high] = score.split("~").map(Number);
    tests.push((item) => known(item).some((mark) => mark >= low - 1e-9 && mark <= (high ?? low) + 1e-9));
  }
  for (const name of ["extracted", "unscored"]) {
    const wanted = values.get(name);
    if (!wanted) continue;
    const facts = await factsOf(part, name);
    tests.push((item) => facts !== null && picked.some((model) => facts[model](item) === wanted));
  }
  let note = "";
  const words = (values.get("q") || "").toLowerCase();
  if (words) {
    const texts = await searchTexts(part), missing = texts.filter((one) => one === null).length;
    if (missing) note = `Only the first line of ${plural(missing, "item")} is searched: the rest is in pages beside this file.`;
    tests.push((item) => [part.labels[item], part.titles[item], part.categories[item]].join(" ").toLowerCase().includes(words)
      || (texts[item] !== null && (texts[item].question.includes(words) || picked.some((model) => (texts[item].answers[model] || "").includes(words)))));
  }
  const items = [];
  for (let item = 0; item < part.n; item++) if (tests.every((test) => test(item))) items.push(item);
  const gap = (item) => { const [a, b] = at(item); return Number.isNaN(a - b) ? -Infinity : a - b; };
  const keys = {
    low: (item) => (known(item).length ? Math.min(...known(item)) : Infinity), high: (item) => (known(item).length ? -Math.max(...known(item)) : Infinity),
    "differ-most": (item) => -range(item), "a-first": (item) => -gap(item), "b-first": (item) => { const d = gap(item); return d === -Infinity ? Infinity : d; },
  };
  const key = keys[values.get("order")];
  if (key) {
    const ranked = items.map((item) => [key(item), item]).sort(([a, one], [b, other]) => (a < b ? -1 : a > b ? 1 : one - other));
    return { items: ranked.map(([, item]) => item), note, picked, marks };
  }
  return { items, note, picked, marks };
}

// The controls of a list's filters. Each changes the address, and the list follows it.
async function filterControls(part, picked) {
  const control = (label, key, values) => values.length < 2 ? null : h("label", {}, label, h("select", {
    "data-control": key, onchange: (event) => update({ [key]: event.target.value, page: "" }),
  }, values.map(([value, text]) => h("option", { value, selected: value === (query.get(key) || "") }, text))));
  const counted = (values) => {
    const counts = new Map();
    for (const value of values) if (value) counts.set(value, (counts.get(value) || 0) + 1);
    return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
  };
  const answers = async (name) => {
    const facts = await factsOf(part, name);
    if (!facts) return [];
    return counted(picked.flatMap((model) => Array.from({ length: part.n }, (_, item) => facts[model](item))));
  };
  const listed = (title, values) => values.length ? [["", title], ...values.map(([value, count]) => [value, `${value} (${count})`])] : [];
  const flags = await factsOf(part, "flags");
  const has = (bit) => flags !== null && picked.some((model) => { for (let item = 0; item < part.n; item++) if (flags[model](item) & bit) return true; return false; });
  const judged = picked.some((model) => otherJudges(model, part).length);
  const shown = SHOW.filter(([value]) => (value !== "judges" || judged) && (!FLAGS[value] || has(FLAGS[value])));
  return [
    h("label", {}, "Search", h("input", { type: "search", class: "search", "data-control": "q", value: query.get("q") || "", placeholder: "question, answers, category",
      oninput: (event) => update({ q: event.target.value, page: "" }, true) })),
    control("Show", "only", shown),
    control("Category", "category", listed("all", counted(part.categories))),
    control("Mark", "score", await scoreChoices(part, picked)),
    control("Extracted", "extracted", listed("any answer", await answers("extracted"))),
    control("Unscored", "unscored", listed("any reason", await answers("unscored"))),
    control("Order", "order", picked.length > 1 ? ORDERS : ORDERS.slice(0, 3)),
  ];
}

// Single marks where there are few, else fifths of the scale.
async function scoreChoices(part, picked) {
  const marks = await marksOf(part), found = new Set();
  for (const model of picked) for (const mark of marks[model]) if (!Number.isNaN(mark)) found.add(mark);
  if (found.size < 2) return [];
  const values = [...found].sort((a, b) => a - b);
  if (values.length <= 11) return [["", "any"], ...values.map((mark) => [String(mark), markText(mark, part)])];
  return [["", "any"], ...[0, 1, 2, 3, 4].map((fifth) => {
    const [low, high] = [fifth, fifth + 1].map((end) => end / 5 * part.top);
    return [low + "~" + high, `${figure(low, 1)} to ${figure(high, 1)}`];
  })];
}

function markText(mark, part) {
  return Number.isNaN(mark) ? "–" : figure(mark, part.top > 1 ? 1 : Number.isInteger(mark) ? 0 : 2);
}
