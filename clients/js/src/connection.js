/**
 * One connection for everything: which transport, when to reconnect, and how a silent one is
 * noticed. It knows nothing about channels.
 *
 * Each attempt has to prove itself: the hub's `welcome` came and a ping was answered, in time,
 * so both ways are open and nothing holds the stream back. Only then does it take the place of
 * the connection before it, which goes on until then and a little longer. So moving, to another
 * node or to a better transport, leaves no moment without a connection.
 */

import { backoff, now, timer } from "./backoff.js";
import { BETTER_MS, LINGER_MS, LOOK_MS, LOST, PATIENCE, PROBE_MS, STABLE_MS } from "./limits.js";
import { OFFLINE_MS, TOKEN_MS } from "./limits.js";
import { complain, LoggedOutError } from "./errors.js";
import { remember } from "./memory.js";
import { openPoll } from "./poll.js";
import { openSse } from "./sse.js";
import { openWebSocket } from "./websocket.js";

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {import("./options.js").Options} Options */
/** @typedef {import("./options.js").State} State */
/** @typedef {import("./options.js").Transport} Transport */
/**
 * @typedef {object} Events
 * @property {(link: Link) => void} up this is the connection from now on
 * @property {() => void} down there is none
 * @property {(link: Link) => void} over it brings nothing more
 * @property {(push: Json, link: Link) => void} push
 * @property {(state: State) => void} state
 */
/**
 * @typedef {object} Link one attempt, from its first byte to its end: the input of a transport,
 *   whom it tells, and `send` and `close`, which it sets
 * @property {(path: string) => URL} url below the hub's, with the token until the welcome came
 * @property {string} [token]
 * @property {Options["WebSocket"]} [WebSocket]
 * @property {Options["fetch"]} [fetch]
 * @property {boolean} [duplex] a reply stands in the stream, at its place
 * @property {Map<string, string>} epochs channel to epoch, of what it is subscribed to
 * @property {number} at index of its transport
 * @property {{ data: any }} [given] the application's answer, with the welcome
 * @property {boolean} [dialled] its transport was asked: before that no failure is the transport's
 * @property {number} heardAt when its last frame came
 * @property {number} silenceMs a longer silence is a lost connection; the welcome says it
 * @property {Record<string, ReturnType<typeof setTimeout>>} timers
 * @property {(push: Json) => void} push
 * @property {(code: number, reason?: string) => void} closed only the first time counts
 * @property {(command: Json) => void} send
 * @property {() => void} [close]
 */

const OPEN = { websocket: openWebSocket, sse: openSse, poll: openPoll };
// PROTOCOL.md: 44xx, and RFC 6455 section 7.4.1's protocol error, binary data, invalid UTF-8.
const OUR_FAULT = /^(44..|100[237])$/;
const PING = { op: "ping", id: 0 }; // commands of the application count from 1

/**
 * @param {URL} base
 * @param {Options} options
 * @param {Events} events
 */
