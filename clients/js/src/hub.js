/**
 * Subscribe to channels of a broadcast hub, over one connection.
 *
 *     const hub = new Hub("https://example.com", { token });
 *     hub.subscribe("prices", ({ data }) => show(data));
 *
 * Subscriptions survive reconnects and changes of transport: each channel resumes after the last
 * publication it saw.
 */

import { openClient } from "./client.js";
import { HubError, LoggedOutError } from "./errors.js";
import { home } from "./home.js";
import { NO_PAGE, WRITE } from "./limits.js";
import { check, HISTORY_OPTIONS, HUB_OPTIONS } from "./options.js";
import { publish, publishEach } from "./publishing.js";

export { HubError, LoggedOutError };

/** @typedef {import("./options.js").Options} Options */
/** @typedef {import("./options.js").State} State */
/** @typedef {import("./options.js").Transport} Transport */
/** @typedef {import("./subscription.js").Gap} Gap */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").Message<T>} Message
 */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").OnMessage<T>} OnMessage
 */
/** @typedef {import("./subscription.js").PatternOptions} PatternOptions */
/** @typedef {import("./subscription.js").Presence} Presence */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").Rows<T>} Rows
 */
/** @typedef {import("./publishing.js").PublishOptions} PublishOptions */
/** @typedef {import("./subscription.js").Subscribed} Subscribed */
/** @typedef {import("./subscription.js").SubscribeOptions} SubscribeOptions */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").Subscription<T>} Subscription
 */
/** @typedef {import("./publishing.js").Published} Published */
/**
 * @typedef {object} Publication
 * @property {number} offset
 * @property {any} data
 * @property {number} time milliseconds since 1970 UTC
 * @property {string} [key]
 * @property {string} [from] the token subject of the session that published it
 * @property {Record<string, string|number|boolean>} [tags]
 * @property {boolean} [remove] it takes the row of its key away
 * @property {boolean} [end] it is the last one of its channel
 */
/**
 * @typedef {object} History
 * @property {string} channel
 * @property {string} position of the newest offset given out
 * @property {number} oldest first offset still held
 * @property {Publication[]} publications
 * @property {string | null} [next] with `fromTime` or `reverse`: the `since` of the page that goes on
 * @property {boolean} [complete] with these: false where history does not reach back as far as was asked
 */
/**
 * @typedef {object} HistoryOptions
 * @property {string} [since] publications behind this position; with `reverse`, those before it
 * @property {number} [limit] 1 to 1,000; 100
 * @property {Date | number | string} [fromTime] nothing older: milliseconds since 1970, or ISO 8601
 * @property {boolean} [reverse] newest first
 */
/** @typedef {{ id: string, connection: string, sub?: string, data?: any }} PresentMember */

export class Hub {
  #client;
  /** The state of the last event. @type {State["state"]} */
  state = "waiting";
  /** The answer, at the last connect, of the application that the hub asks. @type {any} */
  data;
  /** In use, or being tried. @type {Transport} */
  transport = "websocket";

