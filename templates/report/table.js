"use strict";
// Sorting, filtering, grouping and choosing columns of the tables of the page.
const chosen = new Set();

function sortKey(row, column, isText) {
  const cell = row.querySelector(`[data-column="${column}"]`);
  if (isText) return cell.textContent.trim().toLowerCase();
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

// Rows without a figure stay last in both directions.
function sortTable(table, heading) {
  const column = heading.dataset.column;
  const isText = heading.dataset.kind === "text";
  const before = heading.getAttribute("aria-sort");
  const up = before ? before === "descending" : isText;
  table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...table.tBodies[0].querySelectorAll("tr[data-slug]")];
  const keyed = rows.map((row) => [sortKey(row, column, isText), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  groupRows(table);
  say("Sorted by " + heading.textContent.trim() + (up ? ", ascending" : ", descending"));
}

// Puts rows of one base model or DGM under a common heading, in their order.
function groupRows(table) {
  const by = document.getElementById("group").value;
  table.querySelectorAll("tr.group").forEach((row) => row.remove());
  if (!by) return;
  const groups = new Map();
  for (const row of table.tBodies[0].querySelectorAll("tr[data-slug]")) {
    const name = row.dataset[by] || "";
    groups.set(name, [...(groups.get(name) || []), row]);
  }
  for (const [name, rows] of [...groups].sort(([a], [b]) => !a - !b)) {
    const heading = h("tr", { class: "group" }, h("th", { colspan: "30", scope: "rowgroup" }, name || "not recorded"));
    heading.hidden = rows.every((row) => row.hidden);
    table.tBodies[0].append(heading, ...rows);
  }
}

function filterTables() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let left = 0;
  document.querySelectorAll(".board tr[data-slug]").forEach((row) => {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    left += !row.hidden;
  });
  document.querySelectorAll(".board").forEach(groupRows);
  say(words.length ? left + " rows shown" : "");
}

function showColumn(key, shown) {
  document.querySelectorAll(`.board [data-column="${key}"]`).forEach((cell) => cell.classList.toggle("off", !shown));
}

function choose(slug, on) {
  if (on) chosen.add(slug); else chosen.delete(slug);
  if (chosen.size > 2) chosen.delete(chosen.values().next().value);
  document.querySelectorAll(".board .pick input").forEach((box) => {
    box.checked = chosen.has(box.closest("tr").dataset.slug);
  });
  document.getElementById("compare-chosen").disabled = chosen.size !== 2;
}

function showTab(number) {
  if (!document.getElementById("tab-" + number)) return;
  document.querySelectorAll("#tabs a").forEach((tab) => {
    if (tab.dataset.tab === number) tab.setAttribute("aria-current", "page"); else tab.removeAttribute("aria-current");
  });
  document.querySelectorAll("section.tab").forEach((section) => { section.hidden = section.id !== "tab-" + number; });
  document.querySelectorAll(".tab-charts").forEach((set) => { set.hidden = set.dataset.tab !== number; });
}

function startTable() {
  for (const table of document.querySelectorAll(".board")) {
    for (const heading of table.tHead.rows[0].cells) {
      const button = h("button", { type: "button", onclick: () => sortTable(table, heading) }, heading.textContent);
      heading.replaceChildren(button);
    }
  }
  document.getElementById("filter").addEventListener("input", filterTables);
  document.getElementById("group").addEventListener("change", () => document.querySelectorAll(".board").forEach(groupRows));
  for (const box of document.querySelectorAll("#columns input")) {
    const heading = document.querySelector(`.board th[data-column="${box.value}"]`);
    box.checked = !heading.classList.contains("off");
    box.addEventListener("change", () => showColumn(box.value, box.checked));
  }
  document.querySelectorAll(".board .pick input").forEach((box) => {
    box.addEventListener("change", () => choose(box.closest("tr").dataset.slug, box.checked));
  });
  document.getElementById("compare-chosen").addEventListener("click", () => {
    const [a, b] = chosen;
    location.hash = new URLSearchParams({ view: "compare", a, b });
  });
  document.getElementById("save-table").addEventListener("click", () => {
    const table = document.querySelector("section.tab:not([hidden]) .board");
    saveFile("leaderboard.csv", "text/csv", tableAsCsv(table));
  });
  if (document.getElementById("tabs")) showTab("1");
}

// A chart is saved in black on white, its table as it stands.
function startCharts() {
  document.addEventListener("click", (event) => {
    const kind = event.target.dataset && event.target.dataset.save;
    if (!kind) return;
    const box = event.target.closest("figure");
    const name = box.id.replace(/^chart-/, "");
    if (kind === "csv") return saveFile(name + ".csv", "text/csv", tableAsCsv(box.querySelector("table")));
    const copy = box.querySelector("svg").cloneNode(true);
    copy.setAttribute("color", "#111");
    saveFile(name + ".svg", "image/svg+xml", new XMLSerializer().serializeToString(copy));
  });
}
