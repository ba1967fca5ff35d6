/** Which channels are wanted, and what of them the present connection carries. */

import { openChannel } from "./channel.js";
import { commands } from "./commands.js";
import { connection as openConnection } from "./connection.js";
import { call, HubError } from "./errors.js";
import { openSubscription } from "./subscription.js";

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./connection.js").Link} Link */
/** @typedef {import("./options.js").State} State */
/** @typedef {import("./subscription.js").Member} Member */

/**
 * @param {URL} base
 * @param {import("./options.js").Options} options
 * @param {(state: State) => void} show
 */
export function openClient(base, options, show) {
  const pending = commands(() => link?.send);
  /** @type {Map<string, Channel>} */
  const channels = new Map();
  const listeners = new Set([show]);
  /** @type {Link | null} */
  let link = null;
  /** @type {Set<Link>} that were it before, and may still bring something */
  const before = new Set();
  /** @type {HubError | undefined} why nothing goes any more */
  let closed;

  /**
   * Resolves with the reply's `ok`; rejects with a `HubError`, or what JSON cannot say.
   * @param {Json} command
   * @returns {Promise<any>}
   */
  const request = (command) =>
    new Promise((resolve, reject) => {
      if (closed) throw closed;
      pending.request(command, (error, ok) => (error ? reject(error) : resolve(ok)));
      wake();
    });

  /** Connect after the present task, so that its subscriptions travel together. */
  const wake = () => queueMicrotask(connection.start);

  /**
   * Subscribe by command. What is refused for now is asked again, at once on a new connection;
   * what is refused for good ends the subscriptions.
   * @param {Channel} channel
   */
  const ask = (channel) => {
    const { channel: name } = channel;
    const mine = /** @type {Link} */ (link);
    const current = () => channels.get(name) === channel;
    const again = () => mine === link && current() && ask(channel);
    pending.request({ op: "subscribe", ...channel.request() }, (error, ok) => {
      // The stream may have told already: of a reply that comes later, or was lost.
      if (!current() || mine.epochs.get(name)) return;
      if (ok) {
        const told = { op: "subscribed", ...ok };
        if (mine.duplex) channel.push(told, mine.epochs, true, brings(channel));
      } else if (error?.retryable) setTimeout(again, 1000 + 2000 * Math.random());
      // A browser sent the command twice: the stream will tell where the first one started.
      else if (error?.code !== "conflict") end(channel, error);
    });
  };

  /**
   * Whether a connection that was taken over from still brings the channel.
   * @param {Channel} channel
   */
  const brings = ({ channel }) => [...before].some(({ epochs }) => epochs.get(channel));

  /**
   * @param {Channel} channel
   * @param {HubError} [error]
   */
  const end = (channel, error) => {
    channels.delete(channel.channel);
    channel.members.forEach((member) => member.end(error));
  };

  /**
   * @param {string} channel
   * @param {Member} member
   */
  const leave = (channel, member) => {
    const { members } = /** @type {Channel} */ (channels.get(channel));
    members.delete(member);
    if (members.size) return;
    channels.delete(channel);
    if (!link) return;
    link.epochs.delete(channel);
    request({ op: "unsubscribe", channel }).catch(() => {}); // the answer changes nothing
  };

  const connection = openConnection(base, options, {
    up(next) {
      if (link) before.add(link);
      link = next;
      channels.forEach(ask);
      pending.flush(); // after the subscribes: who publishes may wait for its own message
    },

    down() {
      link = null;
      pending.fail();
    },

    over(gone) {
      if (before.delete(gone)) channels.forEach((channel) => brings(channel) || channel.release(true));
    },

    push(push, from) {
      const { op, channel } = push;
      const known = channels.get(channel);
      if (op === "reply") pending.reply(push);
      // An operator's doing, which must not be undone by asking again.
      else if (op === "unsubscribed") known && end(known, new HubError(op, false, push.reason));
      else if (known) {
        // While two connections bring a channel, one is for what has no offset to compare.
        const first = from === link || !link?.epochs.get(channel);
        known.push(push, from.epochs, first, from === link && brings(known));
      }
    },

    state(state) {
      if (state.state === "closed") {
        closed = new HubError("closed", false, state.reason);
        channels.forEach((channel) => end(channel, state.code ? closed : undefined));
        pending.fail(closed);
      }
      listeners.forEach((listener) => call(listener, state));
    },
  });

  return {
    close: connection.close,
    request,

    /** @param {(state: State) => void} listener */
    on(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },

    /**
     * @param {string} name
     * @param {import("./subscription.js").Listening} on
     */
    subscribe(name, on) {
      let channel = channels.get(name);
      if (channel && (on.since || on.last)) {
        throw new TypeError(`${name}: since, last are for the first subscription`);
      }
      const member = openSubscription({ leave, request }, name, on);
      if (closed || on.signal?.aborted) member.end(closed);
      else {
        if (!channel) {
          channels.set(name, (channel = openChannel(name, on)));
          if (link) ask(channel);
        }
        channel.members.add(member);
        wake();
      }
      return member.subscription;
    },
  };
}