  /**
   * @param {string | URL} [url] of the hub, with its base path: `https://example.com/live`, or in a
   *   page `/live`. Without one it is the hub that served `/client.js`, or else the page's origin.
   * @param {Options} [options]
   */
  constructor(url = "", options = {}) {
    check(options, HUB_OPTIONS);
    this.#client = openClient(locate(`${url}`), { ...options }, (state) => {
      this.state = state.state;
      this.transport = state.transport;
      if (state.state === "connected") this.data = state.data;
    });
  }

  /**
   * Listen to a channel, by callback or by `for await`; `T` is the type of `data`.
   * @template [T=any]
   * @overload
   * @param {string} channel
   * @param {OnMessage<T>} onMessage
   * @param {SubscribeOptions} [options]
   * @returns {Subscription<T>}
   */
  /**
   * @template [T=any]
   * @overload
   * @param {string} channel
   * @param {SubscribeOptions} [options]
   * @returns {Subscription<T>}
   */
  /**
   * @param {string} channel
   * @param {OnMessage | SubscribeOptions} [onMessage]
   * @param {SubscribeOptions} [options]
   */
  subscribe(channel, onMessage, options) {
    const on = typeof onMessage === "function" ? { ...options, onMessage } : { ...onMessage };
    return this.#client.subscribe(channel, on);
  }

  /**
   * Listen to every channel that a pattern matches, now and later: `*` is one segment of a name
   * between `:` or `.`, `**` at the end all the rest. Messages say their channel, and are in order
   * within it.
   * @template [T=any]
   * @overload
   * @param {string} pattern such as `prices:*`
   * @param {OnMessage<T>} onMessage
   * @param {PatternOptions} [options]
   * @returns {Subscription<T>}
   */
  /**
   * @template [T=any]
   * @overload
   * @param {string} pattern
   * @param {PatternOptions} [options]
   * @returns {Subscription<T>}
   */
  /**
   * @param {string} pattern
   * @param {OnMessage | PatternOptions} [onMessage]
   * @param {PatternOptions} [options]
   */
  subscribePattern(pattern, onMessage, options) {
    const on = typeof onMessage === "function" ? { ...options, onMessage } : { ...onMessage };
    return this.#client.subscribe(pattern, on, true);
  }

  /**
   * Resolves with the publication's position when the hub has it.
   * @overload
   * @param {string} channel
   * @param {unknown} data anything JSON can say
   * @param {PublishOptions} [options]
   * @returns {Promise<Published>}
   */
  /**
   * In several channels: resolves with the result of each, in their order; a `HubError` stands
   * where it was refused, or the outcome is unknown.
   * @overload
   * @param {string[]} channels
   * @param {unknown} data
   * @param {PublishOptions} [options]
   * @returns {Promise<(Published | HubError)[]>}
   */
  /**
   * @param {string | string[]} to
   * @param {unknown} data
   * @param {PublishOptions} [options]
   * @returns {Promise<any>}
   */
  publish(to, data, options) {
    const { request } = this.#client;
    return Array.isArray(to) ? publishEach(request, to, data, options) : publish(request, to, data, options);
  }

  /**
   * @param {string} channel
   * @param {HistoryOptions} [options]
   * @returns {Promise<History>}
   */
  async history(channel, options = {}) {
    check(options, HISTORY_OPTIONS);
    const { fromTime, ...more } = options;
    // An invalid date throws here: as JSON it would be no date at all.
    const from_time = fromTime instanceof Date ? fromTime.toISOString() : fromTime;
    return this.#client.request({ ...more, from_time, op: "history", channel });
  }

  /**
   * @param {string} channel
   * @returns {Promise<{ channel: string, members: PresentMember[] }>}
   */
  async presence(channel) {
    const all = new Map();
    for (let after; ; ) {
      const page = await this.#client.request({ op: "presence", channel, after });
      for (const member of page.members) all.set(member.id, member);
      if (page.next === undefined) return { channel, members: [...all.values()] };
      after = page.next;
    }
  }

  /**
   * How many are there.
   * @param {string} channel
   * @returns {Promise<number>}
   */
  async presenceCount(channel) {
    return (await this.#client.request({ op: "presence", channel, count: true })).count;
  }

  /**
   * Say something else of this member; it is said again after each reconnect.
   * @param {string} channel
   * @param {unknown} data 4 KiB of JSON at most
   */
  presenceUpdate(channel, data) {
    return this.#client.update(channel, data);
  }

  /**
   * @param {"state"} event
   * @param {(state: State) => void} listener
   * @returns {() => void} stops listening
   */
  on(event, listener) {
    if (event !== "state") throw new TypeError(`no event ${event}`);
    return this.#client.on(listener);
  }

  /** End the connection, and every loop. Subscriptions by callback go on after `connect`. */
  close() {
    this.#client.close();
  }

  /**
   * Connect again after `close`, or after the hub or the application's token function ended it.
   * Each subscription that listens by callback resumes where it was.
   */
  connect() {
    this.#client.connect();
  }
}

/**
 * The hub's URL, http or https, with a slash at its end. Where there is no page, as when a server
 * renders one, a path leads nowhere: a call that would use it throws.
 * @param {string} given
 */
function locate(given) {
  const url = given || home.url || "/";
  // A text without a scheme is no path either: the host was meant.
  const isPath = url[0] === "/";
  try {
    const base = new URL(url, isPath ? (globalThis.document?.baseURI ?? NO_PAGE) : undefined);
    base.protocol = base.protocol.replace("ws", "http");
    base.pathname = base.pathname.replace(/\/?$/, "/");
    if (base.protocol.startsWith("http")) return base;
  } catch {
    // Such as a host without a scheme.
  }
  throw new TypeError(`no hub at "${given}": ${WRITE}`);
}
