"use strict";
// What `evalsuite compare` found: the matrix, the ranking, and the prompts where order or lineage turned the verdict.
async function preferencesView(query) {
  if (!index.comparisons.length) {
    return [h("h2", {}, "Preferences"), h("p", {}, "No comparison yet. Run ", h("code", {}, "evalsuite compare MODEL MODEL --judge J"), " and build the page again.")];
  }
  const number = Math.min(Number(query.get("of")) || 0, index.comparisons.length - 1);
  const comparison = index.comparisons[number], document_ = comparison.preferences;
  return [
    h("h2", {}, "Preferences: ", comparison.name),
    index.comparisons.length > 1 ? h("p", { class: "actions" }, index.comparisons.map((one, other) => [link({ view: "preferences", of: other }, one.name), " "])) : null,
    h("p", {}, "Judge ", h("b", {}, comparison.judge), ", ", document_.n_prompts ?? "?", " prompts, every pair in both orders."),
    h("h3", {}, "Preference matrix"), matrix(document_), pairTable(document_), rankingTable(document_), flipTable(document_),
    h("h3", {}, "Flip explorer"), flipExplorer(comparison, comparison.verdicts ? await remembered(comparison.verdicts, () => unpackJson(comparison.verdicts)) : []),
  ];
}

function matrix(document_) {
  const rates = new Map();
  for (const pair of document_.pairs) {
    rates.set(pair.a + "\n" + pair.b, pair.rate_a);
    rates.set(pair.b + "\n" + pair.a, pair.rate_b);
  }
  const percent = (rate) => rate === undefined || rate === null ? "–" : figure(100 * rate, 1);
  return plainTable(["row preferred over", ...document_.models], document_.models.map((a) =>
    [a, ...document_.models.map((b) => a === b ? "·" : percent(rates.get(a + "\n" + b)))]), "percent of prompts");
}

function pairTable(document_) {
  const rows = document_.pairs.map((pair) => [pair.a, pair.b, pair.wins_a, pair.wins_b, pair.ties, countOf(pair.unscored), pair.position_flips, pair.half_ties,
    pair.ci95_a ? pair.ci95_a.map((end) => figure(100 * end, 1)).join(" to ") : "–"].map((cell) => cell === null || cell === undefined ? "–" : String(cell)));
  return plainTable(["A", "B", "A wins", "B wins", "ties", "unscored", "position flips", "half ties", "rate of A, 95 % interval"], rows, "Pairs");
}

function countOf(value) {
  return value && typeof value === "object" ? Object.values(value).reduce((sum, one) => sum + one, 0) : value;
}

function rankingTable(document_) {
  const ranking = document_.ranking || [];
  if (!ranking.length) return null;
  const circles = (document_.cycles || []).map((circle) => h("p", {}, "No ranking describes " + [...circle.models, circle.models[0]].join(" over ") + "."));
  return h("div", {}, plainTable(["model", "Bradley–Terry", "95 % interval", "rank", "wins + ties / 2"], ranking.map((row) =>
    [row.model, figure(row.bradley_terry, 3), row.ci95 ? row.ci95.map((end) => figure(end, 3)).join(" to ") : "–",
      row.rank ? row.rank.join(" to ") : "–", figure(100 * row.win_rate_adjusted, 1)]), "Ranking"), circles);
}

function flipTable(document_) {
  const flips = document_.flips || [];
  if (!flips.length) return null;
  return plainTable(["DGM", "its own SFT", "other SFT", "flips"], flips.map((row) => [row.dgm, row.own, row.other, String(row.count)]), "Flip counts");
}

function flipExplorer(comparison, rows) {
  if (!rows.length) {
    return h("p", {}, comparison.n_verdicts ? comparison.n_verdicts + " verdicts do not fit into this file; they are in comparisons/" + comparison.name + "/verdicts.jsonl." : "This comparison holds no verdicts.jsonl.");
  }
  const state = { pair: "", only: "flips", shown: 50 };
  const list = h("div", {});
  const pairs = [...new Set(rows.map((row) => row.a + " / " + row.b))];
  const game = (row) => row.a + "\n" + row.b + "\n" + row.prompt_id;
  const winners = new Map();
  for (const row of rows) if (row.winner) winners.set(game(row), (winners.get(game(row)) || new Set()).add(row.winner));
  const kinds = { "": () => true, flips: (row) => row.position_flip, half: (row) => row.half_tie, unscored: (row) => row.unscored,
    disputed: (row) => (winners.get(game(row)) || new Set()).size > 1 };
  const refill = () => {
    const matches = rows.filter((row) => (!state.pair || row.a + " / " + row.b === state.pair) && kinds[state.only](row));
    list.replaceChildren(h("p", {}, matches.length + " verdicts"), ...matches.slice(0, state.shown).map(verdictBox),
      matches.length > state.shown ? h("button", { type: "button", onclick: () => { state.shown += 50; refill(); } }, "Show more") : "");
  };
  const select = (label, key, values) => h("label", {}, label + " ", h("select", { onchange: (event) => { state[key] = event.target.value; refill(); } },
    values.map(([value, text]) => h("option", { value }, text))));
  refill();
  return h("div", {}, h("div", { class: "controls" },
    select("Show", "only", [["flips", "position flips"], ["half", "half ties"], ["disputed", "judges disagree"], ["", "all verdicts"], ["unscored", "unscored"]]),
    select("Pair", "pair", [["", "all pairs"], ...pairs.map((pair) => [pair, pair])])), list);
}

function winnerWords(row) {
  if (row.unscored) return "unscored: " + (row.unscored.reason || row.unscored);
  return row.winner === "a" ? row.a : row.winner === "b" ? row.b : "tie";
}

function gameBox(title, game) {
  if (!game) return "";
  const verdict = game.unscored ? "unscored: " + game.unscored : "first preferred with " + figure(100 * game.preference_first, 1) + " %";
  return h("div", { class: "verdict" }, h("h4", {}, title, ": ", verdict), game.text ? answerText(game.text) : null,
    game.logprobs ? logprobTable(Object.entries(game.logprobs).map(([label, value]) => [label, Number(value), false]), {}) : null);
}

// One prompt of one pair: both answers, and what the judge said in each order. Built when somebody looks.
function verdictBox(row) {
  const prompt = row.prompt || row.prompt_id || "";
  const box = h("details", { class: "verdict-row" }, h("summary", {}, row.a, " / ", row.b, ": ", h("b", {}, winnerWords(row)), " (", row.judge || "?", ")",
    row.position_flip && h("span", { class: "tag" }, "position flip"), " ", h("span", { class: "question" }, prompt.slice(0, 140))));
  box.addEventListener("toggle", () => {
    if (box.childElementCount > 1) return;
    box.append(h("section", { class: "question-box" }, h("h4", {}, "Prompt", row.category && h("span", { class: "tag" }, row.category)), answerText(prompt)),
      h("div", { class: "side-by-side" }, [["a", row.answer_a], ["b", row.answer_b]].map(([side, text]) => h("article", {}, h("h3", {}, row[side]), answerText(text || "")))),
      gameBox("Order A, B", row.a_first), gameBox("Order B, A", row.b_first));
  });
  return box;
}
