"use strict";
// Items: a list to search, and one item with any models' answers side by side.
const PAGE = 100;

function pickedModels(query, part) {
  const wanted = (query.get("models") || "").split(",").map(modelBySlug).filter((model) => model >= 0 && part.models.includes(model));
  return wanted.length ? wanted : part.models.slice(0, 2);
}

function partOf(query) {
  return index.parts.find((part) => part.name === query.get("part")) || index.parts[0];
}

function itemAddress(part, item, picked) {
  const values = new URLSearchParams({ view: "item", part: part.name, item, models: picked.map((p) => index.models[p].slug).join(",") });
  const block = blockOf(part, item);
  return (block && block[2].endsWith(".html") ? block[2] : "") + "#" + values;
}

async function itemsView(query) {
  if (!index.parts.length) return [h("h2", {}, "Items"), h("p", {}, "The results hold no recorded items, only figures.")];
  const part = partOf(query), picked = pickedModels(query, part);
  const marks = await marksOf(part);
  const state = { search: "", only: query.get("only") || "", order: "", page: 0 };
  const list = h("div", {});
  const refill = () => fillItems(list, part, picked, marks, state);
  const select = (label, values, on) => h("label", {}, label + " ", h("select", { onchange: (event) => { on(event.target.value); state.page = 0; refill(); } },
    values.map(([value, text]) => h("option", { value, selected: value === state.only }, text))));
  refill();
  return [
    h("h2", {}, "Items: ", part.title),
    h("div", { class: "controls" },
      partSelect(part, picked), modelBoxes(part, picked, (next) => go({ view: "items", part: part.name, models: next })),
      h("label", {}, "Search ", h("input", { type: "search", oninput: (event) => { state.search = event.target.value.toLowerCase(); state.page = 0; refill(); } })),
      select("Show", [["", "all items"], ["differ", "where the marks differ"], ["unscored", "with an unscored answer"]], (value) => { state.only = value; }),
      select("Order", [["", "as asked"], ["low", "lowest mark first"], ["differ-most", "largest difference first"]], (value) => { state.order = value; })),
    list,
  ];
}

function go(values) {
  location.hash = new URLSearchParams(values);
}

function partSelect(part, picked) {
  const models = picked.map((model) => index.models[model].slug).join(",");
  return h("label", {}, "Part ", h("select", { onchange: (event) => go({ view: "items", part: event.target.value, models }) },
    index.parts.map((other) => h("option", { value: other.name, selected: other === part }, other.title + " (" + other.n + ")"))));
}

function modelBoxes(part, picked, then) {
  return h("details", { class: "choices-box" }, h("summary", {}, picked.length + " of " + part.models.length + " models"),
    h("div", { class: "choices" }, part.models.map((model) => h("label", {}, h("input", { type: "checkbox", checked: picked.includes(model), onchange: (event) => {
      const next = event.target.checked ? [...picked, model] : picked.filter((other) => other !== model);
      then(next.map((p) => index.models[p].slug).join(","));
    } }), " ", nameOf(model)))));
}

function fillItems(list, part, picked, marks, state) {
  let items = Array.from({ length: part.n }, (_, item) => item);
  const at = (item) => picked.map((model) => marks[model][item]);
  const range = (item) => { const known = at(item).filter((m) => !Number.isNaN(m)); return known.length > 1 ? Math.max(...known) - Math.min(...known) : -1; };
  if (state.search) items = items.filter((item) => [part.labels[item], part.titles[item], part.categories[item]].join(" ").toLowerCase().includes(state.search));
  if (state.only === "differ") items = items.filter((item) => range(item) > 0);
  if (state.only === "unscored") items = items.filter((item) => at(item).some(Number.isNaN));
  const lowest = (item) => Math.min(...at(item).map((m) => (Number.isNaN(m) ? Infinity : m)));
  if (state.order === "low") items.sort((a, b) => lowest(a) - lowest(b));
  if (state.order === "differ-most") items.sort((a, b) => range(b) - range(a));
  const shown = items.slice(state.page * PAGE, (state.page + 1) * PAGE);
  const step = (by) => h("button", { type: "button", disabled: (state.page + by) < 0 || (state.page + by) * PAGE >= items.length, onclick: () => {
    state.page += by;
    fillItems(list, part, picked, marks, state);
  } }, by < 0 ? "Previous" : "Next");
  const rows = shown.map((item) => [h("a", { href: itemAddress(part, item, picked) }, part.labels[item]),
    h("span", { class: "question" }, part.titles.length ? part.titles[item] || "(no text)" : "text in the item's page"), part.categories[item] || "",
    ...at(item).map((mark) => markText(mark, part))]);
  list.replaceChildren(
    plainTable(["item", "question", "category", ...picked.map(nameOf)], rows, items.length + " items; marks up to " + part.top),
    h("p", { class: "pager" }, step(-1), " page " + (state.page + 1) + " of " + Math.max(1, Math.ceil(items.length / PAGE)) + " ", step(1)));
}

