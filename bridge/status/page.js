// The ops page: one stream of events, each a whole document that replaces what is shown.

import { showCharts } from "./page.charts.js";
import { byId, color, fold, keep, make, put, putMoney, putTime } from "./page.elements.js";
import { connection, follow } from "./page.stream.js";
import { showTables } from "./page.tables.js";
import { booksTrouble, refusalWords, why } from "./page.trouble.js";
import { age, at, cut, detail, FORMATS, isKnown, joined, moment, MOODS } from "./page.words.js";
import { spaced, text, visible, zone } from "./page.words.js";

const VERSION = 2; // of the document
const WATCH_MS = 200;
const FULL = 0.8; // of the journal: worth a word
const COLORS = { ACTIVE: "#1a8f55", REDUCING: "#b97a10", DISABLED: "#b97a10", HALTED: "#c01822" };
const LOST_COLOR = "#808890";
const VERDICTS = { agree: "good", pass: "good", differ: "bad", fail: "bad" };

let told = {};
let spoken = ""; // which state was told to who hears the page
let today = new Date().toDateString();

// ---- how the stream is ----

function watch() {
  const { at: ns, failure, refusal, isBack, isLost, isPaused } = connection();
  document.body.classList.toggle("lost", isLost);
  byId("lost").hidden = !isLost;
  const since = ns && moment(ns).words;
  if (isLost) put(byId("lost"), lostWords(since, failure, refusal));
  const live = !since || isBack ? "connecting" : `live, ${since} ${zone(ns)}`;
  put(byId("heard"), isLost ? "not connected" : isPaused ? "paused" : live);
  byId("heard").title = moment(ns).title;
  showState(isLost ? "not connected" : isPaused ? "not watching" : "");
  refreshTimes();
}

function lostWords(since, failure, refusal) {
  if (failure) return `This page cannot show what it was told: ${failure}. Reload it.`;
  const tries = "Trying again by itself.";
  const reason = refusalWords(refusal);
  if (!since) return `Not connected: ${reason || "the bridge has not answered yet"}. ${tries}`;
  const more = reason && `: ${reason}`;
  return `Not connected since ${since}${more}. What is shown is from then. ${tries}`;
}

/** Give the times their day when another one has begun. */
function refreshTimes() {
  const day = new Date().toDateString();
  if (day === today) return;
  today = day;
  for (const element of document.querySelectorAll("time[datetime^='2']")) {
    putTime(element, Date.parse(element.dateTime) * 1e6);
  }
}

// ---- what is shown ----

function show(document_) {
  told = document_;
  const isRead = told.v === VERSION;
  if (!isRead) put(byId("unread"), `This page cannot read version ${text(told.v)}: reload it.`);
  byId("unread").hidden = isRead;
  showFields();
  showControl();
  showBooks();
  showVerdicts();
  showCharts(told);
  showTables(told);
}

function showFields() {
  for (const element of document.querySelectorAll("[data-field]")) {
    const value = at(told, element.dataset.field);
    const kind = element.dataset.as ?? "text";
    fold(element, FORMATS[kind](value));
    if (kind in MOODS) color(element, MOODS[kind](value));
  }
  for (const element of document.querySelectorAll("[data-time]")) {
    const ns = at(told, element.dataset.time);
    element.hidden = element.dataset.as === "detail" && !isKnown(ns);
    putTime(element, ns);
  }
}

/** Show what the state is owed to, and whether what Redis says of it is of now. */
function showControl() {
  const { state, link, ts_ns } = told;
  fold(byId("why"), cut(why(state ?? {})));
  const name = joined(state?.state, state?.cause);
  if (name !== spoken) put(byId("spoken"), spaced(joined(state?.state, cut(why(state ?? {}))[0])));
  spoken = name;
  const since = age(state?.since_ns, ts_ns);
  put(byId("since"), since && `, for ${since}`);
  const isDown = isKnown(link?.control) && link.control !== "up";
  byId("via").hidden = isDown;
  byId("control-card").classList.toggle("old", isDown);
  put(byId("control-age"), isDown ? "as last read" : "");
}

function showBooks() {
  const { books, journal, last_fill: fill, pnl, ts_ns } = told;
  const none = fill === null ? "none yet" : text(null);
  put(byId("last-fill"), fill ? spaced(fill.side, fill.qty, fill.symbol) : none);
  const before = fill && age(fill.ts_ns, ts_ns);
  put(byId("last-fill-more"), fill ? `at ${text(fill.price)}${before && `, ${before} ago`}` : "");
  const sums = Array.isArray(pnl?.realized_day) ? pnl.realized_day : [];
  const span = () => make("span", { class: "money" });
  keep(byId("realized"), sums, ({ ccy }) => text(ccy), span, (element, { amount, ccy }) =>
    putMoney(element, amount, ccy + (ccy === sums.at(-1).ccy ? "" : ",")),
  );
  put(byId("realized-none"), sums.length ? "" : books?.reader === "off" ? "no ledger" : text(null));
  const [bytes, most] = [journal?.bytes ?? 0, journal?.bytes_max || 1];
  Object.assign(byId("journal"), { max: most, low: most / 2, high: FULL * most, optimum: 0 });
  byId("journal").value = bytes;
  put(byId("journal-full"), bytes > FULL * most ? "nearly full" : "");
  const trouble = booksTrouble(books ?? {});
  byId("books-trouble").hidden = !trouble;
  put(byId("books-trouble"), trouble);
  byId("books-read").hidden = !isKnown(books?.read_ns) || Boolean(trouble); // which says it
  byId("books-off").hidden = books?.reader !== "off";
}

function showVerdicts() {
  const none = { audit: "no audit yet", acceptance: "none yet: make accept" };
  for (const id of ["audit", "acceptance"]) {
    const verdict = told[id]?.verdict;
    put(byId(id), told[id] === null ? none[id] : text(verdict));
    color(byId(id), VERDICTS[verdict] ?? (verdict ? "warn" : ""));
  }
}

/** Show the state where it is seen without reading: in color, in the title, in the tab's mark. */
function showState(instead) {
  const state = told.state?.state;
  byId("state").dataset.state = detail(state);
  const parts = [instead || text(state), told.role, "Nautilus bridge"];
  const title = visible(parts.filter(Boolean).join(" · "));
  if (document.title !== title) document.title = title;
  const mark = markOf(instead ? "" : state);
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
showControl();
showBooks();
showVerdicts();
follow((document_) => {
  show(document_);
  setTimeout(watch); // when it is noted as shown
});
setInterval(watch, WATCH_MS);
