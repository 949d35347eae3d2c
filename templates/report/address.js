"use strict";
// The address after # is the whole state of the page: reload, Back and a copied link give the same view.
let query = new URLSearchParams();

function addressOf(values) {
  const next = new URLSearchParams();
  for (const [key, value] of values instanceof URLSearchParams ? values : Object.entries(values)) {
    if (value !== "" && value !== null && value !== undefined && value !== false) next.set(key, value);
  }
  return "#" + next;
}

// What the address says now, which a view may not have shown yet.
function addressNow() {
  return new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
}

// The present address with some values changed; "" and null take a value out.
function changed(values) {
  const next = addressNow();
  for (const [key, value] of Object.entries(values)) next.set(key, value ?? "");
  return addressOf(next);
}

function go(values) {
  keepPlace = false;
  location.hash = addressOf(values);
}

// Changes the state of a view. Typing replaces the address, so that Back does not go through every letter.
function update(values, replace) {
  const target = changed(values);
  if (target === location.hash) return;
  keepPlace = true;
  if (replace) location.replace(target); else location.hash = target;
}

// Where a reader was at each address, for Back: how far down, and on which link. keepPlace is null after Back or Forward.
const places = new Map();
let keepPlace = null;

function rememberPlace(address, before) {
  const active = document.activeElement && document.activeElement.closest ? document.activeElement.closest("a[href]") : null;
  places.set(address, { y: before, href: active ? active.getAttribute("href") : null });
}

function returnTo(address) {
  const place = places.get(address);
  if (!place) return false;
  const anchor = place.href && [...document.querySelectorAll("main a[href]")].find((one) => one.getAttribute("href") === place.href && one.offsetParent);
  if (anchor) anchor.focus({ preventScroll: true });
  window.scrollTo(0, place.y);
  return Boolean(anchor);
}

// Keys -----------------------------------------------------------------------------------------------------
const KEYS = [
  ["→ or j", "next item, or next row of a list"], ["← or k", "previous item, or previous row of a list"],
  ["/", "search"], ["Esc", "close what is open; leave the search"], ["?", "this list"],
];

function showKeys() {
  let box = document.getElementById("keys");
  if (!box) {
    box = h("dialog", { id: "keys", "aria-label": "Keys" }, h("h2", {}, "Keys"),
      h("dl", {}, KEYS.map(([key, says]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, says)])),
      h("form", { method: "dialog" }, h("button", { type: "button", onclick: () => box.close() }, "Close")));
    document.body.append(box);
  }
  if (box.open) box.close(); else box.showModal();
}

// Rows are walked by their first link.
function walkRows(step) {
  const root = query.get("view") ? document.getElementById("view") : document.querySelector("section.tab:not([hidden])");
  const links = root ? [...root.querySelectorAll("tbody tr:not([hidden]) > th a")].filter((one) => one.offsetParent) : [];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const next = links[Math.max(0, Math.min(links.length - 1, at + step))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function startKeys() {
  document.addEventListener("keydown", (event) => {
    const inField = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (inField && event.key === "Escape") event.target.blur();
    if (inField || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) {
      if (event.key === "?" && document.querySelector("dialog[open]")) showKeys();
      return;
    }
    const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
    if (event.key === "?") showKeys();
    else if (event.key === "/") {
      const search = [...document.querySelectorAll("input.search")].find((one) => one.offsetParent);
      if (!search) return;
      search.focus();
      search.select();
    } else if (step) {
      const way = document.querySelector(step > 0 ? "#view a[rel=next]" : "#view a[rel=prev]");
      if (way) way.click();
      else if (event.key.length === 1) walkRows(step);
      else return;
    } else return;
    event.preventDefault();
  });
}
