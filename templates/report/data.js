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

// Two-sided 95 % points of Student's t for 1 to 20 degrees of freedom, and of the normal distribution.
const T95 = [12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139,
  2.200985, 2.178813, 2.160369, 2.144787, 2.13145, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963];
const Z95 = 1.959963984540054;

// Beyond the table the series in 1/df is exact to 6 digits (Abramowitz and Stegun 26.7.5). null: many degrees of freedom.
function t95(df) {
  if (df === null) return Z95;
  if (df <= T95.length) return T95[df - 1];
  const z = Z95;
  return z + (z ** 3 + z) / (4 * df) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * df ** 2)
    + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * df ** 3)
    + (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / (92160 * df ** 4);
}

// Mean of a - b over items that both have, with its standard error and 95 % interval.
function pairedDifference(a, b) {
  const differences = [];
  for (let i = 0; i < a.length; i++) if (!Number.isNaN(a[i]) && !Number.isNaN(b[i])) differences.push(a[i] - b[i]);
  const n = differences.length;
  if (n < 2) return null;
  const mean = differences.reduce((sum, d) => sum + d, 0) / n;
  const least = differences.reduce((low, d) => Math.min(low, d)), most = differences.reduce((high, d) => Math.max(high, d));
  if (most - least <= 1e-9) return alike(mean, n);
  const variance = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / (n - 1);
  return spread(mean, Math.sqrt(variance / n), n, n - 1);
}

// The same difference on all items has no spread to make an interval of: the exact sign test says whether it is clear.
function alike(mean, n) {
  return { mean, n, low: null, high: null, clear: Math.abs(mean) > 1e-9 && 2 * 0.5 ** n < 0.05 };
}

function spread(mean, stderr, n, df) {
  const half = t95(df) * stderr;
  return { mean, n, low: mean - half, high: mean + half, clear: Math.abs(mean) > half };
}

// Not paired: from two figures [value, stderr, ci95, n]; null where one has no doubt that could be counted.
function figureDifference(x, y) {
  const errors = [x, y].map(([, stderr, ci95]) => stderr !== null && stderr <= 1e-9 ? (ci95 && ci95[1] > ci95[0] ? (ci95[1] - ci95[0]) / 2 / Z95 : null) : stderr);
  if (errors.includes(null)) return null;
  const df = x[3] === null || y[3] === null ? null : Math.max(1, Math.min(x[3], y[3]) - 1);
  return spread(x[0] - y[0], Math.hypot(...errors), null, df);
}
