/** Links between views, and the addresses that hold what a view was asked. */

import { h } from "./dom.js";

/** @param {string} name */
export const channelLink = (name) =>
  h("a", { href: `#/channels/${encodeURIComponent(name)}`, class: "name" }, name);

/** @param {string} name */
export const connectionLink = (name) =>
  h("a", { href: `#/connections/${encodeURIComponent(name)}`, class: "name", title: name }, name);

/**
 * @param {string} path
 * @param {Record<string, string | number | null | undefined>} query
 */
export function address(path, query) {
  const kept = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

/**
 * Keep in the address what the view shows now, without a new view.
 * @param {string} path
 * @param {Record<string, string | number | null | undefined>} query
 */
export const remember = (path, query) => history.replaceState(null, "", address(path, query));
