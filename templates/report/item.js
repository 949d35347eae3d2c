"use strict";
// One item: the question as asked, and any models' answers side by side, turn by turn.
async function itemView() {
  const part = index.parts.find((one) => one.name === query.get("part"));
  const item = Number(query.get("item"));
  if (!part || !(item >= 0 && item < part.n)) return missingView("this item is not in the report");
  const { items, picked, marks } = await matchingItems(part, query);
  const title = h("h2", {}, part.title, ", item ", part.labels[item]);
  const texts = await itemOf(part, item);
  const block = blockOf(part, item);
  if (!texts) {
    return [title, h("p", {}, "Its text is in a page beside this file: ",
      block ? h("a", { href: itemAddress(part, item, picked, query) }, block[2]) : "which is missing")];
  }
  const at = items.indexOf(item);
  const to = (place, label, rel) => at >= 0 && place >= 0 && place < items.length ? h("a", { href: itemAddress(part, items[place], picked, query), rel }, label) : null;
  const isPair = picked.length === 2, differs = isPair && query.get("diff") === "1";
  return [
    title,
    h("p", { class: "actions" }, to(at - 1, "← Previous", "prev"), to(at + 1, "Next →", "next"),
      h("span", { class: "pager" }, at >= 0 ? `${at + 1} of ${items.length}` : "not in the filtered list"),
      h("a", { href: changed({ view: "items", item: "", diff: "", page: at >= PAGE ? Math.floor(at / PAGE) : "" }) }, items.length === part.n ? "All items" : "The filtered list"),
      rawSwitch(),
      isPair && h("button", { type: "button", "data-control": "diff", "aria-pressed": String(differs), onclick: () => update({ diff: differs ? "" : "1" }) }, "Word diff"),
      modelBoxes(part, picked, (next) => { if (next.length) update({ models: slugsOf(next) }); })),
    questionBox(texts.q),
    answersOf(part, item, picked, texts, marks, differs),
  ];
}

function questionBox(question) {
  const messages = question.messages || [], options = question.options || [];
  const right = question.right ?? null, reference = right === null ? (question.reference || []).filter(Boolean) : [];
  return h("section", { class: "question-box" },
    h("h3", {}, "Question", question.category && h("span", { class: "tag" }, question.category)),
    question.note && h("p", { class: "note" }, question.note),
    (question.fields || []).map(([name, text]) => h("div", {}, h("h4", {}, name), raw(text))),
    messages.map((text, turn) => h("div", { class: "turn user" }, messages.length > 1 && h("h4", {}, "Turn " + (turn + 1)), answerText(text))),
    options.length ? h("ol", { class: "options", type: options.length <= 26 ? "A" : "1" }, options.map((option, place) => h("li", { class: place === right && "is-right" }, option))) : null,
    reference.length ? details(question.reference_title || "Reference", reference.map(answerText), reference.join("").length < 200) : null,
    (question.more || []).length ? details("Other fields of the document", question.more.map(([name, text]) => h("div", {}, h("h4", {}, name), raw(text)))) : null);
}

// What the right answer is in short, for the line beside what was read from an answer.
function goldOf(question) {
  if (question.right !== null && question.right !== undefined) return optionText(question.right, question);
  const reference = (question.reference || []).filter(Boolean);
  return reference.length && reference.join("").length < 300 ? reference.join("\n") : null;
}

function optionText(place, question) {
  const option = (question.options || [])[place];
  const letter = place < 26 ? String.fromCharCode(65 + place) : String(place + 1);
  return option === undefined || option === letter ? letter : letter + ". " + option;
}

function textsOf(responses) {
  return responses === null || responses === undefined ? [] : [responses].flat(9).map(String);
}

// Rows are shared by all answers (subgrid), so that turns and verdicts stand beside each other.
function answersOf(part, item, picked, texts, marks, differs) {
  const answers = picked.map((model) => texts.a[model] || null);
  const turns = answers.map((answer) => (answer ? answer.turns || textsOf(answer.responses) : []));
  const verdicts = answers.map((answer) => (answer && answer.judge) || []);
  const nTurns = Math.max(0, ...turns.map((one) => one.length), ...answers.map((one) => (one && one.replies ? one.replies.length : 0)));
  const perTurn = nTurns > 1 && verdicts.every((all) => all.every((verdict) => /^turn \d+$/.test(verdict.label)));
  const articles = picked.map((model, column) => {
    const answer = answers[column];
    const rows = [h("div", {}, h("h3", {}, link({ view: "model", model: index.models[model].slug }, nameOf(model))),
      answer ? markLine(marks[model][item], answer, part) : h("p", { class: "note" }, "This model was not asked this item."))];
    for (let turn = 0; turn < nTurns; turn++) {
      rows.push(h("div", { class: "turn assistant" }, nTurns > 1 && h("h4", {}, "Answer, turn " + (turn + 1)),
        answer && turnBox(answer, turns, column, turn, differs)));
      if (perTurn) rows.push(h("div", {}, verdicts[column].filter((verdict) => verdict.label === "turn " + (turn + 1)).map(verdictOf)));
    }
    rows.push(h("div", {}, answer && [
      perTurn ? null : verdicts[column].map(verdictOf), readBox(answer, texts.q), answer.choices || answer.logprobs ? choicesBox(answer, texts.q, nameOf(model)) : null,
    ]));
    return h("article", {}, rows);
  });
  for (const article of articles) article.style.gridRow = "span " + article.childElementCount;
  return h("div", { class: "side-by-side" }, articles);
}

