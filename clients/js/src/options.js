/** The options of an application, by name, and the states of its connection. */

/** @typedef {"websocket" | "sse" | "poll"} Transport */
/**
 * @typedef {{
 *   new (url: URL): {
 *     onmessage: ((event: any) => void) | null,
 *     onclose: ((event: any) => void) | null,
 *     onerror: ((event: any) => void) | null,
 *     send: (text: string) => void,
 *     close: () => void,
 *   }
 * }} Socket the part of a WebSocket that is used
 */
/**
 * @typedef {object} State
 * @property {"connecting" | "connected" | "waiting" | "closed"} state
 * @property {Transport} transport in use, or being tried
 * @property {number} [code] the close code that led to `waiting` or `closed`
 * @property {string} [reason]
 * @property {number} [retryInMs]
 * @property {any} [data] with `connected`: the answer of the application that the hub asks
 */
/**
 * @typedef {object} Options
 * @property {string | (() => string | Promise<string>)} [token] a function is asked again before
 *   the token ends and after a 4401; one that throws `LoggedOutError` closes the hub
 * @property {Transport[]} [transports] in the order they are tried
 * @property {Socket} [WebSocket] for Node before 22, such as that of `ws`
 * @property {(url: URL, init: RequestInit) => Promise<Response>} [fetch]
 * @property {() => number} [random] from 0 up to 1
 * @property {number} [probeMs] how long a transport has for its welcome, and again for a pong; 5,000
 * @property {number} [betterMs] a better transport is tried again after up to this long, and
 *   after up to twice as long each time it fails, at most 30 times; 10,000
 * @property {import("./memory.js").Store} [storage] remembers the transport that worked;
 *   `localStorage` in a page
 */

export const HUB_OPTIONS = [
  "token", "transports", "WebSocket", "fetch", "random", "probeMs", "betterMs", "storage",
];
export const PATTERN_OPTIONS = [
  "since", "last", "fill", "filter", "signal", "onMessage", "onGap", "onPresence", "onSubscribed", "onError",
];
export const SUBSCRIBE_OPTIONS = [...PATTERN_OPTIONS, "presence", "everyMs", "getState", "state", "onState", "joined"];
// Names on the wire, which earlier versions took.
export const EARLIER_OPTIONS = ["idempotency_key", "ttl_seconds"];
export const PUBLISH_OPTIONS = [
  "key", "echo", "idempotencyKey", "tags", "remove", "end", "ttlSeconds", "history", ...EARLIER_OPTIONS,
];
export const HISTORY_OPTIONS = ["since", "limit", "fromTime", "reverse"];

/**
 * In which way the hub is to bring messages: the same for all that get those of a channel.
 * @param {Record<string, any>} options
 */
export const termsOf = ({ filter, state, everyMs }) => JSON.stringify([filter, state, everyMs]);

export const NO_TERMS = termsOf({});

/**
 * Throws on a name that does not exist: a misspelt one would be ignored in silence. So would a
 * number that is none, or endless: JSON has neither, and says `null`.
 * @param {Record<string, any>} options
 * @param {string[]} known
 */
export function check(options, known) {
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown) throw new TypeError(`no option "${unknown}": there are ${known.join(", ")}`);
  for (const [name, value] of Object.entries(options))
    if (typeof value === "number" && !isFinite(value) && known !== HUB_OPTIONS)
      throw new TypeError(`${name} is ${value}`);
}
