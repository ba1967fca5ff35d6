/**
 * One connection for everything: which transport, when to reconnect, and how a silent one is
 * noticed. It knows nothing about channels.
 *
 * A transport counts as working once the hub's `welcome` came through it. Until then the next
 * one is tried at once; afterwards the same one is tried first, because a hub that restarts is
 * more likely than a way that closes.
 */

import { backoff } from "./backoff.js";
import { openSse } from "./sse.js";
import { openWebSocket } from "./websocket.js";

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {import("./websocket.js").Link} Link */
/**
 * @typedef {object} State
 * @property {"connecting" | "connected" | "waiting" | "closed"} state
 * @property {"websocket" | "sse"} transport in use, or being tried
 * @property {number} [code] the close code that led to `waiting` or `closed`
 * @property {string} [reason]
 * @property {number} [retryInMs]
 */
/**
 * @typedef {object} Options
 * @property {string | (() => string | Promise<string>)} [token] a function is asked again before
 *   the token ends and after a 4401
 * @property {("websocket" | "sse")[]} [transports] in the order they are tried
 * @property {typeof globalThis.WebSocket} [WebSocket] for Node before 22
 * @property {typeof globalThis.fetch} [fetch]
 * @property {() => number} [random]
 * @property {number} [probeMs] how long a transport has to bring the `welcome`, or a pong
 */
/**
 * @typedef {object} Events
 * @property {() => Json[]} wanted the subscriptions to open with
 * @property {(link: Link) => void} up
 * @property {() => void} down
 * @property {(push: Json) => void} push
 * @property {() => void} ask send a ping
 * @property {(state: State) => void} state
 */

const OPEN = { websocket: openWebSocket, sse: openSse };
// Guesses, not measured: a handshake on a slow phone takes two seconds; a connection that held
// for ten is no reconnect loop; three misses are seconds, a working transport is worth them.
const PROBE_MS = 5000;
const STABLE_MS = 10000;
const MAX_MISSES = 3;
const BETTER_AFTER_MS = 300000;
const LOST = 1006; // RFC 6455 section 7.4.1: ended without a close frame

/**
 * @param {URL} base
 * @param {Options} options
 * @param {Events} events
 */
