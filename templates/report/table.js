"use strict";
// The tables of the page: sorting with ranks, filtering, grouping, columns and charts, all told by the address.
const defaultColumns = new Map();

function currentTab() {
  return document.querySelector("section.tab:not([hidden])");
}

function columnKeys(value) {
  return new Set((value || "").split(" ").filter(Boolean));
}

// Brings the tables to the state of the address: tab, sort, up, filter, group, columns (those that differ) and picked.
function showHome() {
  const tab = document.getElementById("tab-" + query.get("tab")) ? query.get("tab") : "1";
  showTab(tab);
  const section = document.getElementById("tab-" + tab);
  document.getElementById("filter").value = query.get("filter") || "";
  document.getElementById("group").value = query.get("group") || "";
  showColumns(section, columnKeys(query.get("columns")));
  sortTable(section, query.get("sort") || section.dataset.sort, query.get("up") === "1");
  filterTable(section);
  groupRows(section);
  filterCharts(section, tab);
  markPicked();
  showRanks(section, query.get("sort") || section.dataset.sort);
}

function sortKey(row, column, isText) {
  const cell = row.querySelector(`[data-column="${CSS.escape(column)}"]`);
  if (isText) return cell.textContent.trim().toLowerCase();
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

// Rows without a figure stay last in both directions.
function sortTable(section, column, up) {
  const table = section.querySelector(".board");
  const heading = column && table.tHead.querySelector(`th[data-column="${CSS.escape(column)}"]`);
  if (!heading) return;
  const isText = heading.dataset.kind === "text";
  table.tHead.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const keyed = [...table.tBodies[0].querySelectorAll("tr[data-slug]")].map((row) => [sortKey(row, column, isText), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
  });
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

// Ranks in a column are ranges where the tests leave them open.
function showRanks(section, column) {
  const tab = index.tabs[Number(section.id.slice(4)) - 1];
  const ranks = tab.ranks[column.replace(/^average_/, "average.")] || {};
  for (const row of section.querySelectorAll("tr[data-slug]")) {
    const cell = row.querySelector("[data-column=rank]"), rank = ranks[modelBySlug(row.dataset.slug)];
    cell.textContent = rank ? (rank[0] === rank[1] ? String(rank[0]) : rank.join("–")) : "–";
    if (rank) cell.dataset.value = rank[0]; else delete cell.dataset.value;
  }
}

// Puts rows of one base model or DGM under a common heading, in their order.
function groupRows(section) {
  const by = document.getElementById("group").value, body = section.querySelector(".board").tBodies[0];
  body.querySelectorAll("tr.group").forEach((row) => row.remove());
  if (!by) return;
  const groups = new Map();
  for (const row of body.querySelectorAll("tr[data-slug]")) {
    const name = row.dataset[by] || "";
    groups.set(name, [...(groups.get(name) || []), row]);
  }
  for (const [name, rows] of [...groups].sort(([a], [b]) => !a - !b)) {
    const heading = h("tr", { class: "group" }, h("th", { colspan: "40", scope: "rowgroup" }, name || "not recorded"));
    heading.hidden = rows.every((row) => row.hidden);
    body.append(heading, ...rows);
  }
}

function filterTable(section) {
  const words = (query.get("filter") || "").toLowerCase().split(/\s+/).filter(Boolean);
  let left = 0;
  section.querySelectorAll(".board tr[data-slug]").forEach((row) => {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    left += !row.hidden;
  });
  section.querySelector(".nothing").hidden = left > 0;
  if (words.length) say(plural(left, "row") + " shown");
}

// Drawings follow the table's filter: bars close up, spiders and lines of other models go.
function filterCharts(section, tab) {
  const shown = new Set([...section.querySelectorAll("tr[data-slug]")].filter((row) => !row.hidden).map((row) => String(modelBySlug(row.dataset.slug))));
  for (const chart of document.querySelectorAll(`.tab-charts[data-tab="${tab}"] .chart`)) {
    const groups = [...chart.querySelectorAll("[data-model]")];
    let place = 0;
    for (const group of groups) {
      const visibleHere = group.dataset.model.split(",").some((model) => shown.has(model));
      group.style.display = visibleHere ? "" : "none";
      if (visibleHere && group.hasAttribute("transform")) group.setAttribute("transform", `translate(0 ${10 + 20 * place++})`);
    }
    chart.querySelector(".nothing").hidden = !groups.length || groups.some((group) => group.style.display !== "none");
  }
}

function showColumns(section, differing) {
  for (const box of document.querySelectorAll("#columns input")) {
    const heading = section.querySelector(`.board th[data-column="${CSS.escape(box.value)}"]`);
    const key = section.id + " " + box.value;
    if (!defaultColumns.has(key)) defaultColumns.set(key, !heading.classList.contains("off"));
    const on = defaultColumns.get(key) !== differing.has(box.value);
    box.checked = on;
    if (on !== heading.classList.contains("off")) continue;
    section.querySelectorAll(`.board [data-column="${CSS.escape(box.value)}"]`).forEach((cell) => cell.classList.toggle("off", !on));
  }
}

function pickedSlugs() {
  return (addressNow().get("picked") || "").split(",").filter(Boolean);
}

function markPicked() {
  const picked = pickedSlugs();
  document.querySelectorAll(".board .pick").forEach((box) => { box.checked = picked.includes(box.closest("tr").dataset.slug); });
  document.getElementById("compare-chosen").disabled = picked.length !== 2;
}

function showTab(number) {
  document.querySelectorAll("#tabs a").forEach((tab) => {
    if (tab.dataset.tab === number) tab.setAttribute("aria-current", "page"); else tab.removeAttribute("aria-current");
  });
  document.querySelectorAll("section.tab").forEach((section) => { section.hidden = section.id !== "tab-" + number; });
  document.querySelectorAll(".tab-charts").forEach((set) => { set.hidden = set.dataset.tab !== number; });
}

// The shown columns and rows with full precision, each figure with its interval and count.
function boardAsCsv(section) {
  const keys = [...section.querySelectorAll(".board thead th:not(.off)")].map((heading) => heading.dataset.column);
  const head = [], rows = [...section.querySelectorAll("tr[data-slug]")].filter((row) => !row.hidden).map(() => []);
  const shown = [...section.querySelectorAll("tr[data-slug]")].filter((row) => !row.hidden);
  for (const key of keys) {
    const name = key.replace(/^average_/, "average.");
    const has = index.models[0].figures[name] !== undefined;
    head.push(key, ...(has && name === key ? [key + "_ci_low", key + "_ci_high", key + "_n"] : []));
    shown.forEach((row, place) => {
      const [value, , ci, n] = has ? index.models[modelBySlug(row.dataset.slug)].figures[name] : [];
      const cell = row.querySelector(`[data-column="${CSS.escape(key)}"]`);
      rows[place].push(has ? value : key === "model" ? index.models[modelBySlug(row.dataset.slug)].name : key === "rank" ? cell.textContent.trim() : cell.dataset.value || cell.textContent.trim());
      if (has && name === key) rows[place].push(ci && ci[0], ci && ci[1], n);
    });
  }
  return csvOf([head, ...rows]);
}

function startTable() {
  for (const heading of document.querySelectorAll(".board thead th")) {
    const column = heading.dataset.column;
    if (heading.dataset.kind === "rank") {
      heading.replaceChildren(h("button", { type: "button", "data-tip": heading.dataset.tip }, heading.textContent));
      continue;
    }
    heading.replaceChildren(h("button", { type: "button", "data-tip": heading.dataset.tip, onclick: () => {
      const now = heading.getAttribute("aria-sort"), up = now ? now === "descending" : heading.dataset.kind === "text";
      update({ sort: column, up: up ? "1" : "" });
      say("Sorted by " + heading.textContent.trim() + (up ? ", ascending" : ", descending"));
    } }, heading.textContent));
    heading.removeAttribute("data-tip");
  }
  document.getElementById("filter").addEventListener("input", (event) => update({ filter: event.target.value }, true));
  document.getElementById("group").addEventListener("change", (event) => update({ group: event.target.value }));
  document.querySelectorAll("[data-clear]").forEach((button) => button.addEventListener("click", () => update({ filter: "" })));
  document.querySelectorAll("#columns input").forEach((box) => box.addEventListener("change", () => {
    const differing = columnKeys(addressNow().get("columns"));
    if (differing.has(box.value)) differing.delete(box.value); else differing.add(box.value);
    update({ columns: [...differing].join(" ") });
  }));
  document.querySelectorAll(".board .pick").forEach((box) => box.addEventListener("change", () => {
    const slug = box.closest("tr").dataset.slug, others = pickedSlugs().filter((one) => one !== slug);
    update({ picked: (box.checked ? [...others.slice(-1), slug] : others).join(",") }, true);
  }));
  document.querySelectorAll("#tabs a").forEach((tab) => tab.addEventListener("click", (event) => {
    event.preventDefault();
    update({ tab: tab.dataset.tab === "1" ? "" : tab.dataset.tab, sort: "", up: "" });
  }));
  document.getElementById("compare-chosen").addEventListener("click", () => {
    const [a, b] = pickedSlugs();
    go({ view: "compare", a, b });
  });
  document.getElementById("save-table").addEventListener("click", () => saveFile("leaderboard.csv", "text/csv", boardAsCsv(currentTab())));
}

// A chart is saved in black on white, its table as it stands. Several drawings are saved as one, side by side.
function startCharts() {
  document.addEventListener("click", (event) => {
    const kind = event.target.dataset && event.target.dataset.save;
    if (!kind) return;
    const box = event.target.closest("figure");
    const name = box.id.replace(/^chart-/, "");
    if (kind === "csv") return saveFile(name + ".csv", "text/csv", tableAsCsv(box.querySelector("table")));
    saveFile(name + ".svg", "image/svg+xml", new XMLSerializer().serializeToString(oneDrawing([...box.querySelectorAll("svg")])));
  });
  window.addEventListener("beforeprint", () => document.querySelectorAll(".chart-set").forEach((set) => { set.open = true; }));
}

function oneDrawing(drawings) {
  const shown = drawings.filter((one) => one.style.display !== "none");
  const copies = (shown.length ? shown : drawings).map((one) => one.cloneNode(true));
  if (copies.length === 1) {
    copies[0].setAttribute("color", "#111");
    return copies[0];
  }
  const across = Math.min(4, copies.length);
  const [wide, high] = ["width", "height"].map((side) => Number(copies[0].getAttribute(side)));
  const whole = copies[0].cloneNode(false);
  copies.forEach((copy, place) => {
    copy.setAttribute("x", wide * (place % across));
    copy.setAttribute("y", high * Math.floor(place / across));
  });
  const size = [wide * across, high * Math.ceil(copies.length / across)];
  whole.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  whole.setAttribute("width", size[0]);
  whole.setAttribute("height", size[1]);
  whole.setAttribute("color", "#111");
  whole.append(...copies);
  return whole;
}