export function connection(base, options, events) {
  const { document, addEventListener } = globalThis;
  const {
    token,
    transports = /** @type {Transport[]} */ (Object.keys(OPEN)),
    random = Math.random,
    probeMs = PROBE_MS,
    betterMs = BETTER_MS,
    storage,
  } = options;
  const renew = typeof token === "function" && token;
  const pause = backoff(random);
  const better = backoff(random, betterMs);
  let stop = new AbortController(); // as listener options: its `signal` ends all
  /** @type {Set<Link>} all that are open or being opened */
  const links = new Set();
  /** @type {State["state"] | undefined} */
  let state;
  /** @type {Link | null} not proved yet */
  let trial = null;
  /** @type {Link | null} */
  let current = null;
  let index = Math.max(0, transports.indexOf(/** @type {Transport} */ (remember(base, storage))));
  let patience = 0; // with the transport in use: failures before the next is tried
  let refreshed = false; // a 4401 was answered with a new token
  /** @type {Promise<string | undefined> | undefined} asked for once, whatever transports it takes */
  let granted;
  let moveAt = 0; // when the goodbye lets this client come back; 0 where it named no window
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let retry;
  let lookedAt = 0;
  let drift = 0; // of the wall clock, at the last look

  /**
   * Unless the link is over by then.
   * @param {Link} link
   * @param {string} name
   * @param {number} delay
   * @param {() => void} run
   */
  const after = ({ timers }, name, delay, run) => {
    clearTimeout(timers[name]);
    timers[name] = timer(run, delay);
  };

  /**
   * @param {State["state"]} next
   * @param {Partial<State>} [more]
   */
  const show = (next, more) => {
    state = next;
    events.state({ state: next, transport: transports[index], ...more });
  };

  /** @param {Link} mine */
  const probe = (mine) =>
    after(mine, "probe", probeMs, () => ended(mine, LOST, "no answer"));

  const open = async (at = index) => {
    finish(trial);
    const mine = /** @type {Link} */ ({
      ...options,
      url(path) {
        const url = new URL(path, base);
        if (mine.token) url.searchParams.set("token", mine.token);
        return url;
      },
      epochs: new Map(),
      at,
      timers: {},
      push: (push) => heard(mine, push),
      closed: (code, reason) => ended(mine, code, reason),
    });
    trial = mine;
    links.add(mine);
    if (at === index) settle();
    if (!current) show("connecting");
    if (trial !== mine) return; // a listener has closed the client
    try {
      if (renew) {
        // Not the transport's time: a phone may take longer for it than for all the rest.
        after(mine, "probe", TOKEN_MS, () => ended(mine, LOST, "no token"));
        mine.token = await (granted ??= ask(renew));
        if (trial !== mine) return;
      } else mine.token = /** @type {string | undefined} */ (token);
      mine.dialled = true;
      probe(mine);
      OPEN[transports[at]](mine);
    } catch (error) {
      if (isLoggedOut(error)) return;
      if (!mine.dialled) complain("no token", `${error}`);
      ended(mine, LOST, `${error}`);
    }
  };

  /**
   * Whether the application said that there is no token any more: then all is over.
   * @param {any} error
   */
  const isLoggedOut = (error) => {
    if (!(error instanceof LoggedOutError)) return false;
    if (state !== "closed") close(4401, error.message);
    return true;
  };

  /**
   * An error that an application's function throws at once is one more token that did not come.
   * @param {() => string | Promise<string>} renew
   */
  const ask = async (renew) => renew();

  /** There is nothing to wait for any more. */
  const settle = () => {
    clearTimeout(retry);
    moveAt = 0;
  };

  /** @param {number} delay */
  const comeBack = (delay) => {
    clearTimeout(retry);
    granted = undefined;
    retry = timer(open, delay);
  };

  /** @param {Link | null} link */
  const finish = (link) => {
    if (!link || !links.delete(link)) return;
    Object.values(link.timers).forEach(/** @type {() => void} */ (clearTimeout));
    events.over(link);
    link.close?.();
  };

  /**
   * @param {Link} mine
   * @param {Json} push
   */
  const heard = (mine, push) => {
    if (!links.has(mine)) return; // over
    const { op } = push;
    mine.heardAt = now();
    if (op === "welcome") {
      mine.token = "";
      mine.silenceMs = push.heartbeat_seconds * 1500;
      if ("data" in push) mine.given = { data: push.data };
      mine.send(PING);
      probe(mine); // the first half took its time, perhaps
    } else if (op === "goodbye") {
      // The old connection lives on until a moment inside the hub's window.
      const { reconnect_within_ms: windowMs } = push;
      if (!windowMs) return;
      const delay = random() * windowMs;
      moveAt = now() + delay;
      comeBack(delay);
    } else if (op === "expiring") authenticate(mine);
    else if (op !== "reply" || push.id) events.push(push, mine);
    else {
      clearTimeout(mine.timers.probe);
      if (mine === trial) proved(mine);
    }
  };

  /**
   * The token ends soon. Where no function gives the next one, or it fails, the hub will close
   * with 4401.
   * @param {Link} mine
   */
  const authenticate = async (mine) => {
    try {
      if (renew) mine.send({ ...PING, op: "authenticate", token: await renew() });
    } catch (error) {
      isLoggedOut(error); // any other failure: as above
    }
  };

  /** @param {Link} mine */
  const proved = (mine) => {
    const before = current;
    if (before) after(before, "end", LINGER_MS, () => finish(before));
    settle();
    current = mine;
    trial = null;
    granted = undefined;
    index = mine.at;
    patience = PATIENCE;
    remember(base, storage, transports[index]);
    better.reset();
    improve();
    lookedAt = now();
    drift = Date.now() - lookedAt;
    mine.timers.look = setInterval(check, LOOK_MS);
    after(mine, "stable", STABLE_MS, () => {
      pause.reset();
      refreshed = false;
    });
    show("connected", mine.given);
    if (current === mine) events.up(mine); // unless a listener has closed the client
  };

  /** Try the better transports again later, beside the one that works. */
  const improve = () => {
    granted = undefined;
    if (current && index) after(current, "better", better.next(), () => open(0));
  };

  /**
   * An attempt or a connection is over, from either side. Of the transports that were tried the
   * next has its turn at once, but one that worked is tried again first: a hub that restarts is
   * more likely than a way that closes.
   * @param {Link} mine
   * @param {number} code
   * @param {string} [reason]
   */
  const ended = (mine, code, reason) => {
    if (!links.has(mine)) return; // over: a socket tells so from within `close`, too
    const tried = mine === trial;
    finish(mine);
    if (tried) trial = null;
    else if (mine !== current) return;
    else {
      current = null;
      events.down();
    }
    const { at, dialled } = mine;
    if (code === 4401) granted = undefined;
    if (current) {
      // An attempt beside a connection that goes on.
      if (at === index) comeBack(pause.next());
      else if (dialled && at + 1 < index) open(at + 1);
      else improve();
    } else if (code === 4401 && renew && !refreshed) {
      refreshed = true;
      open();
    } else if (OUR_FAULT.test(`${code}`)) close(code, reason);
    else if (trial) {
      index = trial.at;
      show("connecting");
    } else if (dialled && tried && patience-- < 2 && (index = (index + 1) % transports.length)) open();
    else {
      const retryInMs = moveAt ? Math.max(0, moveAt - now()) : pause.next();
      comeBack(retryInMs);
      show("waiting", { code, reason, retryInMs });
    }
  };

  /**
   * Lost after 1.5 heartbeats of silence. When the network or the page came back, do not wait for
   * that to find out. Nor after a while without a look, as in a sleep, which may show in the wall
   * clock alone: then pushes of the meantime are still to be read, so the hub is asked.
   * @param {Event} [back]
   */
  const check = (back) => {
    const mine = current;
    const shift = Date.now() - now();
    const late = now() - lookedAt > 2 * LOOK_MS;
    const slept = mine && (late || Math.abs(shift - drift) > LOOK_MS);
    lookedAt = now();
    drift = shift;
    if (mine && !slept && now() - mine.heardAt >= mine.silenceMs) ended(mine, LOST, "no heartbeat");
    else if (!slept && (!back || document?.hidden)) return;
    else if (mine) {
      if (slept) mine.heardAt = lookedAt;
      mine.send(PING);
      probe(mine);
    } else if (state === "waiting" && !moveAt) {
      pause.reset(); // failures without a network say nothing of the hub
      open();
    }
  };

  /** The browser says that it is offline, which may be true of another network than the hub's: ask. */
  const away = () => {
    const mine = current;
    if (!mine) return;
    mine.send(PING);
    after(mine, "probe", OFFLINE_MS, () => ended(mine, LOST, "offline"));
  };

  /**
   * Close until `restart`.
   * @param {number} [code]
   * @param {string} [reason]
   */
  const close = (code, reason) => {
    stop.abort();
    settle();
    links.forEach(finish);
    trial = current = null;
    show("closed", { code, reason });
  };

  const listen = () => {
    addEventListener?.("online", check, stop);
    addEventListener?.("offline", away, stop);
    addEventListener?.("visibilitychange", check, stop); // the document's, which comes up to here
  };

  listen();

  return {
    /** Connect unless that is under way, or over. */
    start: () => void (state || open()),
    close,

    /** Connect although it was over. */
    restart() {
      if (state !== "closed") return;
      stop = new AbortController();
      listen();
      pause.reset();
      refreshed = false;
      granted = undefined;
      open();
    },
  };
}
