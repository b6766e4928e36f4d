// Tables and lists of the page: positions with their lots, orders and fills, readers, control.

import { byId, color, fold, keep, make, put, putMoney, timeOf } from "./page.elements.js";
import { standing, why } from "./page.trouble.js";
import { count, cut, detail, isKnown, isNumber, joined, spaced, text } from "./page.words.js";

const list = (value) => (Array.isArray(value) ? value : []);
const READING = new Set(["reads", "a process of its own"]);
const REFUSED = new Set(["denied", "rejected"]);
const byContent = (item) => JSON.stringify(item);

export function showTables(told) {
  showPositions(told.positions, told.books?.positions_total);
  keep(byId("feed-rows"), list(told.feed), byContent, feedRow);
  say("feed-none", told.feed, "No order and no fill yet.");
  keep(byId("reader-rows"), list(told.readers), ({ name }) => text(name), readerRow, (row, item) =>
    updateReader(row, item, told.ts_ns),
  );
  say("readers-none", told.readers, "No reader has said anything yet.");
  keep(byId("control"), list(told.control), byContent, controlItem);
  say("control-none", told.control, "Nothing has changed yet.");
}

/** Say why a list is empty: there is nothing, or nothing is known. */
function say(id, value, nothing) {
  put(byId(id), !Array.isArray(value) ? text(null) : value.length ? "" : nothing);
}

function cell(content, attributes = {}) {
  return make("td", { role: "cell", ...attributes }, content);
}

/** Return a cell for a number; where there is no room for a head, `label` stands before it. */
function numeric(content, label) {
  return cell(content, { class: "n", "data-label": label });
}

function row(...cells) {
  const made = make("tr", { role: "row" });
  made.append(...cells);
  return made;
}

// ---- orders and fills ----

function feedRow(item) {
  const time = cell("");
  time.append(timeOf(item.ts_ns));
  const order = cell(detail(item.cl_ord_id), { class: "id" });
  if (item.reason) {
    const reason = make("span", { class: "reason" });
    fold(reason, cut(item.reason));
    order.append(" ", reason);
  }
  const isFill = item.kind === "fill";
  const what = cell(joined(item.kind, isFill ? "" : item.status));
  color(what, REFUSED.has(item.status) ? "bad" : "");
  const made = row(
    time,
    what,
    cell(detail(item.side)),
    cell(detail(item.symbol)),
    numeric(detail(item.qty), "quantity"),
    numeric(detail(item.price), "price"),
    numeric(spaced(item.fee, item.fee && item.fee_ccy), "fee"),
    order,
  );
  made.classList.toggle("fill", isFill);
  return made;
}

// ---- positions ----

let opened = 0; // numbers the rows of lots, for `aria-controls`

function showPositions(positions, total) {
  const key = ({ account, venue, symbol }) => JSON.stringify([account, venue, symbol]);
  keep(byId("positions"), list(positions), key, positionRows, updatePosition);
  say("positions-none", positions, "No open position.");
  const shown = list(positions).length;
  const many = isNumber(total) && total > shown ? `${shown} of ${total}` : String(shown);
  put(byId("positions-count"), Array.isArray(positions) ? many : "");
}

/** Return the body of a position: its row, and the row of its lots, which a button opens. */
function positionRows({ symbol, venue, account }) {
  const body = make("tbody", { role: "rowgroup" });
  const id = `lots-${(opened += 1)}`;
  const name = make("th", { role: "rowheader", scope: "row" }, text(symbol));
  const button = make("button", { type: "button", "aria-expanded": "false", "aria-controls": id });
  name.append(button, make("small", { class: "account" }, spaced(venue, account)));
  const first = row(name, cell(""), numeric("", "quantity"), numeric("", "average"));
  first.append(numeric("", "realized"), numeric("", "unrealized"));
  first.classList.add("position");
  const inside = cell("", { colspan: "6" });
  inside.append(lotTable());
  const second = row(inside);
  second.classList.add("lots");
  Object.assign(second, { id, hidden: true });
  button.addEventListener("click", () => {
    second.hidden = !second.hidden;
    button.setAttribute("aria-expanded", String(!second.hidden));
  });
  body.append(first, second);
  return body;
}

function lotTable() {
  const table = make("table", { role: "table" });
  const head = make("thead", { role: "rowgroup" });
  const heading = (words) => make("th", { role: "columnheader", scope: "col" }, words);
  head.append(row(heading("Quantity"), heading("Price"), heading("Since")));
  table.append(make("caption"), head, make("tbody", { role: "rowgroup" }));
  return table;
}

function updatePosition(body, { symbol, side, qty, avg_px, ccy, ...more }) {
  const [, sideCell, quantity, average, realized, unrealized] = body.rows[0].cells;
  put(sideCell, text(side));
  put(quantity, text(qty));
  put(average, text(avg_px));
  putMoney(realized, more.realized_pnl, ccy);
  putMoney(unrealized, more.unrealized_pnl, ccy);
  const lots = list(more.lots);
  const total = more.lots_total ?? lots.length;
  const words = total === 1 ? "1 lot" : `${total} lots`;
  const button = body.querySelector("button");
  button.hidden = !lots.length;
  put(button, words);
  const label = `${words} of ${text(symbol)}`;
  if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
  put(body.querySelector("caption"), total > lots.length ? `The oldest ${lots.length}` : "Lots");
  keep(body.querySelector(".lots tbody"), lots, byContent, lotRow);
}

function lotRow({ qty, price, ts_ns }) {
  const since = cell("");
  since.append(timeOf(ts_ns));
  return row(cell(text(qty)), cell(text(price)), since);
}

// ---- readers and control ----

function readerRow({ name }) {
  const head = make("th", { role: "rowheader", scope: "row" }, text(name));
  return row(head, cell(""), numeric("", "behind"), numeric("", "gaps"));
}

function updateReader(row, { name, state, lag_entries, gaps }, ns) {
  const [, stateCell, lag, gapCell] = row.cells;
  const isWell = READING.has(state);
  fold(stateCell, isWell ? state : isKnown(state) ? ["does not read", state] : text(state));
  color(stateCell, isWell ? "" : "bad");
  const trouble = standing(`reader ${name}`, lag_entries, ns);
  put(lag, spaced(count(lag_entries), trouble && `(${trouble})`));
  color(lag, trouble ? "warn" : "");
  put(gapCell, count(gaps));
  color(gapCell, gaps > 0 ? "bad" : "");
}

function controlItem({ ts_ns, state, was, cause, reason, canceled, refused, positions_left }) {
  const item = make("li", { "data-state": detail(state) });
  const from = isKnown(was) && was !== state ? ` was ${was} ` : " ";
  item.append(make("strong", {}, text(state)), from, timeOf(ts_ns));
  const done = [
    canceled && `${canceled} canceled`,
    refused && `${refused} refused`,
    positions_left && `${positions_left} positions left`,
  ];
  const words = [why({ cause, reason }), done.filter(Boolean).join(", ")].filter(Boolean);
  const more = make("span", { class: "dim" });
  fold(more, cut(words.join("; ")));
  item.append(more);
  return item;
}
