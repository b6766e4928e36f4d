// The stream of events, kept up for as long as somebody can see the page.

const STALE_MS = 3000; // silence after which nothing that is shown may be believed
const RETRY_MS = 4000; // silence after which a new connection is tried, and again
const HIDDEN_MS = 60_000; // a browser has six connections to a host: who is not seen gives his back

let source; // none while the page is hidden
let take; // shows a document, or throws
let tried; // performance.now() of the last attempt to connect,
let came; // of the last document, or of the start,
let hiddenAt; // and since when the page is hidden; undefined while it is not
let told = { at: 0, shown: 0, failure: "", refusal: 0, isBack: false };

/** Give each document to `show`; all else is told by `connection`. */
export function follow(show) {
  take = show;
  came = told.shown = performance.now();
  document.addEventListener("visibilitychange", look);
  look();
  connect();
}

/**
 * Keep the stream up, and return how it is: `at` is when the last document was shown, by the clock
 * in ns, 0 for none. EventSource tries again too, but gives up at an answer such as 503, and waits
 * forever on a connection that died without a word.
 */
export function connection() {
  const now = performance.now();
  if (source && now - hiddenAt > HIDDEN_MS) {
    source.close();
    source = undefined;
  }
  if (source && now - came > RETRY_MS && now - tried > RETRY_MS) connect();
  const { at, shown, failure, refusal, isBack } = told;
  const isLost = Boolean(source) && (Boolean(failure) || now - shown > STALE_MS);
  return { at, failure, refusal, isBack, isLost, isPaused: !source };
}

function connect() {
  source?.close();
  tried = performance.now();
  source = new EventSource("events");
  source.onmessage = ({ data }) => {
    came = performance.now();
    try {
      take(JSON.parse(data));
      told = { at: Date.now() * 1e6, shown: came, failure: "", refusal: 0, isBack: false };
    } catch (error) {
      console.error(error);
      told = { ...told, failure: String(error) };
    }
  };
  source.onerror = ({ target }) => target.readyState === EventSource.CLOSED && ask();
}

/** Ask why there is no stream: an EventSource does not say. */
async function ask() {
  try {
    const { status } = await fetch("events", { method: "HEAD", cache: "no-store" });
    told.refusal = status;
  } catch {
    told.refusal = 0;
  }
}

function look() {
  hiddenAt = document.hidden ? (hiddenAt ?? performance.now()) : undefined;
  if (document.hidden || source || tried === undefined) return;
  came = performance.now();
  told = { ...told, shown: came, isBack: true };
  connect();
}