function markLine(mark, answer, part) {
  return h("p", { class: "mark-line" }, term("mark"), " ", h("b", {}, markText(mark, part)), " of " + part.top,
    answer.unscored && h("span", { class: "tag" }, term("unscored"), ": ", answer.unscored));
}

function turnBox(answer, turns, column, turn, differs) {
  const text = turns[column][turn], known = (answer.replies || [])[turn] || {};
  const pieces = differs && turns[0][turn] && turns[1][turn] ? wordDiff(turns[0][turn], turns[1][turn]) : undefined;
  const ends = { length: "cut at the token limit" };
  const tokens = [known.thought_tokens && known.thought_tokens.toLocaleString("en") + " thought tokens", known.tokens && known.tokens.toLocaleString("en") + " answer tokens",
    known.closed && "thinking cut at its budget", known.finish && (ends[known.finish] || "ended by: " + known.finish)].filter(Boolean);
  return [
    tokens.length ? h("p", { class: "tokens" }, tokens.join(" · ")) : null,
    known.thought ? h("details", { class: "thought" }, h("summary", {}, "Thought"), answerText(known.thought)) : null,
    pieces ? diffText(pieces, column === 0 ? "-" : "+") : text === undefined && !known.thought ? null : answerText(text || ""),
    pieces === null && h("p", { class: "legend" }, "The two texts differ too much for a word diff."),
  ];
}

function verdictOf(verdict) {
  return h("div", { class: "verdict" }, h("h4", {}, verdict.label, ": ", verdict.mark ?? "no verdict"),
    verdict.closed && h("p", { class: "tokens" }, "completed under guided output: " + (verdict.closed === "against" ? "the text named another verdict" : "the text had no verdict")),
    verdict.thought ? h("details", { class: "thought" }, h("summary", {}, "The judge's thought"), answerText(verdict.thought)) : null,
    verdict.text ? answerText(verdict.text) : null);
}

// What was read from the answer, beside the right one.
function readBox(answer, question) {
  const gold = goldOf(question);
  if (!answer.extracted) return null;
  const place = /^[A-Z]$/.test(answer.extracted) ? answer.extracted.charCodeAt(0) - 65 : -1;
  const read = place >= 0 && (question.options || [])[place] !== undefined ? optionText(place, question) : answer.extracted;
  return h("dl", { class: "read" }, h("dt", {}, answer.choices ? "most likely" : "extracted"), h("dd", {}, read), gold !== null && [h("dt", {}, "right"), h("dd", {}, gold)]);
}

// Choices with their log-probabilities; a bar is a choice's share of the probability of all of them.
function choicesBox(answer, question, whose) {
  const rows = answer.choices
    ? answer.choices.map((one) => (Array.isArray(one[0]) ? one[0] : one)).map(([value, greedy], place) => [optionText(place, question), Number(value), String(greedy) === "True", place === question.right])
    : answer.logprobs.map(([token, value]) => [token, Number(value), false, false]);
  const best = Math.max(...rows.map(([, value]) => value));
  const shares = rows.map(([, value]) => Math.exp(value - best)), sum = shares.reduce((a, b) => a + b, 0);
  const bar = (share) => { const box = h("span", { class: "bar" }); box.style.width = (100 * share).toFixed(1) + "%"; return box; };
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Log-probabilities: " + whose }, h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, answer.choices ? "choice" : "label"), h("th", { scope: "col", class: "num" }, term("log-probability")),
      h("th", { scope: "col" }, "share"), h("th", { scope: "col" }, "notes"))),
    h("tbody", {}, rows.map(([label, value, greedy, isRightOne], place) => h("tr", {},
      h("th", { scope: "row", class: "choice-text" + (isRightOne ? " is-right" : "") }, label), h("td", { class: "num" }, figure(value, 4)),
      h("td", { class: "bar-cell" }, bar(shares[place] / sum)),
      h("td", {}, isRightOne && h("span", { class: "is-right" }, "✓ right "), value === best && "highest ", greedy && term("greedy")))))));
}
