// The page's elements: what was sent becomes text and attributes, never markup.

import { isKnown, moment, moodOfMoney, spaced, text, visible } from "./page.words.js";

const WORDS_LENGTH = 20; // of a text that stands for another; a longer one is its beginning
const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes = {}, content = "") {
  return made(document.createElement(tag), attributes, content);
}

export function draw(tag, attributes = {}) {
  return made(document.createElementNS(SVG, tag), attributes, "");
}

function made(element, attributes, content) {
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, visible(value));
  }
  element.textContent = visible(content);
  return element;
}

/** Set what differs only: a live region speaks at each change, and a selection should last. */
export function put(element, value) {
  const shown = visible(value);
  if (element.firstElementChild || element.textContent !== shown) element.textContent = shown;
}

/** Set a text; of a pair the second part shows when somebody opens it. */
export function fold(element, said) {
  const [head, rest] = [said].flat();
  if (!rest) return put(element, head);
  if (element.firstElementChild?.localName !== "details") {
    const details = make("details");
    details.append(make("summary"), make("span"));
    element.replaceChildren(details);
  }
  const [summary, more] = element.firstElementChild.children;
  element.firstElementChild.classList.toggle("cut", head.length > WORDS_LENGTH);
  put(summary, head);
  put(more, rest);
}

/** Give an element one of the classes good, warn and bad, or none. */
export function color(element, mood) {
  for (const name of ["good", "warn", "bad"]) element.classList.toggle(name, name === mood);
}

export function putTime(element, ns) {
  const { words, iso, title } = moment(ns);
  put(element, words);
  if (element.getAttribute("datetime") !== iso) element.setAttribute("datetime", iso);
  if (element.title !== title) element.title = title;
}

export function timeOf(ns) {
  const element = make("time");
  putTime(element, ns);
  return element;
}

export function putMoney(element, value, currency) {
  put(element, isKnown(value) ? spaced(value, currency) : text(value));
  color(element, moodOfMoney(value));
}

/**
 * Make `parent` hold one element for each item, in their order; what it held before those stays in
 * front. An element stays as long as its item does, with what is open or selected in it, and is new
 * until the next time.
 */
export function keep(parent, items, keyOf, build, update = () => {}) {
  const before = parent.kept;
  const after = new Map();
  for (const item of items) {
    let key = keyOf(item);
    while (after.has(key)) key += " again";
    const element = before?.get(key) ?? build(item);
    element.classList.toggle("new", Boolean(before?.size && !before.has(key)));
    update(element, item);
    after.set(key, element);
  }
  for (const [key, element] of before ?? []) if (!after.has(key)) element.remove();
  let place = null;
  for (const element of [...after.values()].reverse()) {
    if (element.parentNode !== parent || element.nextElementSibling !== place) {
      parent.insertBefore(element, place);
    }
    place = element;
  }
  parent.kept = after;
}
