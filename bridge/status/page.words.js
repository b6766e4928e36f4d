// Values -> the words that stand on the page. Amounts are not touched: they stay as they were sent.

const UNKNOWN = "not known";

const CUT_CHARACTERS = 160; // of a long text, before it is opened
const LONG_CHARACTERS = 200;

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const zoned = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });
const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

export const isKnown = (value) => value !== null && value !== undefined && value !== "";
export const isNumber = (value) => typeof value === "number";
const two = (value) => String(value).padStart(2, "0");

/** Return what stands at a path such as "state.reason"; undefined where a part is missing. */
export const at = (value, path) => path.split(".").reduce((found, name) => found?.[name], value);

export const text = (value) => (isKnown(value) ? String(value) : UNKNOWN);
export const detail = (value) => (isKnown(value) ? String(value) : "");
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Return a text in which what turns the direction of writing around is seen as what it is. */
export const visible = (value) => value.replace(TURNING, code);
const code = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** Return the beginning of a long text, to the end of a word, and the rest; else all of it. */
export function cut(value) {
  const characters = [...value];
  if (characters.length <= LONG_CHARACTERS) return [value];
  const head = characters.slice(0, CUT_CHARACTERS).join("").replace(/(\s)\S{0,40}$/, "$1");
  return [head, value.slice(head.length)];
}

export const count = (value) => (isNumber(value) ? grouped.format(value) : UNKNOWN);
export const joined = (...values) => values.filter(isKnown).join(": ");
export const spaced = (...values) => values.filter(isKnown).join(" ");

/** Return a measurement with three digits, and `unit` behind it. */
export function measured(value, unit) {
  if (!isNumber(value)) return UNKNOWN;
  return (Math.abs(value) < 1000 ? short : grouped).format(value) + unit;
}

/** Return "2 h 03 min" for 7380 seconds. */
export function duration(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes < 1) return `${whole} s`;
  if (hours < 1) return `${minutes} min ${two(whole % 60)} s`;
  if (hours < 24) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

/** Return how long before `now_ns` something was. */
export const age = (ns, now_ns) => (isNumber(ns) && ns > 0 ? duration((now_ns - ns) / 1e9) : "");

function size(bytes) {
  if (!isNumber(bytes)) return UNKNOWN;
  const power = bytes < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${short.format(bytes / 1024 ** power)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** Return a time as {words, iso, title}: in the viewer's zone, its day first unless it is today. */
export function moment(ns) {
  const when = new Date(isNumber(ns) && ns > 0 ? ns / 1e6 : NaN);
  if (Number.isNaN(when.getTime())) return { words: UNKNOWN, iso: "", title: "" };
  const iso = when.toISOString();
  const isToday = when.toDateString() === new Date().toDateString();
  return {
    words: isToday ? clock.format(when) : `${day.format(when)} ${clock.format(when)}`,
    iso,
    title: iso.replace("T", " ").replace("Z", " UTC"),
  };
}

/** Return the name of the viewer's zone at a time. */
export function zone(ns) {
  return zoned.formatToParts(new Date(ns / 1e6)).find(({ type }) => type === "timeZoneName").value;
}

/** Return "good", "bad" or "" for the sign of an amount, which is read from its text. */
export function moodOfMoney(value) {
  if (!/^[-+]?[\d.]/.test(value) || !/[1-9]/.test(value)) return "";
  return String(value).startsWith("-") ? "bad" : "good";
}

const choice = (yes, no) => (value) => (value === true ? yes : value === false ? no : UNKNOWN);

/** Return "down" for what is wrong, and behind it what that is. */
function link(value) {
  const isShort = !isKnown(value) || value === "up" || value === "down";
  return isShort || value.startsWith("silent") ? text(value) : ["down", value];
}

// How the fields of the page are told (`data-as`; with a second text: that shows once it is
// opened), and which of them want to be seen.
export const FORMATS = {
  text,
  detail,
  count,
  troubles: count,
  size,
  duration,
  flag: choice("on", "off"),
  node: text,
  ready: choice("yes", "no"),
  latch: (value) => (value === "" ? "not latched" : isKnown(value) ? ["latched", value] : UNKNOWN),
  long: (value) => cut(detail(value)),
  mode: (value) => (value === "missing" ? "missing (normal)" : text(value)),
  problem: (value) => (isKnown(value) ? ["why", value] : ""),
  prefix: (value) => (value === "" ? "none" : text(value)),
  link,
};
export const MOODS = {
  flag: (value) => (value === false ? "warn" : ""),
  node: (value) => (isKnown(value) && value !== "running" ? "warn" : ""),
  ready: (value) => (value === false ? "warn" : ""),
  latch: (value) => (isKnown(value) ? "bad" : ""),
  link: (value) => (value === "up" ? "good" : isKnown(value) ? "bad" : ""),
  troubles: (value) => (value > 0 ? "warn" : ""),
};
