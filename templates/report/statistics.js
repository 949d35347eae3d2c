"use strict";
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

// Mean of a - b over items that both have, with its standard error, its 95 % interval and both means on these items.
function pairedDifference(a, b) {
  let n = 0, sumA = 0, sumB = 0;
  for (let i = 0; i < a.length; i++) {
    if (Number.isNaN(a[i]) || Number.isNaN(b[i])) continue;
    n++;
    sumA += a[i];
    sumB += b[i];
  }
  if (n < 2) return null;
  const mean = (sumA - sumB) / n;
  let squares = 0, least = Infinity, most = -Infinity;
  for (let i = 0; i < a.length; i++) {
    const d = a[i] - b[i];
    if (Number.isNaN(d)) continue;
    squares += (d - mean) ** 2;
    least = Math.min(least, d);
    most = Math.max(most, d);
  }
  const both = { a: sumA / n, b: sumB / n };
  if (most - least <= 1e-9) return { ...alike(mean, n), ...both };
  return { ...spread(mean, Math.sqrt(squares / (n - 1) / n), n, n - 1), ...both };
}

// The same difference on all items has no spread to make an interval of: the exact sign test says whether it is clear.
function alike(mean, n) {
  return { mean, n, stderr: 0, df: n - 1, low: null, high: null, clear: Math.abs(mean) > 1e-9 && 2 * 0.5 ** n < 0.05 };
}

function spread(mean, stderr, n, df) {
  const half = t95(df) * stderr;
  return { mean, n, stderr, df, low: mean - half, high: mean + half, clear: Math.abs(mean) > half };
}

// Not paired: from two figures [value, stderr, ci95, n]; null where one has no doubt that could be counted.
function figureDifference(x, y) {
  const errors = [x, y].map(([, stderr, ci95]) => stderr !== null && stderr <= 1e-9 ? (ci95 && ci95[1] > ci95[0] ? (ci95[1] - ci95[0]) / 2 / Z95 : null) : stderr);
  if (errors.includes(null)) return null;
  const df = x[3] === null || y[3] === null ? null : Math.max(1, Math.min(x[3], y[3]) - 1);
  return spread(x[0] - y[0], Math.hypot(...errors), null, df);
}

// Exact two-sided p of so uneven a split of b + c discordant items (McNemar's test, a sign test with p = 1/2).
function mcnemar(b, c) {
  const n = b + c;
  if (!n) return 1;
  let logTerm = -n * Math.log(2), sum = 0;
  for (let k = 0; k <= Math.min(b, c); k++) {
    sum += Math.exp(logTerm);
    logTerm += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * sum);
}

function pValue(p) {
  return p < 0.001 ? "p < 0.001" : "p = " + p.toFixed(3);
}

// Wilson's 95 % interval of a share.
function wilson(share, n) {
  const z2 = Z95 ** 2;
  const centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const half = (Z95 / (1 + z2 / n)) * Math.sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  return [share === 0 ? 0 : centre - half, share === 1 ? 1 : centre + half];
}

// Mean of marks with its 95 % interval: Wilson's where all are 0 or the top, else Student's t within the scale.
function meanOf(marks, top) {
  const known = marks.filter((mark) => !Number.isNaN(mark)), n = known.length;
  if (!n) return null;
  const mean = known.reduce((sum, mark) => sum + mark, 0) / n;
  if (known.every((mark) => mark === 0 || mark === top)) {
    return { mean, n, ci: wilson(mean / top, n).map((end) => end * top), method: "Wilson" };
  }
  if (n < 2) return { mean, n, ci: null, method: "" };
  const stderr = Math.sqrt(known.reduce((sum, mark) => sum + (mark - mean) ** 2, 0) / (n - 1) / n);
  const half = t95(n - 1) * stderr;
  return { mean, n, ci: half > 0 ? [Math.max(0, mean - half), Math.min(top, mean + half)] : null, method: "t" };
}
