"use strict";
// Asks for the state every few seconds. The report's address is its whole state, so that a new one opens where the reader was.
const frame = document.getElementById("report"), button = document.getElementById("new");
let version = 0;

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function showRunning(state) {
  const box = document.getElementById("running");
  box.replaceChildren();
  if (state.fault) box.append(element("strong", "The report cannot be built: " + state.fault));
  for (const command of state.running) {
    box.append(element("strong", command.command + (command.step ? ": " + command.step : "")));
    for (const task of command.tasks) {
      const label = element("label", task.name + " " + task.done + (task.total ? " of " + task.total : ""));
      const bar = document.createElement("progress");
      if (task.total) { bar.max = task.total; bar.value = task.done; }
      label.append(bar, task.note);
      box.append(label);
    }
  }
  if (!box.childElementCount) box.append(element("span", "Nothing is running here. The report follows the folder."));
}

function load() {
  const hash = frame.contentWindow.location.hash || location.hash;
  version = latest;
  button.hidden = true;
  frame.contentWindow.location.replace("leaderboard.html?v=" + version + hash);
}

let latest = 0;
async function look() {
  try {
    const state = await (await fetch("state", { cache: "no-store" })).json();
    showRunning(state);
    latest = state.version;
    // Somebody who reads an item is not interrupted.
    const reading = version > 0 && frame.contentWindow.location.hash.includes("view=");
    if (latest > version) { if (reading) button.hidden = false; else load(); }
  } catch {
    document.getElementById("running").replaceChildren(element("span", "evalsuite view has stopped."));
  }
}

button.addEventListener("click", load);
frame.addEventListener("load", () => {
  const inner = frame.contentWindow;
  document.title = inner.document.title || document.title;
  inner.addEventListener("hashchange", () => { history.replaceState(null, "", inner.location.hash || "#"); document.title = inner.document.title; });
});
look();
setInterval(look, 2000);
