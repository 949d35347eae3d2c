"use strict";
// The address after # names the view; without one the tables are shown.
let index = null;

const VIEWS = { model: modelView, items: itemsView, item: itemView, compare: compareView, preferences: preferencesView };
const NEEDS_ALL = new Set(["model", "compare", "preferences"]);

async function show() {
  const query = new URLSearchParams(location.hash.slice(1));
  const home = document.getElementById("home"), box = document.getElementById("view");
  const view = VIEWS[query.get("view")] || (home ? null : itemsView);
  if (home) home.hidden = Boolean(view);
  box.hidden = !view;
  if (!view) {
    const anchor = document.getElementById(location.hash.slice(1));
    const tab = /^#tab-(\d+)$/.exec(location.hash);
    if (tab && document.getElementById("tabs")) showTab(tab[1]);
    if (anchor && anchor.id !== "main") anchor.scrollIntoView();
    return;
  }
  if (NEEDS_ALL.has(query.get("view")) && index.home) {
    // An item page knows its items only: the leaderboard shows the rest.
    location.assign(index.home + location.hash);
    return;
  }
  try {
    const children = await view(query);
    box.replaceChildren(...children.flat().filter((child) => child instanceof Node));
    const heading = box.querySelector("h2");
    if (heading) document.title = heading.textContent + " · evalsuite";
    window.scrollTo(0, 0);
    say(heading ? heading.textContent : "");
  } catch (error) {
    box.replaceChildren(h("h2", {}, "This view cannot be shown"), h("p", { class: "note" }, String(error)));
  }
}

async function start() {
  document.documentElement.classList.add("has-script");
  if (document.querySelector(".board")) startTable();
  startCharts();
  if (typeof DecompressionStream === "undefined") {
    say("This browser is too old to unpack the items: use one from 2023 or later. The table above is complete.");
    return;
  }
  index = await unpackJson("index");
  startAnalyses();
  window.addEventListener("hashchange", show);
  await show();
  document.documentElement.dataset.ready = "yes";
}

start();
