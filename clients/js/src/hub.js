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
import { HubError } from "./errors.js";
import { publication } from "./subscription.js";

export { HubError };

/** @typedef {import("./connection.js").Options} Options */
/** @typedef {import("./connection.js").State} State */
/** @typedef {import("./connection.js").Transport} Transport */
/** @typedef {import("./subscription.js").Gap} Gap */
/** @typedef {import("./subscription.js").Message} Message */
/** @typedef {import("./subscription.js").OnMessage} OnMessage */
/** @typedef {import("./subscription.js").Presence} Presence */
/** @typedef {import("./subscription.js").PublishOptions} PublishOptions */
/** @typedef {import("./subscription.js").Subscribed} Subscribed */
/** @typedef {import("./subscription.js").SubscribeOptions} SubscribeOptions */
/** @typedef {import("./subscription.js").Subscription} Subscription */

export class Hub {
  #client;
  /** `connecting`, `connected`, `waiting` or `closed`. @type {State["state"]} @readonly */
  state = "waiting";
  /** The one in use or being tried. @type {Transport} @readonly */
  transport = "websocket";

  /**
   * @param {string} [url] where the hub is; "" is the hub that served this module
   * @param {Options} [options]
   */
  constructor(url = "", options = {}) {
    const base = new URL(url || "..", url ? globalThis.document?.baseURI : import.meta.url);
    base.pathname = base.pathname.replace(/\/?$/, "/");
    this.#client = openClient(base, options, ({ state, transport }) => {
      this.state = state;
      this.transport = transport;
    });
  }

  /**
   * Listen to a channel, by callback or by `for await`.
   * @overload
   * @param {string} channel
   * @param {OnMessage} onMessage
   * @param {SubscribeOptions} [options]
   * @returns {Subscription}
   */
  /**
   * @overload
   * @param {string} channel
   * @param {SubscribeOptions} [options]
   * @returns {Subscription}
   */
  /**
   * @param {string} channel
   * @param {OnMessage | SubscribeOptions} [onMessage]
   * @param {SubscribeOptions} [options]
   */
  subscribe(channel, onMessage, options = {}) {
    return typeof onMessage === "function"
      ? this.#client.subscribe(channel, onMessage, options)
      : this.#client.subscribe(channel, undefined, onMessage ?? {});
  }

  /**
   * Resolves with the publication's position when the hub has it.
   * @param {string} channel
   * @param {unknown} data anything JSON can say
   * @param {PublishOptions} [options]
   * @returns {Promise<any>}
   */
  publish(channel, data, options) {
    return this.#client.request(publication(channel, data, options));
  }

  /**
   * @param {string} channel
   * @param {{ since?: string, limit?: number }} [options]
   * @returns {Promise<any>}
   */
  history(channel, options) {
    return this.#client.request({ ...options, op: "history", channel });
  }

  /**
   * @param {string} channel
   * @returns {Promise<any>}
   */
  presence(channel) {
    return this.#client.request({ op: "presence", channel });
  }

  /**
   * @param {"state"} event
   * @param {(state: State) => void} listener
   * @returns {() => void} stops listening
   */
  on(event, listener) {
    if (event !== "state") throw new TypeError(event);
    const { listeners } = this.#client;
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** End every subscription and the connection, for good. */
  close() {
    this.#client.connection.close();
  }
}
