// What is wrong, in words, as far as no single field says it.

import { count, isKnown, joined, moment } from "./page.words.js";

const STANDING_SECONDS = 5; // so long a number of entries that wait may be without falling
const known = new Map(); // by name: the number as it was last, and when it fell last

/** Return words for a number that should fall and has not for a while, else "". */
export function standing(name, value, ns) {
  const before = known.get(name);
  const isFalling = !before || !(value > 0) || value < before.value || ns < before.ns;
  known.set(name, { value, ns: isFalling ? ns : before.ns });
  const seconds = Math.floor((ns - known.get(name).ns) / 1e9);
  return seconds > STANDING_SECONDS ? `not falling for ${seconds} s` : "";
}

/** Return why the books cannot be believed, else "". */
export function booksTrouble({ read_ns, booked_ns, behind, late, problem } = {}) {
  if (!isKnown(read_ns)) return problem ? `There are no books: ${problem}` : "";
  if (!late) return "";
  const many = behind === 1 ? "a fill is" : `${count(behind)} fills are`;
  const why = problem ? `cannot be read: ${problem}` : `are behind: ${many} not in them yet`;
  const since = moment(problem || !booked_ns ? read_ns : booked_ns).words;
  return `The books ${why}. Positions, lots and gains are as of ${since}; unrealized is left out.`;
}

/** Return why there is no stream, by what the bridge answered. */
export function refusalWords(status) {
  if (status === 401) return "the token is not accepted any more, open /?token=...";
  if (status === 403) return "this address may not look, see status.trusted_proxy";
  if (status === 503) return "16 pages look on already, close one";
  return status >= 400 ? `the bridge answers ${status}` : "";
}

/** Return what a state is owed to. */
export function why({ cause, reason } = {}) {
  return cause === "clear" ? joined("nothing restrains it", reason) : joined(cause, reason);
}
