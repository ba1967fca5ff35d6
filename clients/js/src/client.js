/** Which channels are wanted, and what of them the present connection carries. */

import { openChannel } from "./channel.js";
import { commands } from "./commands.js";
import { connection as openConnection } from "./connection.js";
import { call, complain, HubError } from "./errors.js";
import { NO_PAGE, WRITE } from "./limits.js";
import { check, SUBSCRIBE_OPTIONS } from "./options.js";
import { openSubscription } from "./subscription.js";

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./connection.js").Link} Link */
/** @typedef {import("./options.js").State} State */
/** @typedef {import("./subscription.js").Member} Member */

/**
 * When a subscription that was refused for now is asked for again. On top of what the hub says,
 * because many clients are told the same second.
 * @param {number} toldSeconds
 */
const askAgainMs = (toldSeconds) => 1000 * (toldSeconds + 1 + 2 * Math.random());

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

  /** Throws where a path was given and there is no page: a server that renders one only makes a `Hub`. */
  const reachable = () => {
    if (base.origin === NO_PAGE) throw new TypeError(`no hub at "${base.pathname}": ${WRITE}`);
  };

  /**
   * Resolves with the reply's `ok`; rejects with a `HubError`, or what JSON cannot say.
   * @param {Json} command
   * @returns {Promise<any>}
   */
  const request = (command) =>
    new Promise((resolve, reject) => {
      if (closed) throw closed;
      reachable();
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
      } else if (error?.retryable) setTimeout(again, askAgainMs(error.retryAfterSeconds));
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
   * @param {HubError | 1} [error] 1 where the channel has had its last publication
   */
  const end = (channel, error) => {
    channels.delete(channel.channel);
    channel.release(true);
    channel.members.forEach((member) => member.end(error));
  };

  /**
   * The connection is over until `connect`: what listens by callback goes on then.
   * @param {Channel} channel
   * @param {HubError} [error]
   */
  const pause = (channel, error) => {
    for (const member of [...channel.members]) member.pause(error) || channel.leave(member);
    if (!channel.members.size) channels.delete(channel.channel);
  };

  /**
   * @param {string} channel
   * @param {Member} member
   */
  const leave = (channel, member) => {
    const left = /** @type {Channel} */ (channels.get(channel));
    left.leave(member);
    if (left.members.size) return;
    channels.delete(channel);
    if (!link) return;
    link.epochs.delete(channel);
    request({ op: "unsubscribe", channel }).catch(() => {}); // the answer changes nothing
  };

  const connection = openConnection(base, options, {
    up(next) {
      if (link) before.add(link);
      link = next;
      pending.drop();
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
      // An operator's doing, which must not be undone by asking again; or the channel has ended.
      else if (op === "unsubscribed") known && end(known, push.reason === "ended" ? 1 : new HubError(op, false, push.reason));
      else if (known) {
        // While two connections bring a channel, one is for what has no offset to compare.
        const first = from === link || !link?.epochs.get(channel);
        known.push(push, from.epochs, first, from === link && brings(known));
      }
    },

    state(state) {
      if (state.state === "closed") {
        const error = (closed = new HubError("closed", false, state.reason));
        link = null;
        channels.forEach((channel) => pause(channel, state.code ? error : undefined));
        if (state.code) complain(`${base} refuses this client (${state.code})`, state.reason);
        pending.refuse(error);
      }
      listeners.forEach((listener) => call(listener, state));
    },
  });

  return {
    close: connection.close,
    request,

    /** Connect again after a close, for whatever reason. */
    connect() {
      closed = undefined;
      connection.restart();
    },

    /**
     * @param {string} channel
     * @param {unknown} data
     */
    async update(channel, data) {
      await request({ op: "presence_update", channel, data });
      channels.get(channel)?.says(data);
    },

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
      check(on, SUBSCRIBE_OPTIONS);
      reachable();
      const member = openSubscription({ leave, request }, name, on);
      if (on.signal?.aborted) member.end();
      else if (!closed || member.pause(closed)) {
        const known = channels.get(name);
        if (known && known.filter !== JSON.stringify(on.filter))
          member.end(new HubError("conflict", false, `"${name}" is subscribed with another filter`));
        else if (known) known.join(member, !!link?.epochs.get(name));
        else {
          const channel = openChannel(name, { ...on, every_ms: on.everyMs });
          channels.set(name, channel);
          channel.members.add(member);
          if (link) ask(channel);
        }
        wake();
      }
      return member.subscription;
    },
  };
}
