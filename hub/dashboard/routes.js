/** Which view an address asks for. Addresses can be sent to a colleague. */

import { state } from "./dom.js";
import { channelView } from "./views/channel.js";
import { channelsView } from "./views/channels.js";
import { closedView } from "./views/closed.js";
import { connectionView } from "./views/connection.js";
import { connectionsView } from "./views/connections.js";
import { explainView } from "./views/explain.js";
import { overviewView } from "./views/overview.js";
import { refusedView } from "./views/refused.js";

/** @typedef {import("./live.js").Live} Live */
/** @typedef {{ element: any, close?: () => void }} View */
/** @typedef {{ title: string, path: string, make: (live: Live) => View }} Route */

export const VIEWS = [
  { path: "/", title: "Overview" },
  { path: "/channels", title: "Channels" },
  { path: "/connections", title: "Connections" },
  { path: "/closed", title: "Closed" },
  { path: "/refused", title: "Refused" },
  { path: "/explain", title: "Why not?" },
];

/** @type {Record<string, (live: Live, query: URLSearchParams) => View>} */
const LISTS = {
  "/": overviewView,
  "/channels": channelsView,
  "/connections": connectionsView,
  "/closed": closedView,
  "/refused": refusedView,
  "/explain": explainView,
};

/** @type {Record<string, (live: Live, name: string) => View>} */
const SINGLE = { "/channels": channelView, "/connections": connectionView };

/** @param {string} text as it stands in an address, however it came there */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * @param {string} hash such as `#/connections?transport=sse` or `#/channels/prices`
 * @returns {Route}
 */
export function route(hash) {
  const [path, query = ""] = (hash.slice(1) || "/").split("?");
  const [, list, name] = /^(\/[a-z]*)(?:\/(.+))?$/.exec(path) ?? [];
  const known = VIEWS.find((view) => view.path === list);
  if (known && name && SINGLE[list]) {
    const title = decoded(name);
    return { title, path: list, make: (live) => SINGLE[list](live, title) };
  }
  if (known && !name) {
    const { title } = known;
    return { title, path: list, make: (live) => LISTS[list](live, new URLSearchParams(query)) };
  }
  const nothing = { element: state("Nothing is here", "The address names no view.") };
  return { title: "Not found", path: "", make: () => nothing };
}
