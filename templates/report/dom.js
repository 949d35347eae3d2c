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
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false)
    .map((c) => (c instanceof Node ? c : visible(c))));
  return element;
}

function link(values, ...children) {
  return h("a", { href: "#" + new URLSearchParams(values) }, ...children);
}

function figure(value, digits) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);
}

// A table of plain cells; the first cell of a row is its heading.
function plainTable(head, rows, caption) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || head.join(", ") },
    h("table", { class: "plain" },
      caption && h("caption", {}, caption),
      h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, column) =>
        column ? h("td", {}, cell) : h("th", { scope: "row" }, cell)))))));
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
function csvCell(text) {
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text;
  return /[",\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

function tableAsCsv(table) {
  return [...table.rows].filter((row) => !row.hidden)
    .map((row) => [...row.cells].filter((cell) => cell.offsetParent !== null || !cell.classList.contains("off"))
      .map((cell) => csvCell(cell.dataset.value || cell.textContent.trim().replace(/\s+/g, " "))).join(",")).join("\n") + "\n";
}
