"use strict";
// What `evalsuite compare` found: the matrix, the ranking, and the prompts where order or lineage turned the verdict.
async function preferencesView() {
  if (!index.comparisons.length) {
    return [h("h2", {}, "Preferences"), h("p", {}, "No comparison yet. Run ", h("code", {}, "evalsuite compare MODEL MODEL --judge J"), " and build the page again.")];
  }
  const number = Math.min(Number(query.get("of")) || 0, index.comparisons.length - 1);
  const comparison = index.comparisons[number], document_ = comparison.preferences;
  return [
    h("h2", {}, "Preferences: ", comparison.name),
    index.comparisons.length > 1 ? h("p", { class: "actions" }, index.comparisons.map((one, other) => [link({ view: "preferences", of: other }, one.name), " "])) : null,
    h("p", {}, "Judge ", h("b", {}, comparison.judge), ", ", document_.n_prompts ?? "?", " prompts, every pair in both orders."),
    caveats(document_).map((text) => h("p", { class: "note caveat" }, text)),
    h("h3", {}, "Preference matrix"), matrix(document_), pairTable(document_), categoryRates(document_), rankingTable(document_), flipTable(document_),
    ...(document_.judges || []).map((member) => details("Judge " + member.judge.name + " alone", [matrix(member), pairTable(member)])),
    h("h3", {}, "Flip explorer"), flipExplorer(comparison, comparison.verdicts ? await remembered(comparison.verdicts, () => unpackJson(comparison.verdicts)) : []),
  ];
}

function percent(rate) {
  return rate === undefined || rate === null ? "–" : figure(100 * rate, 1);
}

// What a reader has to know before believing the rates: the judge itself, its card, its taste for the first place.
function caveats(document_) {
  const found = [];
  const judges = document_.judge ? (document_.judge.members && document_.judge.members.length ? document_.judge.members : [document_.judge]) : [];
  for (const judge of judges) {
    if (judge.is_candidate) found.push(`The judge ${judge.name} is one of the models that it judges.`);
    if (!judge.card) found.push(`The judge ${judge.name} has no card: how well it judges has not been measured (evalsuite judge-card).`);
    else if (judge.card.words) found.push(`Card of ${judge.name}: ${judge.card.words.join("; ")}`);
    found.push(...(judge.notes || []).map((note) => `${judge.name}: ${note}`));
  }
  const bias = document_.position_bias;
  if (bias) {
    const isUneven = bias.ci95 && (bias.ci95[0] > 0.5 || bias.ci95[1] < 0.5);
    found.push(`The answer shown first wins ${percent(bias.first_rate)} % of ${bias.n_games} games` + (bias.ci95 ? ` (95 % interval ${interval(bias.ci95, 1, 100)})` : "")
      + (isUneven ? ": the judge decides by position, not by the answers alone." : "."));
  }
  const own = document_.notes || [];
  return [...found.filter((text) => !own.some((note) => note.includes("is one of the models") && text.includes("is one of the models"))), ...own];
}

function matrix(document_) {
  const cells = new Map();
  for (const pair of document_.pairs) {
    const counts = (won, lost) => won === null || won === undefined ? "" : ` (${won}–${pair.ties ?? "?"}–${lost})`;
    cells.set(pair.a + "\n" + pair.b, percent(pair.rate_a) + counts(pair.wins_a, pair.wins_b));
    cells.set(pair.b + "\n" + pair.a, percent(pair.rate_b) + counts(pair.wins_b, pair.wins_a));
  }
  return plainTable(["row preferred over", ...document_.models.map((name) => shortName(name, 28))], document_.models.map((a) =>
    [a, ...document_.models.map((b) => a === b ? "·" : cells.get(a + "\n" + b) || "–")]), "percent of prompts (wins–ties–losses of the row)");
}

function pairTable(document_) {
  const text = (value) => value === null || value === undefined ? "–" : String(value);
  const rows = document_.pairs.map((pair) => [pair.a, pair.b, ...[pair.wins_a, pair.wins_b, pair.ties, countOf(pair.unscored), pair.position_flips, pair.half_ties].map(text),
    percent(pair.rate_a), interval(pair.ci95_a, 1, 100), pair.p_value_holm === null || pair.p_value_holm === undefined ? "–" : pValue(pair.p_value_holm).slice(2).replace(/^= /, ""),
    pair.position_bias ? percent(pair.position_bias.first_rate) : "–"]);
  return plainTable(["A", "B", "A wins", "B wins", "ties", term("unscored"), term("position flip", "position flips"), "half ties", "rate of A, %", "95 % interval", term("p (Holm)"), "first answer wins, %"], rows, "Pairs");
}

