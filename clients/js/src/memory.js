/**
 * The transport that worked last, also over page loads: a visitor behind a proxy that blocks
 * WebSocket should not wait for that to show on every page.
 *
 * A page may not be allowed to store anything; then each load finds out anew.
 */

import { REMEMBER_MS } from "./limits.js";

/**
 * @typedef {object} Store
 * @property {(key: string) => string | null} getItem
 * @property {(key: string, text: string) => void} setItem
 */

/**
 * The transport that worked, nothing where none is known or not any more.
 * @param {URL} base
 * @param {Store} [storage] the page's `localStorage` unless given
 * @param {string} [worked] to be known from now on
 */
export function remember(base, storage, worked) {
  const key = `broadcast-hub ${base}`;
  try {
    // Only where there is a page: Node warns about its own. Throws like one that is forbidden.
    const store = storage ?? (document && localStorage);
    if (worked) store.setItem(key, `${worked} ${Date.now() + REMEMBER_MS}`);
    const [name, until] = /** @type {string} */ (store.getItem(key)).split(" ");
    const left = Number(until) - Date.now();
    if (left > 0 && left <= REMEMBER_MS) return name; // more: the clock was set since
  } catch {
    // As above.
  }
}
