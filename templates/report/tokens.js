"use strict";
// A score against what it costs: tokens per answer, or seconds of generation where they are recorded.
const COSTS = {
  tokens: ["thought and answer tokens per answer", (model, column) => tokensPerAnswer(model, column, (thought, answer) => thought + answer)],
  answer: ["answer tokens per answer", (model, column) => tokensPerAnswer(model, column, (_, answer) => answer)],
  thought: ["thought tokens per answer", (model, column) => tokensPerAnswer(model, column, (thought) => thought)],
  seconds: ["seconds of generation", (model) => (index.models[model].scores.seconds || {}).generate ?? null],
};

function tokensPerAnswer(model, column, of) {
  let answers = 0, sum = 0;
  for (const part of column ? partsOf(column) : index.parts) {
    const [n, thought, answer] = part.tokens[model] || [0, 0, 0];
    answers += n;
    sum += of(thought, answer);
  }
  return answers ? sum / answers : null;
}

function svgElement(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

// The points that no other beats: none has a higher score for the same or less.
function frontOf(points) {
  const front = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) if (!front.length || point.y > front[front.length - 1].y) front.push(point);
  return front;
}

function roundTicks(low, high) {
  const span = high > low ? high - low : Math.abs(high) || 1, power = 10 ** Math.floor(Math.log10(span / 4));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => span / one <= 4);
  const first = Math.floor(low / step + 1e-9), last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, place) => (first + place) * step);
}

async function tokensView() {
  const tab = index.tabs[Number(query.get("tab") || 1) - 1] || index.tabs[0];
  if (!tab) return [h("h2", {}, "Score against cost"), h("p", {}, "The results contain no figures.")];
  const columns = index.columns.filter((column) => tab.members.some((model) => index.models[model].figures[column.key][0] !== null));
  const column = columns.find((one) => one.key === query.get("score")) || columns[0];
  const costs = Object.entries(COSTS).filter(([, [, of]]) => tab.members.some((model) => of(model, column) > 0));
  const [cost, [title, of]] = costs.find(([name]) => name === query.get("cost")) || costs[0] || ["", ["", () => null]];
  const choice = (label, key, values, now) => h("label", {}, label, h("select", { "data-control": key, onchange: (event) => update({ [key]: event.target.value }) },
    values.map(([value, text]) => h("option", { value, selected: value === now }, text))));
  const head = [h("h2", {}, "Score against cost"), h("div", { class: "controls" },
    index.tabs.length > 1 && choice("Set", "tab", index.tabs.map((one, place) => [String(place + 1), one.title]), String(index.tabs.indexOf(tab) + 1)),
    choice("Score", "score", columns.map((one) => [one.key, one.title]), column && column.key),
    costs.length ? choice("Against", "cost", costs.map(([name, [text]]) => [name, text]), cost) : null)];
  const points = tab.members.map((model) => ({ model, x: of(model, column), y: column ? index.models[model].figures[column.key][0] : null }))
    .filter((point) => point.x > 0 && point.y !== null);
  if (!points.length) return [...head, h("p", { class: "nothing" }, "Neither tokens nor seconds are recorded for these models.")];
  const front = frontOf(points);
  const rows = [...points].sort((a, b) => a.x - b.x).map((point) => [link({ view: "model", model: index.models[point.model].slug }, nameOf(point.model)),
    figure(point.x, point.x < 100 ? 1 : 0), figure(point.y, column.digits), front.includes(point) ? "on the front" : ""]);
  return [...head, h("figure", { class: "chart", id: "chart-cost" }, h("div", { class: "drawing" }, scatter(points, front, column, title)),
    h("p", { class: "tools" }, h("button", { type: "button", "data-save": "svg" }, "Save SVG"))),
  h("p", { class: "legend" }, "The line is the Pareto front: models that no other beats at the same or lower cost. Logarithmic horizontal axis; names are on hover and in the table."),
  plainTable(["model", title, column.title, "front"], rows, "Score against " + title)];
}

function scatter(points, front, column, title) {
  // A drawing of a wide screen would be unreadably small on a phone.
  const narrow = innerWidth < 640, wide = narrow ? 400 : 760, high = 380, left = narrow ? 36 : 60, right = narrow ? 250 : 600, top = 16, bottom = 330;
  const xs = points.map((point) => Math.log10(point.x)), ys = roundTicks(Math.min(...points.map((p) => p.y)), Math.max(...points.map((p) => p.y)));
  const [low, most] = [Math.min(...xs) - 0.05, Math.max(...xs) + 0.05];
  const at = (point) => [left + (right - left) * (Math.log10(point.x) - low) / (most - low), bottom - (bottom - top) * (point.y - ys[0]) / (ys[ys.length - 1] - ys[0])];
  const text = (x, y, content, anchor, size) => svgElement("text", { x, y, "text-anchor": anchor || "start", "font-size": size || 11, fill: "currentColor" }, visible(content));
  const drawing = svgElement("svg", { xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, role: "img", "font-family": "system-ui, sans-serif" },
    svgElement("title", {}, column.title + " against " + title));
  for (const y of ys) {
    const place = at({ x: points[0].x, y })[1];
    drawing.append(svgElement("line", { x1: left, x2: right, y1: place, y2: place, stroke: "currentColor", "stroke-opacity": 0.18 }), text(left - 6, place + 4, String(Number(y.toPrecision(6))), "end", 10));
  }
  for (const x of roundTicks(10 ** low, 10 ** most).filter((one) => one > 0 && Math.log10(one) >= low && Math.log10(one) <= most)) {
    const place = at({ x, y: ys[0] })[0];
    drawing.append(svgElement("line", { x1: place, x2: place, y1: bottom, y2: bottom + 4, stroke: "currentColor" }), text(place, bottom + 17, x.toLocaleString("en"), "middle", 10));
  }
  drawing.append(text((left + right) / 2, bottom + 36, title, "middle"),
    svgElement("polyline", { points: front.map((point) => at(point).join()).join(" "), fill: "none", stroke: "#d55e00", "stroke-width": 1.6 }));
  let lastY = -99;
  for (const point of [...points].sort((a, b) => b.y - a.y)) {
    const [x, y] = at(point), isFront = front.includes(point), name = nameOf(point.model);
    drawing.append(svgElement("circle", { cx: x, cy: y, r: isFront ? 5 : 4, fill: isFront ? "#d55e00" : "#0072b2" }, svgElement("title", {}, visible(`${name}: ${figure(point.y, column.digits)} for ${figure(point.x, 1)}`))));
    if (points.length > 20 && !isFront) continue;
    const label = Math.max(y + 4, lastY + 13);
    lastY = label;
    const short = shortName(name, narrow ? 20 : 24);
    drawing.append(text(right + 12, label, typeof short === "string" ? short : short.textContent),
      svgElement("line", { x1: x + 5, y1: y, x2: right + 9, y2: label - 4, stroke: "currentColor", "stroke-opacity": 0.15 }));
  }
  return drawing;
}
