/**
 * Which transport worked last, also over page loads: who sits behind a proxy that blocks
 * WebSocket should not wait for that to show on every page.
 *
 * A page may not be allowed to store anything; then each load finds out anew.
 */

import { REMEMBER_MS } from "./limits.js";

/** @typedef {Pick<Storage, "getItem" | "setItem">} Store */

/**
 * @param {URL} base
 * @param {Store} [storage] the page's `localStorage` unless given
 */
export function memory({ href }, storage) {
  const key = `broadcast-hub ${href}`;
  // Only where there is a page: Node warns about its own. Throws like one that is forbidden.
  const store = () => storage ?? (document && localStorage);
  return {
    /** "" where nothing is known, or not any more. */
    recall() {
      try {
        const [name, until] = /** @type {string} */ (store().getItem(key)).split(" ");
        return Number(until) > Date.now() ? name : "";
      } catch {
        return "";
      }
    },

    /** @param {string} name */
    keep(name) {
      try {
        store().setItem(key, `${name} ${Date.now() + REMEMBER_MS}`);
      } catch {
        // As above.
      }
    },
  };
}