// Rates of A by category, one row a pair.
function categoryRates(document_) {
  const names = [...new Set(document_.pairs.flatMap((pair) => Object.keys(pair.categories || {})))];
  if (!names.length) return null;
  const rows = document_.pairs.map((pair) => [pair.a + " / " + pair.b, ...names.map((name) => {
    const rates = (pair.categories || {})[name];
    return rates ? `${percent(rates.rate_a)} (${rates.wins_a}–${rates.ties}–${rates.wins_b})` : "–";
  })]);
  return details("By category", [plainTable(["A / B", ...names], rows, "rate of A in percent (wins–ties–losses of A)")], true);
}

function countOf(value) {
  return value && typeof value === "object" ? Object.values(value).reduce((sum, one) => sum + one, 0) : value;
}

function rankingTable(document_) {
  const ranking = document_.ranking || [];
  if (!ranking.length) return null;
  const circles = (document_.cycles || []).map((circle) => h("p", {}, "No ranking describes " + [...circle.models, circle.models[0]].join(" over ") + "."));
  return h("div", {}, plainTable(["model", "Bradley–Terry", "95 % interval", "rank", "wins + ties / 2"], ranking.map((row) =>
    [row.model, figure(row.bradley_terry, 3), interval(row.ci95, 3), row.rank ? row.rank.join(" to ") : "–",
      row.win_rate_adjusted === undefined ? "–" : percent(row.win_rate_adjusted)]), "Ranking"), circles);
}

function flipTable(document_) {
  const flips = document_.flips || [];
  if (!flips.length) return null;
  return plainTable([term("DGM"), [term("SFT"), " of its own"], "other SFT", "flips"], flips.map((row) => [row.dgm, row.own, row.other, String(row.count)]), "Flip counts");
}

function flipExplorer(comparison, rows) {
  if (!rows.length) {
    return h("p", {}, comparison.n_verdicts ? comparison.n_verdicts + " verdicts do not fit in this file; they are in comparisons/" + comparison.name + "/verdicts.jsonl." : "This comparison has no verdicts.jsonl.");
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
  return h("div", { class: "verdict" }, h("h4", {}, title, ": ", verdict),
    game.thought ? h("details", { class: "thought" }, h("summary", {}, "The judge's thought"), answerText(game.thought)) : null,
    game.text ? answerText(game.text) : null,
    game.logprobs ? choicesBox({ logprobs: Object.entries(game.logprobs) }, {}, title) : null);
}

// One prompt of one pair: both answers, their word diff, and what the judge said in each order. Built when somebody looks.
function verdictBox(row) {
  const prompt = row.prompt || row.prompt_id || "";
  const box = h("details", { class: "verdict-row" }, h("summary", {}, row.a, " / ", row.b, ": ", h("b", {}, winnerWords(row)), " (", row.judge || "?", ")",
    row.position_flip && h("span", { class: "tag" }, "position flip"), " ", h("span", { class: "question" }, prompt.slice(0, 140))));
  const texts = [row.answer_a || "", row.answer_b || ""];
  const answers = h("div", { class: "side-by-side" });
  const fill = (differs) => {
    const pieces = differs ? wordDiff(...texts) : null;
    answers.replaceChildren(...["a", "b"].map((side, place) => h("article", {}, h("h3", {}, row[side]),
      pieces ? diffText(pieces, place ? "+" : "-") : answerText(texts[place]))));
  };
  box.addEventListener("toggle", () => {
    if (box.childElementCount > 1) return;
    fill(false);
    box.append(h("section", { class: "question-box" }, h("h4", {}, "Prompt", row.category && h("span", { class: "tag" }, row.category)), answerText(prompt)),
      h("p", { class: "actions" }, h("button", { type: "button", "aria-pressed": "false", onclick: (event) => {
        const on = event.target.getAttribute("aria-pressed") !== "true";
        event.target.setAttribute("aria-pressed", String(on));
        fill(on);
      } }, "Word diff")), answers,
      h("div", { class: "side-by-side" }, [["Order A, B", row.a_first], ["Order B, A", row.b_first]].map(([title, game]) => h("div", {}, gameBox(title, game)))));
  });
  return box;
}
