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

// Marks of a part: {place of a model: Float64Array with NaN where there is no mark}.
function marksOf(part) {
  return remembered("marks " + part.name, async () => {
    const bytes = await unpack(part.marks.id);
    const wide = part.marks.bits === 16;
    const codes = wide ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1) : bytes;
    const missing = wide ? 65535 : 255;
    const step = wide ? (part.marks.high - part.marks.low) / 65534 : 0;
    const mark = (code) => code === missing ? NaN : wide ? part.marks.low + code * step : part.marks.levels[code];
    const rows = {};
    part.models.forEach((place, row) => {
      rows[place] = Float64Array.from(codes.subarray(row * part.n, (row + 1) * part.n), mark);
    });
    return rows;
  });
}

function blockOf(part, item) {
  return part.blocks.find(([first, last]) => first <= item && item < last);
}

// One item's texts, null where they stand in a page beside this file.
async function itemOf(part, item) {
  const block = blockOf(part, item);
  if (!block || block[2].endsWith(".html")) return null;
  const items = await remembered(block[2], () => unpackJson(block[2]));
  return items[item - block[0]];
}

// Mean of a - b over items that both have, with its standard error and 95 % interval.
function pairedDifference(a, b) {
  const differences = [];
  for (let i = 0; i < a.length; i++) if (!Number.isNaN(a[i]) && !Number.isNaN(b[i])) differences.push(a[i] - b[i]);
  const n = differences.length;
  if (n < 2) return null;
  const mean = differences.reduce((sum, d) => sum + d, 0) / n;
  const variance = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / (n - 1);
  return spread(mean, Math.sqrt(variance / n), n);
}

function spread(mean, stderr, n) {
  const half = 1.959963984540054 * stderr;
  return { mean, stderr, n, low: mean - half, high: mean + half };
}
