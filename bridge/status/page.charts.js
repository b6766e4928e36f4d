// The last five minutes as small charts. What they show is kept here: the bridge sends the present.

import { byId, color, draw, make, put } from "./page.elements.js";
import { standing } from "./page.trouble.js";
import { at, isNumber, measured } from "./page.words.js";

const WINDOW_MS = 5 * 60 * 1000;
const MEAN_MS = 10_000; // over which a rate is leveled: entries come in bursts
const SAMPLE_MS = 500; // what comes sooner is not drawn
const GAP_MS = 3000; // a longer silence is a gap in the line
const WIDTH = 300; // of a drawing, in its own units
const HEIGHT = 50;
const CHARTS = [
  { title: "Market entries", unit: "/s", paths: ["rates.market_per_s"], mean: true },
  { title: "Exec entries", unit: "/s", paths: ["rates.exec_per_s"], mean: true },
  {
    title: "Publish, p99",
    unit: " ms",
    paths: ["latency_ms.publish_p99", "latency_ms.publish_p50"],
    second: "p50",
    scope: "exec, last minute",
  },
  {
    title: "Journal append, p99",
    unit: " ms",
    paths: ["latency_ms.journal_p99"],
    scope: "last minute",
  },
  {
    title: "Event loop, p99",
    unit: " ms",
    paths: ["latency_ms.loop_p99"],
    scope: "delay, last minute",
  },
  { title: "Unacknowledged", unit: "", paths: ["journal.unacknowledged"], falls: true },
];

let charts = null; // CHARTS, each with its elements
let seen = []; // samples {ms, raw, drawn}, the two by path; the oldest first

/** Add what a document says to the charts. */
export function showCharts(told) {
  charts ??= CHARTS.map(build);
  const now = Number(told.ts_ns) / 1e6;
  if (seen.length && now < seen.at(-1).ms) seen = []; // the clock was set back
  if (seen.length && now < seen.at(-1).ms + SAMPLE_MS) return;
  const sample = { ms: now, raw: {}, drawn: {} };
  seen = [...seen.filter(({ ms }) => ms > now - WINDOW_MS), sample];
  for (const { paths, mean } of CHARTS) {
    for (const path of paths) {
      sample.raw[path] = at(told, path);
      sample.drawn[path] = mean ? leveled(path, now) : sample.raw[path];
    }
  }
  for (const chart of charts) update(chart, now);
}

/** Return the mean of the last while. */
function leveled(path, now) {
  const last = seen.filter(({ ms }) => ms > now - MEAN_MS).map(({ raw }) => raw[path]);
  const numbers = last.filter(isNumber);
  return numbers.length ? numbers.reduce((sum, each) => sum + each) / numbers.length : null;
}

function build(chart) {
  const { title, paths, second, mean, scope } = chart;
  const figure = make("figure", { class: "card" });
  const caption = make("figcaption");
  const [value, peak, beside] = [make("b"), make("span"), make("span")];
  if (second) beside.classList.add("second");
  caption.append(make("span", {}, title), value);
  const svg = draw("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
  });
  const floor = draw("path", { class: "floor", d: `M0,${HEIGHT}H${WIDTH}` });
  const area = draw("path", { class: "area" });
  const lines = paths.map((_, index) => draw("path", { class: index ? "second" : "first" }));
  svg.append(floor, area, ...[...lines].reverse());
  const foot = make("small");
  foot.append(beside, peak);
  figure.append(caption, svg, foot);
  byId("charts").append(figure);
  if (mean) put(beside, `mean of ${MEAN_MS / 1000} s`);
  if (scope) figure.append(make("small", {}, scope));
  return { ...chart, value, peak, beside, svg, area, lines };
}

function update({ title, unit, paths, second, falls, value, peak, beside, ...drawn }, now) {
  const { svg, area, lines } = drawn;
  const curves = paths.map((path) => seen.map(({ ms, drawn }) => [ms, drawn[path]]));
  const values = curves.flat().map(([, each]) => each).filter(isNumber);
  const top = Math.max(0, ...values);
  const present = curves.map((curve) => measured(curve.at(-1)[1], unit));
  const highest = values.length ? `peak ${measured(top, unit)}` : "";
  put(value, present[0]);
  put(peak, highest);
  if (second) put(beside, `${second} ${present[1]}`);
  if (falls) {
    put(beside, standing(title, curves[0].at(-1)[1], now * 1e6));
    for (const element of [value, beside]) color(element, beside.textContent ? "warn" : "");
  }
  const words = [`${title}: ${present[0]}`, beside.textContent, highest];
  svg.setAttribute("aria-label", words.filter(Boolean).join(", "));
  const parts = curves.map((curve) => segments(curve, now, top || 1));
  parts.forEach((each, index) => lines[index].setAttribute("d", each.map(line).join("")));
  area.setAttribute("d", parts[0].map(filled).join(""));
}

/** Return the drawn points of a curve, [x, y], in one list for each stretch without a gap. */
function segments(curve, now, top) {
  const found = [];
  let last = -Infinity;
  for (const [ms, value] of curve) {
    if (!isNumber(value)) continue;
    if (ms - last > GAP_MS) found.push([]);
    last = ms;
    const x = WIDTH - ((now - ms) / WINDOW_MS) * WIDTH;
    found.at(-1).push([x.toFixed(1), (HEIGHT - (value / top) * HEIGHT).toFixed(1)]);
  }
  return found;
}

// A stretch of one point is a dot: a line of no length with round ends.
const line = (points) => `M${points.join("L")}${points.length === 1 ? "h0" : ""}`;
const filled = (points) => `M${points[0][0]},${HEIGHT}L${points.join("L")}V${HEIGHT}Z`;
