"use strict";
// Saving an analysis' tables with full precision, and the examples behind a word.
function analysisOf(element) {
  return index.analyses[Number(element.closest("[data-analysis]").dataset.analysis)];
}

async function saveAnalysisTable(button) {
  const analysis = analysisOf(button), id = button.dataset.table;
  const tables = analysis.tables ? await remembered(analysis.tables, () => unpackJson(analysis.tables)) : {};
  // Where the exact figures do not fit into this file, the table is saved as it stands.
  saveFile(analysis.folder + "-" + id + ".csv", "text/csv", tables[id] ?? tableAsCsv(button.closest("figure").querySelector("table")));
}

function exampleBox(example, number) {
  return h("details", { class: "verdict-row", open: number === 0 }, h("summary", {}, h("b", {}, example.model ?? "model not recorded"), " ", h("span", { class: "question" }, String(example.prompt ?? "").slice(0, 140))),
    answerText(String(example.text ?? "")));
}

async function openExamples(button) {
  const analysis = analysisOf(button), box = button.closest("figure").querySelector(".examples");
  const open = button.getAttribute("aria-expanded") === "true";
  button.closest("figure").querySelectorAll("[data-example]").forEach((other) => other.setAttribute("aria-expanded", "false"));
  if (open) return box.replaceChildren();
  button.setAttribute("aria-expanded", "true");
  const all = analysis.examples ? await remembered(analysis.examples, () => unpackJson(analysis.examples)) : null;
  const examples = all ? all[button.dataset.example] || [] : [];
  box.replaceChildren(h("h4", { tabindex: "-1" }, "Examples: ", button.dataset.example),
    ...(all ? examples.map(exampleBox) : [h("p", {}, "The examples do not fit in this file; they are in analyses/" + analysis.folder + "/analysis.json.")]));
  box.firstChild.focus();
}

function startAnalyses() {
  const section = document.getElementById("analyses");
  if (!section) return;
  section.addEventListener("click", (event) => {
    if (event.target.dataset.table) saveAnalysisTable(event.target);
    else if (event.target.dataset.example !== undefined) openExamples(event.target);
  });
}
