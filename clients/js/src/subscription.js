/**
 * What `hub.subscribe` hands out: callbacks, and messages for `for await`.
 *
 * A loop that is slower than the channel loses the oldest waiting messages, each reported to
 * `onGap` with reason `client`: a queue without a limit would grow until the page dies.
 */

import { call, HubError } from "./errors.js";

/**
 * @typedef {object} Message
 * @property {string} channel
 * @property {any} data
 * @property {string} epoch
 * @property {string} position `epoch:offset`: what `since` takes
 * @property {number} [offset] missing where a publication came by plain Redis PUBLISH
 * @property {string} [key]
 * @property {number} [time] milliseconds since 1970 UTC
 * @property {string} [from] the token subject of the session that published it
 */
/**
 * @typedef {object} Gap
 * @property {string} channel
 * @property {"slow"|"conflated"|"broker"|"expired"|"invalid"|"reset"|"client"} reason
 * @property {string} [epoch]
 * @property {number} [from] first missing offset; none at a `reset`
 * @property {number} [to] last missing offset; none at a `reset`
 * @property {string} [position] after a `reset`: where the stream continues
 * @property {number} [unsequenced] how many publications without an offset were dropped
 */
/** @typedef {{ channel: string, position: string, recovered: boolean, replayed: number }} Subscribed */
/**
 * @typedef {object} Presence
 * @property {"join"|"leave"|"presence_reset"} op at a `presence_reset` some were lost: ask again
 * @property {string} channel
 * @property {Record<string, any>} [member]
 */
/** @typedef {(message: Message) => void} OnMessage */
/**
 * @typedef {object} SubscribeOptions
 * @property {string} [since] resume after this position, `epoch:offset`
 * @property {number} [last] begin with the newest n publications; `since` wins over it
 * @property {boolean} [fill] let the hub refill what a slow reader missed
 * @property {AbortSignal} [signal] unsubscribes when aborted
 * @property {(gap: Gap) => void} [onGap]
 * @property {(presence: Presence) => void} [onPresence]
 * @property {(subscribed: Subscribed) => void} [onSubscribed] after every (re)connect
 * @property {(error: HubError) => void} [onError]
 */
/**
 * @typedef {object} Owner
 * @property {(subscription: Subscription) => void} leave
 * @property {(channel: string, data: unknown, options?: { key?: string, echo?: boolean }) => Promise<any>} publish
 */

/** Messages that wait for a `for await` loop. A guess: two seconds at 500 messages/s. */
const MAX_QUEUE = 1000;

export class Subscription {
  #owner;
  #onMessage;
  /** @type {Message[] | null} */
  #queue;
  /** @type {(() => void) | null} */
  #wake = null;
  #ended = false;
  /** @type {HubError | undefined} */
  #error;

  /**
   * @param {Owner} owner
   * @param {string} channel
   * @param {OnMessage | undefined} onMessage
   * @param {SubscribeOptions} on
   */
  constructor(owner, channel, onMessage, on) {
    this.#owner = owner;
    this.#onMessage = onMessage;
    this.#queue = onMessage ? null : [];
    this.channel = channel;
    this.on = on;
    on.signal?.addEventListener("abort", this.unsubscribe, { once: true });
  }

  /**
   * @param {unknown} data
   * @param {{ key?: string, echo?: boolean }} [options]
   */
  publish(data, options) {
    return this.#owner.publish(this.channel, data, options);
  }

  unsubscribe = () => {
    if (this.#ended) return;
    this.end();
    this.#owner.leave(this);
  };

  /** @param {Message} message */
  deliver(message) {
    call(this.#onMessage, message);
    if (!this.#queue) return;
    this.#queue.push(message);
    if (this.#queue.length > MAX_QUEUE) this.#drop(/** @type {Message} */ (this.#queue.shift()));
    this.#wake?.();
  }

  /**
   * No more messages; a loop ends, or throws `error`.
   * @param {HubError} [error]
   */
  end(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.on.signal?.removeEventListener("abort", this.unsubscribe);
    if (error) call(this.on.onError, error);
    this.#wake?.();
  }

  /**
   * The messages in order. Leaving the loop unsubscribes, unless there is a callback as well.
   * @returns {AsyncGenerator<Message, void, void>}
   */
  async *[Symbol.asyncIterator]() {
    const queue = (this.#queue ??= []);
    try {
      for (;;) {
        const message = queue.shift();
        if (message) yield message;
        else if (this.#error) throw this.#error;
        else if (this.#ended) return;
        else await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
      }
    } finally {
      if (this.#onMessage) this.#queue = null;
      else this.unsubscribe();
    }
  }

  /** @param {Message} message */
  #drop({ channel, epoch, offset, position }) {
    const range = offset === undefined ? { unsequenced: 1 } : { from: offset, to: offset };
    call(this.on.onGap, { channel, epoch, ...range, position, reason: "client" });
  }
}
