/**
 * The transport that worked last, also over page loads: a visitor behind a proxy that blocks
 * WebSocket should not wait for that to show on every page.
 *
 * A page may not be allowed to store anything; then each load finds out anew.
 */
export type Store = {
    getItem: (key: string) => string | null;
    setItem: (key: string, text: string) => void;
};
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
export declare function remember(base: URL, storage?: Store, worked?: string): string | undefined;
