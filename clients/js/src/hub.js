/**
 * Subscribe to channels of a broadcast hub, over one connection.
 *
 *     const hub = new Hub("https://example.com", { token });
 *     hub.subscribe("prices", ({ data }) => show(data));
 *
 * Subscriptions survive reconnects: each channel resumes after the last publication it saw.
 */

import { openChannel } from "./channel.js";
import { commands } from "./commands.js";
import { connection } from "./connection.js";
import { call, HubError } from "./errors.js";
import { Subscription } from "./subscription.js";

export { HubError };

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./connection.js").Options} Options */
/** @typedef {import("./connection.js").State} State */
/** @typedef {import("./subscription.js").OnMessage} OnMessage */
/** @typedef {import("./subscription.js").SubscribeOptions} SubscribeOptions */
/** @typedef {{ key?: string, echo?: boolean }} PublishOptions `echo: false`: not back to here */

export class Hub {
  #connection;
  #commands = commands();
  /** @type {Map<string, Channel>} */
  #channels = new Map();
  /** @type {import("./websocket.js").Link | null} */
  #link = null;
  /** @type {Set<(state: State) => void>} */
  #listeners = new Set();

  /**
   * @param {string} [url] where the hub is; "" is the hub that served this module
   * @param {Options} [options]
   */
  constructor(url = "", options = {}) {
    const base = new URL(url || "..", url ? globalThis.document?.baseURI : import.meta.url);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    this.#connection = connection(base, options, {
      wanted: () => [...this.#channels.values()].map((channel) => channel.request()),
      up: (link) => this.#up(link),
      down: () => this.#down(),
      push: (push) => this.#push(push),
      ask: () => this.#send("ping"),
      state: (state) => this.#show(state),
    });
  }

  /** `connecting`, `connected`, `waiting` or `closed`. */
  get state() {
    return this.#connection.state();
  }

  /** `websocket` or `sse`: the one in use or being tried. */
  get transport() {
    return this.#connection.transport();
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
   * @param {string} name
   * @param {OnMessage | SubscribeOptions} [onMessage]
   * @param {SubscribeOptions} [options]
   */
  subscribe(name, onMessage, options = {}) {
    if (typeof onMessage !== "function") [onMessage, options] = [undefined, onMessage ?? {}];
    const known = this.#channels.get(name);
    if (known && (options.since || options.last)) {
      throw new TypeError(`since and last belong to the first subscription of ${name}`);
    }
    const subscription = new Subscription(this.#owner, name, onMessage, options);
    const closed = this.state === "closed";
    if (closed || options.signal?.aborted) {
      subscription.end(closed ? new HubError("closed") : undefined);
      return subscription;
    }
    (known ?? this.#add(name, options)).add(subscription);
    this.#wake();
    return subscription;
  }

  /**
   * Resolves with the publication's position when the hub has it.
   * @param {string} channel
   * @param {unknown} data anything JSON can say
   * @param {PublishOptions} [options]
   * @returns {Promise<any>}
   */
  publish(channel, data, { key, echo } = {}) {
    return this.#request({ op: "publish", channel, data: data ?? null, key, echo });
  }

  /**
   * @param {string} channel
   * @param {{ since?: string, limit?: number }} [options]
   */
  history(channel, { since, limit } = {}) {
    return this.#request({ op: "history", channel, since, limit });
  }

  /** @param {string} channel */
  presence(channel) {
    return this.#request({ op: "presence", channel });
  }

  /**
   * @param {"state"} event
   * @param {(state: State) => void} listener
   * @returns {() => void} stops listening
   */
  on(event, listener) {
    if (event !== "state") throw new TypeError(`no event ${event}`);
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** End every subscription and the connection, for good. */
  close() {
    this.#connection.close();
  }

  /** What a subscription may do with its hub. */
  #owner = {
    /** @param {Subscription} subscription */
    leave: (subscription) => {
      const { channel: name } = subscription;
      const channel = this.#channels.get(name);
      if (!channel?.subscriptions.delete(subscription) || channel.subscriptions.size) return;
      this.#channels.delete(name);
      if (this.#link) this.#send("unsubscribe", name);
    },
    /** @type {Hub["publish"]} */
    publish: (channel, data, options) => this.publish(channel, data, options),
  };

  /**
   * @param {string} name
   * @param {SubscribeOptions} options
   */
  #add(name, options) {
    const channel = openChannel(name, options);
    this.#channels.set(name, channel);
    if (this.#link) this.#ask(channel);
    return channel;
  }

  /** @param {Json} command */
  #request(command) {
    if (this.state === "closed") return Promise.reject(new HubError("closed"));
    this.#wake();
    return this.#commands.request(command);
  }

  /**
   * A command whose answer changes nothing.
   * @param {string} op
   * @param {string} [channel]
   */
  #send(op, channel) {
    this.#request({ op, channel }).catch(() => {});
  }

  /** Connect after the present task, so that its subscriptions travel together. */
  #wake() {
    queueMicrotask(this.#connection.start);
  }

  /** @param {import("./websocket.js").Link} link */
  #up(link) {
    const { included } = (this.#link = link);
    this.#commands.attach(link.send);
    for (const [name, channel] of this.#channels) if (!included.has(name)) this.#ask(channel);
    for (const name of included) if (!this.#channels.has(name)) this.#send("unsubscribe", name);
    this.#commands.flush(); // after the subscribes: who publishes may wait for its own message
  }

  #down() {
    this.#link = null;
    this.#commands.detach();
    this.#channels.forEach((channel) => channel.down());
  }

  /**
   * Subscribe by command. What is refused for now is asked again, at once on a new connection;
   * what is refused for good ends the subscriptions.
   * @param {Channel} channel
   */
  async #ask(channel) {
    const { channel: name } = channel;
    const link = this.#link;
    const current = () => this.#channels.get(name) === channel;
    try {
      await this.#commands.request({ op: "subscribe", ...channel.request() }, (ok) => {
        if (ok && current()) channel.subscribed(ok);
      });
    } catch (error) {
      if (!current()) return;
      const { retryable } = /** @type {HubError} */ (error);
      if (!retryable) this.#end(channel, /** @type {HubError} */ (error));
      else if (link === this.#link) this.#connection.later(name, () => this.#ask(channel));
    }
  }

  /**
   * @param {Channel} channel
   * @param {HubError} [error]
   */
  #end(channel, error) {
    this.#channels.delete(channel.channel);
    channel.subscriptions.forEach((subscription) => subscription.end(error));
  }

  /** @param {Json} push */
  #push(push) {
    const { op } = push;
    if (op === "reply") return this.#commands.reply(push);
    if (op === "expiring") return void this.#refresh();
    const channel = this.#channels.get(push.channel);
    if (op === "message") channel?.message(push);
    else if (op === "subscribed") channel?.subscribed(push);
    else if (op === "gap") channel?.gap(push);
    else if (push.member || op === "presence_reset") channel?.presence(push);
  }

  /** The token ends soon: a token function gives the next one. */
  async #refresh() {
    try {
      const token = await this.#connection.freshToken();
      if (token) await this.#request({ op: "authenticate", token });
    } catch {
      // The hub will close with 4401, which asks for a token once more.
    }
  }

  /** @param {State} state */
  #show(state) {
    const { code, reason } = state;
    if (state.state === "closed") {
      this.#commands.close();
      const error = code ? new HubError("closed", reason || `closed with ${code}`) : undefined;
      this.#channels.forEach((channel) => this.#end(channel, error));
    }
    this.#listeners.forEach((listener) => call(listener, state));
  }
}
