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
  const pending = commands();
  /** @type {Map<string, Channel>} */
  const channels = new Map();
  const listeners = new Set([show]);
  /** @type {Link | null} */
  let link = null;
  /** @type {HubError | undefined} why nothing goes any more */
  let closed;

  /** @param {Json} command */
  const request = async (command) => {
    if (closed) throw closed;
    wake();
    return pending.request(command);
  };

  /**
   * A command whose answer changes nothing.
   * @param {Json} command
   */
  const send = (command) => void request(command).catch(() => {});

  /** Connect after the present task, so that its subscriptions travel together. */
  const wake = () => queueMicrotask(connection.start);

  /**
   * Subscribe by command. What is refused for now is asked again, at once on a new connection;
   * what is refused for good ends the subscriptions.
   * @param {Channel} channel
   */
  const ask = async (channel) => {
    const { channel: name } = channel;
    const mine = /** @type {Link} */ (link);
    const current = () => channels.get(name) === channel;
    try {
      await pending.request({ op: "subscribe", ...channel.request() }, (ok) => {
        if (mine.duplex && current()) channel.push({ op: "subscribed", ...ok }, mine.epochs, true);
      });
    } catch (error) {
      // Of a reply that was lost the stream may have told already.
      if (!current() || mine.epochs.get(name)) return;
      const { retryable } = /** @type {HubError} */ (error);
      if (!retryable) return end(channel, /** @type {HubError} */ (error));
      const again = () => mine === link && current() && ask(channel);
      mine.timers[name] = setTimeout(again, 1000 + 2000 * Math.random());
    }
  };

  /**
   * @param {Channel} channel
   * @param {HubError} [error]
   */
  const end = ({ channel, members }, error) => {
    channels.delete(channel);
    members.forEach((member) => member.end(error));
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
    send({ op: "unsubscribe", channel });
  };

  const connection = openConnection(base, options, {
    up(next) {
      link = next;
      pending.attach(next.send);
      channels.forEach(ask);
      pending.flush(); // after the subscribes: who publishes may wait for its own message
    },

    down() {
      link = null;
      pending.detach();
    },

    push(push, { epochs }) {
      const { op, channel, reason } = push;
      const known = channels.get(channel);
      if (op === "reply") pending.reply(push);
      // An operator's doing, which must not be undone by asking again.
      else if (op === "unsubscribed") known && end(known, new HubError(op, false, reason));
      // While two connections bring a channel, one is for what has no offset to compare.
      else known?.push(push, epochs, epochs === link?.epochs || !link?.epochs.get(channel));
    },

    state(state) {
      const { code, reason } = state;
      if (state.state === "closed") {
        closed = new HubError("closed", false, reason);
        pending.detach(closed);
        channels.forEach((channel) => end(channel, code ? closed : undefined));
      }
      listeners.forEach((listener) => call(listener, state));
    },
  });

  return {
    close: connection.close,
    listeners,
    request,

    /**
     * @param {string} name
     * @param {import("./subscription.js").Listening} on
     */
    subscribe(name, on) {
      const { since, last, signal } = on;
      let channel = channels.get(name);
      if (channel && (since || last)) {
        throw new TypeError(`${name}: since, last are for the first subscription`);
      }
      const member = openSubscription({ leave, request }, name, on);
      if (closed || signal?.aborted) member.end(closed);
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
