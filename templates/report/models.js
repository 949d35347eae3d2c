"use strict";
// One model: its figures, categories, how it was run, and how good its judge is.
function modelBySlug(slug) {
  return index.models.findIndex((model) => model.slug === slug);
}

function nameOf(number) {
  return index.models[number].label;
}

function modelView(query) {
  const number = modelBySlug(query.get("model"));
  if (number < 0) return missingView("this model is not in the report");
  const model = index.models[number];
  const scores = model.scores, manifest = model.manifest || {};
  return [
    h("h2", {}, model.name, model.imported && h("span", { class: "tag" }, "imported")),
    h("p", { class: "actions" }, link({ view: "items", models: model.slug }, "Its items"), " ",
      link({ view: "compare", a: model.slug }, "Compare it")),
    factsTable(model),
    scoreTable(model),
    ...categoryTables(scores.suites),
    partsTable(number),
    judgeBox(scores.judge, scores.suites),
    details("Seconds and tokens", [keyTable("Seconds", scores.seconds), keyTable("Tokens", scores.tokens), keyTable("Requests", manifest.usage)]),
    details("Manifest", [tree(manifest)]),
    details("scores.json", [tree(scores)]),
  ];
}

function factsTable(model) {
  const about = model.scores.model, manifest = model.manifest || {}, recorded = manifest.model || {};
  const rows = [
    ["fingerprint", about.fingerprint], ["dtype", about.dtype], ["quantised weights", about.quantization],
    ["chat template (SHA-256)", about.chat_template_sha256],
    ["chat format", recorded.chat_format], ["base model", model.base], [term("DGM"), model.dgm],
    ["training conversations", model.size && model.size.toLocaleString("en")],
    ["data", model.scores.data + (model.scores.limit === null ? "" : ", limit " + model.scores.limit)],
    ["judge", model.scores.judge ? model.scores.judge.name : "none"], ["written", manifest.written_at],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return plainTable(["", "value"], rows.map(([name, value]) => [name, h("code", {}, value)]), "The model");
}

function scoreTable(model) {
  const rows = index.columns.filter((column) => column.main || model.figures[column.key][0] !== null).map((column) => {
    const [value, stderr, ci, n, unscored, reason] = model.figures[column.key];
    if (value === null) return [column.title, "–", "", "", "", reason];
    return [column.title, figure(value, column.digits), figure(stderr, column.digits + 1), ci ? interval(ci, column.digits) : "",
      n === null ? "" : String(n), unscored ? unscored + " unscored" : ""];
  });
  for (const [name, title, says, digits] of index.averages) {
    const [value, , , , , reason] = model.figures["average." + name];
    rows.push([title, figure(value, digits === 1 ? 1 : 4), "", "", "", value === null ? reason : says]);
  }
  return plainTable(["figure", "score", "standard error", term("95 % interval"), "n", "notes"], rows, "Scores");
}

// Any suite's figures by category: objects of objects with a score ("categories", "benchmarks"), and lm-eval's by task.
function categoryTables(suites) {
  const tables = [];
  for (const [key, title] of Object.entries(index.suites)) {
    const suite = suites[key] || {};
    for (const name of ["categories", "benchmarks"]) {
      const groups = Object.entries(suite[name] || {}).filter(([, part]) => part && typeof part === "object");
      if (groups.length) tables.push(plainTable(["category", "score", "standard error", "n"],
        groups.map(([group, part]) => [group, figure(part.score, 3), figure(part.stderr, 3), String(part.n_scored ?? part.n ?? "")]),
        title + (name === "categories" ? " by category" : " by benchmark")));
    }
    const tasks = Object.entries(suite.tasks || {}).flatMap(([task, metrics]) =>
      Object.entries(metrics).filter(([metric, value]) => typeof value === "number" && !metric.includes("stderr") && metric.includes(","))
        .map(([metric, value]) => [task + " · " + metric.split(",")[0], figure(value, 4)]));
    if (tasks.length) tables.push(plainTable(["lm-eval task", "score"], tasks, /tasks$/.test(title) ? title : title + " by task"));
  }
  return tables.length ? [details("Categories and tasks", tables, tables.length < 3)] : [];
}

function judgeBox(judge, suites) {
  if (!judge) return null;
  const closings = Object.entries(suites).filter(([, figures]) => figures.verdicts).map(([key, { verdicts }]) =>
    [key, `${verdicts.closed_by_guide} of ${verdicts.n}, ${verdicts.contradictions} against the text`]);
  const cards = Object.entries(index.cards).filter(([folder, card]) =>
    folder.endsWith(String(judge.fingerprint || " ").slice(0, 8)) || (card.judge && (card.judge.fingerprint || card.judge) === judge.fingerprint));
  return details("Judge: " + judge.name, [
    judge.note && h("p", { class: "note" }, judge.note),
    keyTable("Methods", judge.methods),
    keyTable("Verdicts completed under guided output", Object.fromEntries(closings)),
    ...cards.map(([folder, card]) => details("Judge card " + folder, [tree(card)], true)),
    cards.length ? null : h("p", {}, "No judge card: this judge was not measured (evalsuite judge-card)."),
  ], true);
}

function keyTable(title, values) {
  if (!values || !Object.keys(values).length) return null;
  return plainTable(["", title.toLowerCase()], Object.entries(values).map(([key, value]) =>
    [key, typeof value === "object" && value !== null ? JSON.stringify(value) : String(value)]), title);
}

// Any JSON as nested lists.
function tree(value) {
  if (value === null || typeof value !== "object") return h("code", {}, value === null ? "null" : value);
  const entries = Object.entries(value);
  if (!entries.length) return h("code", {}, Array.isArray(value) ? "[]" : "{}");
  return h("ul", { class: "tree" }, entries.map(([key, child]) => h("li", {}, h("b", {}, key), " ", tree(child))));
}

function partsTable(number) {
  const parts = index.parts.filter((part) => part.models.includes(number));
  if (!parts.length) return null;
  return plainTable(["part", "items", ""], parts.map((part) =>
    [part.title, String(part.n), link({ view: "items", part: part.name, models: index.models[number].slug }, "open")]), "Items");
}

function missingView(text) {
  return [h("h2", {}, "Not here"), h("p", {}, text), h("p", {}, h("a", { href: index.home || homeAddress }, "Back to the table"))];
}