export function connection(base, options, events) {
  const { token, transports = ["websocket", "sse"], probeMs = PROBE_MS, random } = options;
  const { WebSocket = globalThis.WebSocket, fetch = globalThis.fetch } = options;
  const pause = backoff(random);
  const { document } = globalThis;
  const stop = new AbortController(); // as listener options: its `signal` ends both
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */
  const timers = new Map();
  /** @type {State["state"]} */
  let state = "waiting";
  /** @type {{} | null} what is open or being opened; an answer to an older one is ignored */
  let attempt = null;
  /** @type {Link | null} */
  let link = null;
  let index = 0; // of the transport in use
  let worked = -1; // index of the transport that brought the last welcome
  let workedAt = 0;
  let misses = 0; // failures in a row of the one that worked
  let refreshed = false; // a 4401 was answered with a new token
  let heartbeatMs = 0; // silence longer than this is a lost connection
  let heardAt = 0;
  let moveAt = 0; // when the goodbye lets this client come back; 0 where it named no window

  /** @param {string} name */
  const clear = (name) => {
    clearTimeout(timers.get(name));
    timers.delete(name);
  };

  /**
   * @param {string} name
   * @param {number} delay
   * @param {() => void} run
   */
  const after = (name, delay, run) => {
    clear(name);
    const fire = () => {
      timers.delete(name);
      run();
    };
    timers.set(name, setTimeout(fire, delay));
  };

  /**
   * @param {State["state"]} next
   * @param {Partial<State>} [more]
   */
  const show = (next, more) => {
    state = next;
    events.state({ state, transport: transports[index], ...more });
  };

  /** Forget the present attempt, its link and every timer. */
  const drop = () => {
    const old = link;
    attempt = link = null;
    [...timers.keys()].forEach(clear);
    old?.close();
    if (state === "connected") events.down();
  };

  const freshToken = async () => (typeof token === "function" ? token() : undefined);

  const open = async () => {
    drop();
    moveAt = 0;
    const mine = (attempt = {});
    const current = () => mine === attempt;
    show("connecting");
    after("probe", probeMs, () => lost(LOST, "no welcome"));
    try {
      const ticket = typeof token === "string" ? token : await freshToken();
      if (!current()) return;
      const place = { base, token: ticket, wanted: events.wanted(), WebSocket, fetch };
      link = OPEN[transports[index]](place, {
        alive: () => void (heardAt = Date.now()),
        push: (push) => void (current() && heard(push)),
        closed: (code, reason) => void (current() && lost(code, reason)),
      });
    } catch (error) {
      if (current()) lost(LOST, String(error));
    }
  };

  /** @param {Json} push */
  const heard = (push) => {
    if (push.op === "welcome") welcome(push);
    else if (push.op === "goodbye") goodbye(push);
    else events.push(push);
  };

  /** @param {Json} push */
  const welcome = ({ heartbeat_seconds }) => {
    clear("probe");
    worked = index;
    workedAt = Date.now();
    misses = 0;
    heartbeatMs = heartbeat_seconds * 1500;
    watch(heartbeatMs);
    after("stable", STABLE_MS, () => {
      pause.reset();
      refreshed = false;
    });
    show("connected");
    if (link) events.up(link);
  };

  /**
   * Come back at a moment inside the hub's window; the old connection may live on until then.
   * @param {Json} push
   */
  const goodbye = ({ reconnect_within_ms }) => {
    if (!reconnect_within_ms) return;
    const delay = pause.within(reconnect_within_ms);
    moveAt = Date.now() + delay;
    after("retry", delay, open);
  };

  /**
   * @param {number} code
   * @param {string} [reason]
   */
  const lost = (code, reason) => {
    const wasUp = state === "connected";
    if (code === 4401 && typeof token === "function" && !refreshed) {
      refreshed = true;
      open();
    } else if (code >= 4400 && code < 4500) close(code, reason);
    else if (!wasUp && advance()) open();
    else wait(code, reason, wasUp);
  };

  /** Whether the next transport is to be tried at once. */
  const advance = () => {
    if (index !== worked) {
      index = (index + 1) % transports.length;
      return index > 0;
    }
    if (++misses >= MAX_MISSES) {
      worked = -1;
      index = 0;
    }
    return false;
  };

  /**
   * @param {number} code
   * @param {string | undefined} reason
   * @param {boolean} wasUp
   */
  const wait = (code, reason, wasUp) => {
    const retryInMs = moveAt ? Math.max(0, moveAt - Date.now()) : pause.next();
    if (wasUp && Date.now() - workedAt > BETTER_AFTER_MS) index = 0;
    drop();
    after("retry", retryInMs, open);
    show("waiting", { code, reason, retryInMs });
  };

  /**
   * Reconnect when nothing came for 1.5 heartbeats. One timer, not one per frame. The wall
   * clock also counts the time a laptop slept.
   * @param {number} delay
   */
  const watch = (delay) =>
    after("watch", delay, () => {
      const left = heardAt + heartbeatMs - Date.now();
      if (left > 0) watch(left);
      else lost(LOST, "no heartbeat");
    });

  /** The network or the page came back: do not wait for a timer to find out. */
  const check = () => {
    if (document?.visibilityState === "hidden") return;
    if (state === "waiting" && timers.has("retry") && !moveAt) open();
    if (state !== "connected") return;
    const asked = Date.now();
    if (asked - heardAt > heartbeatMs) return lost(LOST, "no heartbeat");
    if (!link?.duplex) return;
    events.ask();
    after("probe", probeMs, () => heardAt < asked && lost(LOST, "no pong"));
  };

  /**
   * @param {number} [code]
   * @param {string} [reason]
   */
  const close = (code, reason) => {
    stop.abort();
    drop();
    show("closed", { code, reason });
  };

  globalThis.addEventListener?.("online", check, stop);
  document?.addEventListener("visibilitychange", check, stop);

  return {
    state: () => state,
    transport: () => transports[index],
    /** Connect unless that is under way. */
    start: () => void (state === "waiting" && !timers.has("retry") && open()),
    /** Close for good. */
    close: () => close(),
    /** The next token, where a function gives tokens. */
    freshToken,
    /**
     * Run something in one to three seconds unless the connection ends before.
     * @param {string} name
     * @param {() => void} run
     */
    later: (name, run) => after(`later ${name}`, 1000 + pause.within(2000), run),
  };
}
