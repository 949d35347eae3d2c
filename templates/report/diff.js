"use strict";
// The word diff of two texts: Myers' O(ND) algorithm (1986) on words and white space.
const LONGEST_DIFF = 4000;

function words(text) {
  return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
}

// Returns [kind, text] pieces, kind "=", "-" (only in a) or "+" (only in b); null where the texts differ too much to tell.
function wordDiff(a, b) {
  const old = words(a), now = words(b);
  let start = 0, endOld = old.length, endNow = now.length;
  while (start < endOld && start < endNow && old[start] === now[start]) start++;
  while (endOld > start && endNow > start && old[endOld - 1] === now[endNow - 1]) { endOld--; endNow--; }
  const middle = path(old.slice(start, endOld), now.slice(start, endNow));
  if (middle === null) return null;
  const pieces = [];
  const add = (kind, word) => {
    if (pieces.length && pieces[pieces.length - 1][0] === kind) pieces[pieces.length - 1][1] += word;
    else pieces.push([kind, word]);
  };
  old.slice(0, start).forEach((word) => add("=", word));
  middle.forEach(([kind, word]) => add(kind, word));
  old.slice(endOld).forEach((word) => add("=", word));
  return pieces;
}

function path(a, b) {
  const most = a.length + b.length, frontiers = [];
  let frontier = new Map([[1, 0]]);
  for (let edits = 0; edits <= most; edits++) {
    if (edits > LONGEST_DIFF / 2) return null;
    frontiers.push(new Map(frontier));
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && (frontier.get(k - 1) ?? -1) < (frontier.get(k + 1) ?? -1));
      let x = down ? frontier.get(k + 1) : frontier.get(k - 1) + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) { x++; y++; }
      frontier.set(k, x);
      if (x >= a.length && y >= b.length) return backwards(a, b, frontiers);
    }
  }
  return [];
}

function backwards(a, b, frontiers) {
  const steps = [];
  let x = a.length, y = b.length;
  for (let edits = frontiers.length - 1; edits >= 0; edits--) {
    const frontier = frontiers[edits], k = x - y;
    const down = k === -edits || (k !== edits && (frontier.get(k - 1) ?? -1) < (frontier.get(k + 1) ?? -1));
    const before = down ? k + 1 : k - 1;
    const beforeX = frontier.get(before), beforeY = beforeX - before;
    while (x > beforeX && y > beforeY && x > 0 && y > 0) steps.push(["=", a[--x] ?? b[y], y--]);
    if (edits > 0) steps.push(down ? ["+", b[--y]] : ["-", a[--x]]);
  }
  return steps.reverse().map(([kind, word]) => [kind, word]);
}

// One text of a pair, with what only it has marked.
function diffText(pieces, own) {
  return h("pre", { class: "raw", dir: "auto" }, pieces.filter(([kind]) => kind === "=" || kind === own)
    .map(([kind, text]) => (kind === "=" ? text : h(kind === "+" ? "ins" : "del", {}, text))));
}
