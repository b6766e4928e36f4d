// The ops page: one stream of events, each a whole document that replaces what is shown.

import { showCharts } from "./page.charts.js";
import { byId, color, put, putMoney, putTime } from "./page.elements.js";
import { showTables } from "./page.tables.js";
import { age, at, detail, FORMATS, isKnown, joined, MOODS } from "./page.words.js";
import { moment, spaced, text } from "./page.words.js";

const VERSION = 1; // of the document
const STALE_MS = 3000; // silence after which nothing that is shown may be believed
const RETRY_MS = 4000; // silence after which a new connection is tried, and again
const WATCH_MS = 200;
const COLORS = { ACTIVE: "#1a8f55", REDUCING: "#b97a10", DISABLED: "#b97a10", HALTED: "#c01822" };
const LOST_COLOR = "#808890";
const VERDICTS = { agree: "good", pass: "good", differ: "bad", fail: "bad" };

let source;
let tried; // performance.now() of the last attempt to connect
let heard = performance.now(); // and of the last document, or of the start
let heardAt = 0; // the same by the clock, in ns; 0 before the first document
let told = {};

// ---- the stream ----

function connect() {
  source?.close();
  tried = performance.now();
  source = new EventSource("events");
  source.onmessage = ({ data }) => {
    told = JSON.parse(data);
    heard = performance.now();
    heardAt = Date.now() * 1e6;
    show();
    watch();
  };
}

/**
 * Say so when nothing comes, and try again. EventSource does that too, but gives up at an answer
 * such as 503, and waits forever on a connection that died without a word.
 */
function watch() {
  const now = performance.now();
  if (now - heard > RETRY_MS && now - tried > RETRY_MS) connect();
  const isLost = now - heard > STALE_MS;
  document.body.classList.toggle("lost", isLost);
  byId("lost").hidden = !isLost;
  if (isLost) put(byId("lost"), lostWords());
  const live = heardAt ? `live, ${moment(heardAt).words}` : "connecting";
  put(byId("heard"), isLost ? "not connected" : live);
  showState(isLost);
}

function lostWords() {
  if (!heardAt) return "Not connected: the bridge has not answered yet. Trying again by itself.";
  const since = moment(heardAt).words;
  return `Not connected since ${since}: what is shown is from then. Trying again by itself.`;
}

// ---- what is shown ----

function show() {
  const isRead = told.v === VERSION;
  if (!isRead) put(byId("unread"), `This page cannot read version ${text(told.v)}: reload it.`);
  byId("unread").hidden = isRead;
  showFields();
  showDetails();
  showCharts(told);
  showTables(told);
}

function showFields() {
  for (const element of document.querySelectorAll("[data-field]")) {
    const value = at(told, element.dataset.field);
    const kind = element.dataset.as ?? "text";
    put(element, FORMATS[kind](value));
    if (kind in MOODS) color(element, MOODS[kind](value));
  }
  for (const element of document.querySelectorAll("[data-time]")) {
    const ns = at(told, element.dataset.time);
    element.hidden = element.dataset.as === "detail" && !isKnown(ns);
    putTime(element, ns);
  }
  for (const element of document.querySelectorAll("[data-money]")) {
    const { money, currency } = element.dataset;
    putMoney(element, at(told, money), at(told, currency));
  }
}

/** Show what is made of several fields. */
function showDetails() {
  const { state, journal, audit, acceptance, feed, ts_ns } = told;
  put(byId("why"), joined(state?.cause, state?.reason));
  const since = age(state?.since_ns, ts_ns);
  put(byId("since"), since && `, for ${since}`);
  const fill = Array.isArray(feed) ? feed.find(({ kind }) => kind === "fill") : undefined;
  const words = fill && spaced(fill.side, fill.qty, fill.symbol);
  put(byId("last-fill"), fill ? words : Array.isArray(feed) ? "none yet" : text(null));
  const before = fill && age(fill.ts_ns, ts_ns);
  put(byId("last-fill-more"), fill ? `at ${text(fill.price)}${before && `, ${before} ago`}` : "");
  byId("journal").max = journal?.bytes_max || 1;
  byId("journal").value = journal?.bytes ?? 0;
  for (const [id, verdict] of [["audit", audit?.verdict], ["acceptance", acceptance?.verdict]]) {
    put(byId(id), text(verdict));
    color(byId(id), VERDICTS[verdict] ?? (verdict ? "warn" : ""));
  }
}

/** Show the state where it is seen without reading: in color, in the title, in the tab's mark. */
function showState(isLost) {
  const state = told.state?.state;
  byId("state").dataset.state = detail(state);
  const words = isLost ? "not connected" : text(state);
  const title = [words, told.role, "Nautilus bridge"].filter(Boolean).join(" · ");
  if (document.title !== title) document.title = title;
  const mark = markOf(isLost ? "" : state);
  if (byId("mark").getAttribute("href") !== mark) byId("mark").setAttribute("href", mark);
}

/** Return the tab's mark: a disc in the state's color, a square with a bar when halted. */
function markOf(state) {
  const fill = COLORS[state] ?? LOST_COLOR;
  const shape =
    state === "HALTED"
      ? `<rect width="16" height="16" rx="2" fill="${fill}"/><path d="M3 6h10v4H3z" fill="#fff"/>`
      : `<circle cx="8" cy="8" r="7" fill="${fill}"/>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${shape}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

showFields();
showDetails();
connect();
setInterval(watch, WATCH_MS);