function markText(mark, part) {
  return Number.isNaN(mark) ? "–" : figure(mark, part.top > 10 ? 1 : part.top > 1 ? 1 : Number.isInteger(mark) ? 0 : 2);
}

async function itemView(query) {
  const part = index.parts.find((one) => one.name === query.get("part"));
  const item = Number(query.get("item"));
  if (!part || !(item >= 0 && item < part.n)) return missingView("this item is not in the report");
  const picked = pickedModels(query, part);
  const texts = await itemOf(part, item);
  const block = blockOf(part, item);
  if (!texts) {
    const address = itemAddress(part, item, picked);
    return [h("h2", {}, part.title, ", item ", part.labels[item]), h("p", {}, "Its texts are in a page beside this file: ",
      block ? h("a", { href: address }, block[2]) : "which is missing")];
  }
  const marks = await marksOf(part);
  const to = (other, label) => other >= 0 && other < part.n ? h("a", { href: itemAddress(part, other, picked), rel: other < item ? "prev" : "next" }, label) : null;
  return [
    h("h2", {}, part.title, ", item ", part.labels[item]),
    h("p", { class: "actions" }, to(item - 1, "← Previous"), " ", to(item + 1, "Next →"), " ",
      link({ view: "items", part: part.name, models: picked.map((p) => index.models[p].slug).join(",") }, "All items"), " ", rawSwitch(), " ",
      modelBoxes(part, picked, (next) => { location.hash = itemAddress(part, item, next.split(",").map(modelBySlug).filter((p) => p >= 0)).split("#")[1]; })),
    questionBox(texts.q),
    h("div", { class: "side-by-side" }, picked.map((model) => answerBox(model, texts, marks[model][item], part))),
  ];
}

function questionBox(question) {
  const messages = question.messages || [], reference = (question.reference || []).filter(Boolean);
  return h("section", { class: "question-box" },
    h("h3", {}, "Question", question.category && h("span", { class: "tag" }, question.category)),
    question.note && h("p", { class: "note" }, question.note),
    (question.fields || []).map(([name, text]) => h("div", {}, h("h4", {}, name), raw(text))),
    messages.map((text, turn) => h("div", { class: "turn user" }, messages.length > 1 && h("h4", {}, "Turn " + (turn + 1)), answerText(text))),
    (question.options || []).length ? h("ol", { class: "options", type: "A" }, question.options.map((option) => h("li", {}, option))) : null,
    reference.length ? details(question.reference_title || "Reference", reference.map(answerText)) : null);
}

// lm-eval's responses as it wrote them: choices as [log-probability, greedy], or nested lists of texts.
function choicesOf(answer) {
  if (answer.logprobs) return answer.logprobs.map(([token, value]) => [token, Number(value), false]);
  return (answer.choices || []).map((one) => (Array.isArray(one[0]) ? one[0] : one))
    .filter((one) => Array.isArray(one)).map(([value, greedy], choice) => [choice, Number(value), String(greedy) === "True"]);
}

function textsOf(responses) {
  return responses === null || responses === undefined ? [] : [responses].flat(9).map(String);
}

function answerBox(model, texts, mark, part) {
  const answer = texts.a[model];
  const title = h("h3", {}, link({ view: "model", model: index.models[model].slug }, nameOf(model)));
  if (!answer) return h("article", {}, title, h("p", { class: "note" }, "This model was not asked this item."));
  const turns = answer.turns || textsOf(answer.responses), choices = choicesOf(answer), read = textsOf(answer.filtered);
  return h("article", {}, title,
    h("p", { class: "mark-line" }, "mark ", h("b", {}, markText(mark, part)), " of " + part.top, answer.unscored && h("span", { class: "tag" }, "unscored: ", answer.unscored)),
    turns.map((text, turn) => h("div", { class: "turn assistant" }, turns.length > 1 && h("h4", {}, "Answer, turn " + (turn + 1)), answerText(text))),
    (answer.judge || []).map((verdict) => h("div", { class: "verdict" }, h("h4", {}, verdict.label, ": ", verdict.mark ?? "no verdict"), verdict.text ? answerText(verdict.text) : null)),
    read.length ? h("div", { class: "verdict" }, h("h4", {}, "lm-eval read"), raw(read.join("\n"))) : null,
    choices.length ? logprobTable(choices, texts.q) : null);
}

function logprobTable(rows, question) {
  const options = question.options || [];
  const best = Math.max(...rows.map(([, value]) => value));
  return plainTable(["choice", "log-probability", ""], rows.map(([label, value, greedy]) =>
    [typeof label === "number" ? options[label] || "choice " + (label + 1) : label, figure(value, 4), [value === best ? "highest" : "", greedy ? "greedy" : ""].filter(Boolean).join(", ")]), "Log-probabilities");
}
