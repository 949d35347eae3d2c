"use strict";
// Embedded blocks: base64 of raw deflate, unpacked by the browser when a view needs them.
const unpacked = new Map();

async function unpack(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpackJson(id) {
  return JSON.parse(new TextDecoder().decode(await unpack(id)));
}

// Keeps the last few blocks, so that stepping through items does not unpack again.
function remembered(id, make) {
  if (!unpacked.has(id)) {
    if (unpacked.size > 12) unpacked.delete(unpacked.keys().next().value);
    unpacked.set(id, make());
  }
  return unpacked.get(id);
}

// Marks of a part: {number of a model: Float64Array with NaN where there is no mark}.
function marksOf(part) {
  return remembered("marks " + part.name, async () => {
    const bytes = await unpack(part.marks.id);
    const wide = part.marks.bits === 16;
    const codes = wide ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1) : bytes;
    const missing = wide ? 65535 : 255;
    const step = wide ? (part.marks.high - part.marks.low) / 65534 : 0;
    const mark = (code) => code === missing ? NaN : wide ? part.marks.low + code * step : part.marks.levels[code];
    const rows = {};
    part.models.forEach((model, row) => {
      rows[model] = Float64Array.from(codes.subarray(row * part.n, (row + 1) * part.n), mark);
    });
    return rows;
  });
}

function blockOf(part, item) {
  return part.blocks.find(([first, last]) => first <= item && item < last);
}

// One item's texts, null where they are in a page beside this file.
async function itemOf(part, item) {
  const block = blockOf(part, item);
  if (!block || block[2].endsWith(".html")) return null;
  const items = await remembered(block[2], () => unpackJson(block[2]));
  return items[item - block[0]];
}

// What answers are filtered by: "unscored", "extracted" or "flags" of a part as {model: item -> text}; null without any.
function factsOf(part, name) {
  const layout = part.facts && part.facts[name];
  if (!layout) return Promise.resolve(null);
  return remembered("facts " + name + " " + part.name, async () => {
    const codes = await unpack(layout.id), rows = {};
    part.models.forEach((model, row) => {
      rows[model] = (item) => layout.levels[codes[row * part.n + item]];
    });
    return rows;
  });
}

// The lower-case texts of a part for the search: {question, answers by model} per item, null where they are elsewhere.
function searchTexts(part) {
  return remembered("texts " + part.name, async () => {
    const texts = Array(part.n).fill(null);
    for (const [first, , id] of part.blocks.filter((block) => !block[2].endsWith(".html"))) {
      (await unpackJson(id)).forEach((item, place) => {
        const answers = {};
        for (const [model, answer] of Object.entries(item.a)) answers[model] = flat(answer).toLowerCase();
        texts[first + place] = { question: flat(item.q).toLowerCase(), answers };
      });
    }
    return texts;
  });
}

function flat(value) {
  if (value === null || value === undefined || typeof value === "number" || typeof value === "boolean") return "";
  return typeof value === "string" ? value : Object.values(value).map(flat).join("\n");
}
