"use strict";
// The address after # names the view; without a view the tables are shown.
let index = null;

const VIEWS = {
  model: modelView, items: itemsView, item: itemView, compare: compareView, categories: categoriesView, tokens: tokensView,
  preferences: preferencesView,
};
const NEEDS_ALL = new Set(["model", "compare", "categories", "tokens", "preferences"]);
let shownAddress = "", homeAddress = "#", showing = 0;

async function show() {
  const address = location.hash, isBack = keepPlace === null;
  if (shownAddress !== address) rememberPlace(shownAddress, window.scrollY);
  const stay = keepPlace === true && shownAddress !== "";
  keepPlace = null;
  shownAddress = address;
  query = new URLSearchParams(address.slice(1));
  const home = document.getElementById("home"), box = document.getElementById("view");
  const view = VIEWS[query.get("view")] || (home ? null : itemsView);
  if (NEEDS_ALL.has(query.get("view")) && index.home) {
    // An item page knows its items only: the leaderboard shows the rest.
    location.assign(index.home + address);
    return;
  }
  const number = ++showing;
  if (home) home.hidden = Boolean(view);
  box.hidden = !view;
  if (!view) {
    homeAddress = address || "#";
    document.title = "Leaderboard · evalsuite";
    box.replaceChildren();
    if (document.querySelector(".board")) showHome();
    if (!stay && isBack && !returnTo(address) && number > 1) document.getElementById("main").focus({ preventScroll: true });
    return;
  }
  try {
    // A view that only changes its state keeps its controls, and the reader's place in them.
    if (stay && box.refresh && box.refresh.view === query.get("view") && await box.refresh()) return;
    box.refresh = null;
    const children = await view(query, box);
    if (number !== showing) return;
    const focused = stay && document.activeElement && document.activeElement.dataset.control;
    const wasOpen = stay && box.querySelector("details.popup[open]");
    box.replaceChildren(...children.flat(Infinity).filter((child) => child instanceof Node));
    const heading = box.querySelector("h2");
    if (heading) document.title = heading.textContent + " · evalsuite";
    say(heading ? heading.textContent : "");
    if (stay) {
      if (wasOpen && box.querySelector("details.popup")) box.querySelector("details.popup").open = true;
      const control = focused && box.querySelector(`[data-control="${CSS.escape(focused)}"]`);
      if (control) control.focus({ preventScroll: true });
    } else if (!isBack || !returnTo(address)) {
      if (!isBack) window.scrollTo(0, 0);
      if (heading && number > 1) {
        heading.setAttribute("tabindex", "-1");
        heading.focus({ preventScroll: true });
      }
    }
  } catch (error) {
    box.replaceChildren(h("h2", {}, "This view cannot be shown"), h("p", { class: "note" }, String(error)));
  }
}

// Links inside the page: to a section of the tables they scroll, and keep the state that the address tells.
function startLinks() {
  document.addEventListener("click", (event) => {
    const anchor = event.target.closest && event.target.closest("a[href^='#']");
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const name = anchor.getAttribute("href").slice(1);
    if (name.includes("=") || !name) {
      keepPlace = false;
      return;
    }
    const section = document.getElementById(name);
    if (!section || event.defaultPrevented) return;
    event.preventDefault();
    const scroll = () => {
      const box = document.getElementById(name);
      if (box.tagName === "DETAILS") box.open = true;
      box.scrollIntoView();
      const target = box.querySelector("a[href], button, input, summary");
      if (name !== "main" && target) target.focus({ preventScroll: true });
      if (name === "main") box.focus();
    };
    const home = document.getElementById("home");
    if (!home || !home.hidden || name === "main") return scroll();
    window.addEventListener("shown", scroll, { once: true });
    keepPlace = false;
    location.hash = homeAddress;
  });
}

// Addresses that name a section or a tab, such as #charts and #tab-2, are links from outside.
function openNamedSection() {
  const name = location.hash.slice(1), tab = /^tab-(\d+)$/.exec(name);
  if (!name || name.includes("=")) return;
  if (tab) return location.replace(addressOf({ tab: tab[1] }));
  const section = document.getElementById(name);
  if (section && section.tagName === "DETAILS") section.open = true;
  if (section) section.scrollIntoView();
}

// The browser tells of a new address later than it takes it: only now does the page show what it says.
function saysShown() {
  document.documentElement.dataset.shown = shownAddress;
  window.dispatchEvent(new Event("shown"));
}

async function start() {
  document.documentElement.classList.add("has-script");
  startTips();
  startPopups();
  startKeys();
  startLinks();
  startCharts();
  if (typeof DecompressionStream === "undefined") {
    say("This browser is too old to decompress the items: use one from 2023 or later. The table above is complete.");
    return;
  }
  index = await unpackJson("index");
  if (document.querySelector(".board")) startTable();
  startAnalyses();
  let turn = Promise.resolve();
  window.addEventListener("hashchange", () => {
    turn = turn.then(show).then(saysShown);
  });
  await show();
  saysShown();
  openNamedSection();
  document.documentElement.dataset.ready = "yes";
}

start();
