"use strict";
// Elements are built from text only: nothing that a model wrote is ever parsed as HTML here.
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

// Control and bidirectional characters become marks such as ⟦U+202E⟧.
function visible(text) {
  return String(text).replace(HIDDEN, (c) => "⟦U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "⟧");
}

// h("p", { class: "note" }, "text", child): children that are not nodes become visible text.
function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, String(value));
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false)
    .map((c) => (c instanceof Node ? c : visible(c))));
  return element;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function link(values, ...children) {
  return h("a", { href: addressOf(values) }, ...children);
}

// A term of the glossary: hovering, focusing or pressing it shows its sentence.
function term(name, text) {
  return h("button", { type: "button", class: "term", "data-tip": index.glossary[name] }, text || name);
}

// Names are cut in the middle, for their ends tell them apart; the whole name is read on hover.
function shortName(name, length) {
  if (name.length <= length) return name;
  const head = Math.floor((length - 1) / 2);
  return h("span", { title: name }, name.slice(0, head) + "…" + name.slice(name.length - (length - 1 - head)));
}

function figure(value, digits) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : (Number(value.toFixed(digits)) || 0).toFixed(digits); // -0.00 is 0.00
}

function interval(ends, digits, factor = 1) {
  return ends ? figure(factor * ends[0], digits) + " to " + figure(factor * ends[1], digits) : "–";
}

function details(title, children, open) {
  return h("details", { open: open || false }, h("summary", {}, title), children);
}

// A popup of choices: Escape and a click outside close it.
function popup(title, children, attributes) {
  return h("details", { class: "popup", ...attributes }, h("summary", {}, title), h("div", { class: "choices" }, children));
}

const NUMBER = /^[±+−-]?[\d,.]+( ?%)?( to [+−-]?[\d,.]+)?$|^–$/;

// A table of plain cells; the first cell of a row is its heading, numbers keep to one line.
function plainTable(head, rows, caption) {
  const isNumber = (cell) => !(cell instanceof Node) ? NUMBER.test(String(cell)) : cell.tagName === "B" && NUMBER.test(cell.textContent);
  const numeric = head.map((_, column) => column > 0 && rows.length > 0 && rows.every((row) => row[column] === "" || isNumber(row[column])));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || head.map((one) => (one instanceof Node ? one.textContent : one)).join(", ") },
    h("table", { class: "plain" },
      caption && h("caption", {}, caption),
      h("thead", {}, h("tr", {}, head.map((name, column) => name === "" ? h("td", {}) : h("th", { scope: "col", class: numeric[column] && "num" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, column) =>
        column ? h("td", { class: isNumber(cell) && "num" }, cell) : h("th", { scope: "row" }, cell)))))));
}

function say(text) {
  document.getElementById("status").textContent = text;
}

function saveFile(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const anchor = h("a", { href: url, download: name });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// A cell that a spreadsheet would take for a formula gets a quote in front.
function csvCell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text;
  return /[",\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

function csvOf(rows) {
  return rows.map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
}

function tableAsCsv(table) {
  return csvOf([...table.rows].filter((row) => !row.hidden)
    .map((row) => [...row.cells].filter((cell) => !cell.classList.contains("off"))
      .map((cell) => cell.dataset.value || cell.textContent.trim().replace(/\s+/g, " "))));
}

// Tooltips, popups and the list of keys ------------------------------------------------------------------

function startTips() {
  const tip = h("div", { id: "tip", role: "tooltip", hidden: true });
  let owner = null;
  document.body.append(tip);
  const hide = () => {
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  };
  const show = (event) => {
    const target = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (!target || target === owner) return;
    hide();
    owner = target;
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    target.setAttribute("aria-describedby", "tip");
    const place = target.getBoundingClientRect(), size = tip.getBoundingClientRect();
    const left = Math.max(4, Math.min(place.left, document.documentElement.clientWidth - size.width - 4));
    const below = place.bottom + 6 + size.height < window.innerHeight;
    tip.style.left = left + "px";
    tip.style.top = (below ? place.bottom + 6 : place.top - size.height - 6) + "px";
  };
  const leave = (event) => { if (owner && !owner.contains(event.relatedTarget)) hide(); };
  for (const kind of ["mouseover", "focusin", "click"]) document.addEventListener(kind, show);
  document.addEventListener("mouseout", leave);
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  window.addEventListener("scroll", hide, true);
}

function startPopups() {
  const close = (box, refocus) => {
    box.open = false;
    if (refocus) box.querySelector("summary").focus();
  };
  document.addEventListener("click", (event) => {
    document.querySelectorAll("details.popup[open]").forEach((box) => { if (!box.contains(event.target)) close(box, false); });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelectorAll("details.popup[open]").forEach((box) => close(box, true));
  });
}
