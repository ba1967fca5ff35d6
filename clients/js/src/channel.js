/**
 * One channel as this client sees it: how far it is, and who listens.
 *
 * Offsets order publications within an epoch; what is not newer than the last one seen is a
 * repeat and is dropped. So two connections may bring the same channel while the client moves
 * from one to the other: what comes first counts. Holes without a gap are normal (a publication
 * with `echo: false` does not come back), so only the hub's `gap` is reported. What the newer of
 * two connections lacks is no gap while the other one may still bring it: it waits, and what
 * comes behind it waits as well.
 */

import { MAX_QUEUE } from "./limits.js";

/** @typedef {import("./subscription.js").Member} Member */
/** @typedef {import("./commands.js").Json} Json */
/** @typedef {ReturnType<typeof openChannel>} Channel */

// What another connection may have: it asked earlier, or is at another node (PROTOCOL.md, gaps).
const LACKING = /^(expired|broker)$/;

/** @param {string} position `epoch:offset`, split at its last colon */
export const epochOf = (position) => position.slice(0, position.lastIndexOf(":"));

/**
 * @param {string} channel
 * @param {{ since?: string, last?: number, fill?: boolean, filter?: object, presence?: object,
 *   every_ms?: number }} first how the first subscription starts
 */
export function openChannel(channel, { since, last, fill, filter, presence, every_ms }) {
  /** @type {Set<Member>} */
  const members = new Set();
  let epoch = "";
  let offset = 0;
  let asked = ""; // the epoch that the newest connection was asked to resume in
  let head = 0; // the newest offset that is known of
  /** @type {{ data?: any }} what the application gave with the newest start */
  let given = {};
  /** @type {Set<Member>} later subscriptions that begin when the channel does */
  const waiting = new Set();

  const position = () => `${epoch}:${offset}`;

  /** @param {string} text `epoch:offset` */
  const move = (text) => {
    epoch = epochOf(text);
    offset = Number(text.slice(epoch.length + 1));
  };

  /** @type {[Json, Map<string, string>, boolean][]} of the newer connection */
  const held = [];

  /**
   * Whether the other connection may still bring what is missing here.
   * @param {Json} push
   * @param {Map<string, string>} epochs
   */
  const lacks = ({ op, reason, to }, epochs) =>
    op === "gap" && LACKING.test(reason) && to > offset && epochs.get(channel) === epoch;

  /**
   * Tell what waits and lacks nothing any more.
   * @param {boolean} [whole] all of it: the other connection is over
   */
  const release = (whole) => {
    for (let next; (next = held[0]) && (whole || !lacks(next[0], next[1])); ) {
      held.shift();
      take(...next);
    }
  };

  /**
   * Tell the members what is new; a copy of them, because a callback may unsubscribe.
   * @param {Json} push
   * @param {Map<string, string>} epochs
   * @param {boolean} first
   */
  const take = ({ op, ...item }, epochs, first) => {
    const theirs = epochs.get(channel);
    const last = item.offset ?? item.to;
    if (op === "subscribed") {
      // A position that is known stays. That of another epoch moves with the `reset` that
      // follows; moving now would hide it if the connection ended in between.
      epochs.set(channel, epochOf(item.position));
      given = "data" in item ? { data: item.data } : {};
      if (!epoch) move(item.position);
      if (epochOf(item.position) === epoch) {
        const start = Number(item.position.slice(epoch.length + 1));
        head = Math.max(head, start + item.replayed);
      }
      waiting.forEach((member) => member.begin(epoch, offset, Math.max(head, offset)));
      waiting.clear();
    } else if (!theirs) return; // owed to an earlier subscription
    else if (item.position) {
      epochs.set(channel, item.epoch);
      if (item.epoch === epoch && asked !== epoch) return; // the other connection said it
      move(item.position);
      head = 0;
    } else if (last) {
      if (theirs !== epoch || last <= offset) return;
      if (item.to) item.from = Math.max(item.from, offset + 1);
      offset = last;
    } else if (!first) return;
    if (op === "message") {
      item.epoch = epoch;
      item.position = position();
    }
    [...members].forEach((member) => member.push(op, item));
  };

  if (since) move(since);

  return {
    channel,
    members,
    filter: JSON.stringify(filter), // the hub's, so of all its members
    release,

    /**
     * A further subscription: it begins here, or when the channel does.
     * @param {Member} member
     * @param {boolean} carried whether the present connection brings the channel already
     */
    join(member, carried) {
      members.add(member);
      if (!carried) return void waiting.add(member);
      member.begin(epoch, offset, Math.max(head, offset));
      const told = { channel, position: position(), recovered: true, replayed: 0, ...given };
      queueMicrotask(() => members.has(member) && member.push("subscribed", told));
    },

    /** @param {unknown} data what the member says of itself from now on */
    says(data) {
      presence = { data };
    },

    /** @param {Member} member */
    leave(member) {
      members.delete(member);
      waiting.delete(member);
    },

    /** What to ask the hub for: the present position, or else how the application starts. */
    request() {
      asked = epoch;
      return { channel, since: epoch ? position() : undefined, last, fill, filter, presence, every_ms };
    },

    /**
     * @param {Json} push
     * @param {Map<string, string>} epochs of the channels that the connection is subscribed to
     * @param {boolean} first whether this is the connection for what has no offset
     * @param {boolean} newer whether another one, which was there before, still brings the channel
     */
    push(push, epochs, first, newer) {
      if (newer && (held.length || lacks(push, epochs))) held.push([push, epochs, first]);
      else take(push, epochs, first);
      if (newer && push.op === "subscribed" && epochs.get(channel) === epoch) {
        // Where it starts further on, that much is lacking.
        const to = Number(push.position.slice(epoch.length + 1));
        const gap = { op: "gap", channel, epoch, from: offset + 1, to, reason: "expired" };
        if (to > offset) held.unshift([gap, epochs, first]);
      }
      release(held.length > MAX_QUEUE);
    },
  };
}
