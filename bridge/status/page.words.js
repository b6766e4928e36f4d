// Values -> the words that stand on the page. Amounts are not touched: they stay as they were sent.

const UNKNOWN = "not known";

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

export const isKnown = (value) => value !== null && value !== undefined && value !== "";
export const isNumber = (value) => typeof value === "number";
const two = (value) => String(value).padStart(2, "0");

/** Return what stands at a path such as "state.reason"; undefined where a part is missing. */
export const at = (value, path) => path.split(".").reduce((found, name) => found?.[name], value);

export const text = (value) => (isKnown(value) ? String(value) : UNKNOWN);
export const detail = (value) => (isKnown(value) ? String(value) : "");
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
  if (!isNumber(ns) || ns <= 0) return { words: UNKNOWN, iso: "", title: "" };
  const when = new Date(ns / 1e6);
  const iso = when.toISOString();
  const isToday = when.toDateString() === new Date().toDateString();
  return {
    words: isToday ? clock.format(when) : `${day.format(when)} ${clock.format(when)}`,
    iso,
    title: iso.replace("T", " ").replace("Z", " UTC"),
  };
}

/** Return "good", "bad" or "" for the sign of an amount, which is read from its text. */
export function moodOfMoney(value) {
  if (!/^[-+]?[\d.]/.test(value) || !/[1-9]/.test(value)) return "";
  return String(value).startsWith("-") ? "bad" : "good";
}

const choice = (yes, no) => (value) => (value === true ? yes : value === false ? no : UNKNOWN);

// How the fields of the page are told (`data-as`), and which of them want to be seen.
export const FORMATS = {
  text,
  detail,
  count,
  troubles: count,
  size,
  duration,
  flag: choice("on", "off"),
  ready: choice("yes", "no"),
  latch: (value) => (value === "" ? "not latched" : text(value)),
  prefix: (value) => (value === "" ? "none" : text(value)),
  link: text,
};
export const MOODS = {
  flag: (value) => (value === false ? "warn" : ""),
  ready: (value) => (value === false ? "warn" : ""),
  latch: (value) => (isKnown(value) ? "bad" : ""),
  link: (value) => (value === "up" ? "good" : isKnown(value) ? "bad" : ""),
  troubles: (value) => (value > 0 ? "warn" : ""),
};
