/** Elements from code: no template language, no text ever becomes markup, none steers another. */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, any>} Props */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {Element} element
 * @param {Props} props attributes; `on…` are listeners, null and false are left out
 */
function apply(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, String(value));
    }
  }
}

// What would steer how the text around it is shown, and never is one itself: control
// characters, line ends, and the marks that turn the direction of writing (UAX #9).
const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/**
 * Text that peers chose, on one line and in the order it has: what steers becomes \ufffd.
 * @param {string} text
 */
const plain = (text) => text.replace(UNSEEN, "\ufffd");

/**
 * The same for JSON, which stays the JSON that it is.
 * @param {string} json
 */
export const escaped = (json) =>
  json.replace(UNSEEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** @param {Child[]} children */
const kept = (children) =>
  children.flat().filter((child) => child !== null && child !== undefined && child !== false);

/**
 * @param {string} tag
 * @param {Props} [props]
 * @param {...(Child | Child[])} children
 * @returns {any} the element
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  apply(element, props);
  element.append(.../** @type {any[]} */ (kept(/** @type {Child[]} */ (children))).map(asNode));
  return element;
}

/** @param {Node | string | number} child */
const asNode = (child) => (child instanceof Node ? child : plain(String(child)));

/**
 * @param {string} tag
 * @param {Props} [props]
 * @param {...Element} children
 */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  apply(element, props);
  element.append(...children);
  return element;
}

/**
 * Other children for `parent`, which changes under the operator's hands: what had the focus
 * keeps it, by its `data-place`.
 * @param {any} parent
 * @param {Child[]} children
 */
export function swap(parent, children) {
  const focus = /** @type {any} */ (document.activeElement);
  const place = parent.contains(focus) ? focus.dataset.place : undefined;
  parent.replaceChildren(.../** @type {any[]} */ (kept(children)));
  if (place === undefined) return;
  const same = [...parent.querySelectorAll("[data-place]")].find((each) => each.dataset.place === place);
  same?.focus({ preventScroll: true });
}

/**
 * A labelled field of a form.
 * @param {string} label
 * @param {any} input
 * @param {string} [hint]
 */
export function field(label, input, hint) {
  return h("label", { class: "field" }, h("span", {}, label), input, hint && h("small", {}, hint));
}

/**
 * What a view shows in place of its content: nothing there, an error, not loaded yet.
 * @param {string} title
 * @param {string} text
 * @param {any} [action]
 */
export function state(title, text, action) {
  return h("div", { class: "state" }, h("h2", {}, title), h("p", {}, text), action);
}

/** @param {unknown} error */
const reason = (error) => (error instanceof Error ? error.message : String(error));

/** What stands beside figures that are from before. @param {unknown} error */
export const notUpToDate = (error) => `Not up to date: ${reason(error)}`;

/**
 * @param {string} title
 * @param {unknown} error
 * @param {() => void} again
 */
export function failure(title, error, again) {
  const text = reason(error);
  const box = state(title, text, h("button", { type: "button", onclick: again }, "Try again"));
  box.classList.add("failed");
  return box;
}

/** What may be long has a row of its own. */
const WIDE = ["User agent", "Patterns"];

/**
 * Terms and what they are, as a list of boxes.
 * @param {[string, Child][]} facts
 */
export function factList(facts) {
  const boxes = facts.map(([term, value]) =>
    h("div", { class: WIDE.includes(term) && "wide" }, h("dt", {}, term), h("dd", {}, value === "" || value === null ? "–" : value)),
  );
  return h("dl", { class: "facts" }, ...boxes);
}
