/**
 * One channel as this client sees it: how far it is, and who listens.
 *
 * Offsets order publications within an epoch; what is not newer than the last one seen is a
 * repeat and is dropped. Holes without a gap are normal (a publication with `echo: false` does
 * not come back), so only the hub's `gap` is reported.
 */

import { call } from "./errors.js";

/** @typedef {import("./subscription.js").Subscription} Subscription */
/** @typedef {import("./subscription.js").SubscribeOptions} SubscribeOptions */
/** @typedef {import("./commands.js").Json} Json */
/** @typedef {ReturnType<typeof openChannel>} Channel */

/**
 * @param {string} channel
 * @param {{ since?: string, last?: number, fill?: boolean }} first how the first subscription starts
 */
export function openChannel(channel, { since, last, fill }) {
  /** @type {Set<Subscription>} */
  const subscriptions = new Set();
  let epoch = "";
  let offset = 0;
  // The hub confirmed the subscription on the present connection.
  let live = false;

  const position = () => epoch && `${epoch}:${offset}`;

  /** @param {string} text `epoch:offset`, split at its last colon */
  const epochOf = (text) => text.slice(0, text.lastIndexOf(":"));

  /** @param {string} text `epoch:offset` */
  const move = (text) => {
    epoch = epochOf(text);
    offset = Number(text.slice(epoch.length + 1));
  };

  /**
   * Tell every subscription; a copy, because a callback may unsubscribe.
   * @param {(subscription: Subscription) => void} tell
   */
  const each = (tell) => [...subscriptions].forEach(tell);

  return {
    channel,
    subscriptions,

    /** What to ask the hub for: the present position, or else how the application starts. */
    request() {
      const start = position() || since;
      return { channel, ...(start ? { since: start } : { last }), fill };
    },

    /**
     * Listen too; told at once when the channel is live already.
     * @param {Subscription} subscription
     */
    add(subscription) {
      subscriptions.add(subscription);
      if (!live) return;
      const subscribed = { channel, position: position(), recovered: true, replayed: 0 };
      queueMicrotask(() => call(subscription.on.onSubscribed, subscribed));
    },

    /** The connection is gone. */
    down() {
      live = false;
    },

    /** @param {Json} push a `subscribed` push, or the `ok` of a subscribe command */
    subscribed({ op, ...subscribed }) {
      live = true;
      // Another epoch than the one known: its `reset` follows and moves the position. Moving
      // now would hide it from the application if the connection ended in between.
      const known = position() || since;
      if (!known || epochOf(known) === epochOf(subscribed.position)) move(subscribed.position);
      each(({ on }) => call(on.onSubscribed, /** @type {any} */ (subscribed)));
    },

    /** @param {Json} push */
    message({ op, ...message }) {
      if (!live) return; // owed to an earlier subscription of the same channel
      if (message.offset <= offset) return;
      offset = message.offset ?? offset;
      const whole = /** @type {any} */ ({ ...message, epoch, position: position() });
      each((subscription) => subscription.deliver(whole));
    },

    /** @param {Json} push */
    gap({ op, ...gap }) {
      if (!live) return;
      if (gap.position) move(gap.position);
      else if (gap.to > offset) offset = gap.to;
      each(({ on }) => call(on.onGap, /** @type {any} */ (gap)));
    },

    /** @param {Json} push a `join`, `leave` or `presence_reset` */
    presence(push) {
      each(({ on }) => call(on.onPresence, /** @type {any} */ (push)));
    },
  };
}
