"use strict";
// Blind labels: the texts are shown as text, and the labels stay in this browser until they are saved.
const items = JSON.parse(document.getElementById("items").textContent);
const sheet = JSON.parse(document.getElementById("sheet").textContent);
const KEY = "evalsuite-label-" + sheet;
const KEYS = { a: "left", b: "right", t: "tie" };
let labels = {};
let at = 0;

function remembered() {
  try { return JSON.parse(localStorage.getItem(KEY)) || {}; } catch { return {}; }
}

function remember() {
  // Without storage (a private window) the labels last as long as the page.
  try { localStorage.setItem(KEY, JSON.stringify({ labels, at })); } catch { /* said by the progress line */ }
}

// The label of a side as compare has it: a is the model that is named first there.
function sideOf(item, label) {
  if (label === "tie") return "tie";
  return (label === "left") === !item.turned ? "a" : "b";
}

function show() {
  const item = items[at];
  document.getElementById("number").textContent = "Pair " + (at + 1) + " of " + items.length;
  for (const name of ["prompt", "left", "right"]) document.getElementById(name).textContent = visible(item[name]);
  for (const button of document.querySelectorAll("[data-label]")) {
    button.setAttribute("aria-pressed", String(labels[at] === button.dataset.label));
  }
  document.getElementById("back").disabled = at === 0;
  document.getElementById("next").disabled = at === items.length - 1;
  document.getElementById("progress").textContent = Object.keys(labels).length + " of " + items.length + " labelled";
}

function go(to) {
  at = Math.min(Math.max(to, 0), items.length - 1);
  remember();
  show();
}

function choose(label) {
  labels[at] = label;
  go(at + 1);
}

function lines() {
  return items.map((item, number) => labels[number] &&
    JSON.stringify({ ...item.saved, label: sideOf(item, labels[number]) }) + "\n").filter(Boolean).join("");
}

function save() {
  const address = URL.createObjectURL(new Blob([lines()], { type: "application/jsonl" }));
  const anchor = h("a", { href: address, download: "labels.jsonl" });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

document.documentElement.classList.add("has-script");
for (const button of document.querySelectorAll("[data-label]")) {
  button.addEventListener("click", () => choose(button.dataset.label));
}
document.getElementById("back").addEventListener("click", () => go(at - 1));
document.getElementById("next").addEventListener("click", () => go(at + 1));
document.getElementById("save").addEventListener("click", save);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const label = KEYS[event.key.toLowerCase()];
  if (label) choose(label);
  else if (event.key === "ArrowLeft") go(at - 1);
  else if (event.key === "ArrowRight") go(at + 1);
  else return;
  event.preventDefault();
});
const kept = remembered();
labels = kept.labels || {};
at = Math.min(kept.at || 0, items.length - 1);
show();
document.documentElement.dataset.ready = "";
