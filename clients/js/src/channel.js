/**
 * One channel as this client sees it: its position, and the subscriptions that share it.
 *
 * Offsets order publications within an epoch; a publication that is not newer than the last one
 * seen is a repeat and is dropped. So two connections may bring the same channel while the client
 * moves from one to the other: the first copy counts. Holes without a gap are normal (a publication
 * with `echo: false` does not come back), so only the hub's `gap` is reported. A publication that
 * the newer of two connections lacks is no gap while the other one may still bring it: the gap
 * waits, and all that comes behind it waits as well.
 */

import { MAX_QUEUE } from "./limits.js";

/** @typedef {import("./subscription.js").Member} Member */
/** @typedef {import("./commands.js").Json} Json */
/** @typedef {ReturnType<typeof openChannel>} Channel */

// Gaps of this connection that another one may fill: it asked earlier, or is at another node (PROTOCOL.md, gaps).
const LACKING = /^(expired|broker)$/;

// `began` is told by this client: the connection was asked for another subscription.
const START = /^(subscribed|began)$/;

/** @param {string} position `epoch:offset`, split at its last colon */
export const epochOf = (position) => position.slice(0, position.lastIndexOf(":"));

/** @param {string} position */
export const offsetOf = (position) => Number(position.slice(position.lastIndexOf(":") + 1));

/**
 * @param {string} channel
 * @param {{ since?: string, last?: number, fill?: boolean, filter?: object, presence?: object,
 *   everyMs?: number, every_ms?: number, state?: boolean }} first the options that the hub is asked
 *   with, for all of its subscriptions
 * @param {Set<Member>} [members]
 * @param {string} [key] by which connections know that they bring it
 */
export function openChannel(channel, first, members = new Set(), key = channel) {
  const { since, last, fill, filter, every_ms, state } = first;
  let epoch = "";
  let offset = 0;
  let asked = ""; // the epoch that the newest connection was asked to resume in
  let head = 0; // the newest offset that is known of
  let start = 0; // the offset before what a start replays
  let short = 0; // how much it replays, where history does not reach back to there
  /** @type {{ data?: any }} what the application gave with the newest start */
  let given = {};
  /** @type {Set<Member>} later subscriptions that begin when the channel does */
  const waiting = new Set();
  /** @type {Map<string, any>} by key, for later subscriptions */
  const rows = new Map();
  let table = ""; // as of which rows come now

  const position = () => `${epoch}:${offset}`;

  /** @param {string} text `epoch:offset` */
  const move = (text) => {
    epoch = epochOf(text);
    offset = offsetOf(text);
  };

  /** @type {[Json, Map<string, string>, boolean][]} of the newer connection */
  const held = [];

  /**
   * Whether the other connection may still bring what is missing here.
   * @param {Json} push
   * @param {Map<string, string>} epochs
   */
  const lacks = ({ op, reason, to }, epochs) =>
    op === "gap" && LACKING.test(reason) && to > offset && epochs.get(key) === epoch;

  /**
   * Tell all that waits and lacks nothing any more.
   * @param {boolean} [whole] all of it: the other connection is over
   */
  const release = (whole) => {
    for (let next; (next = held[0]) && (whole || !lacks(next[0], next[1])); ) {
      held.shift();
      take(...next);
    }
  };

  /**
   * Tell the members of a push that is new; a copy of them, because a callback may unsubscribe.
   * @param {Json} push
   * @param {Map<string, string>} epochs
   * @param {boolean} isFirst
   */
  const take = ({ op, ...item }, epochs, isFirst) => {
    const theirs = epochs.get(key);
    const last = item.offset ?? item.to;
    if (START.test(op)) {
      // A position that is known stays. That of another epoch moves with the `reset` that
      // follows; moving now would hide it if the connection ended in between.
      epochs.set(key, epochOf(item.position));
      given = "data" in item ? { data: item.data } : {};
      if (!epoch && !state) move(item.position); // with rows there is no place before the last of them
      if (epochOf(item.position) === epoch) {
        start = offsetOf(item.position);
        head = Math.max(head, start + item.replayed);
      }
      short = item.recovered === false ? item.replayed : 0;
      if (!short) beginAll();
    } else if (!theirs) return; // owed to an earlier subscription
    else if (op === "state") {
      const at = item.position;
      const epochThen = epochOf(at);
      if (!state) {
        // Rows that another subscription asked for stand in place of messages.
        const to = offsetOf(at);
        const gap = { op: "gap", channel, epoch: epochThen };
        if (item.more || !epoch) return;
        if (epochThen !== epoch) return take({ ...gap, position: at, reason: "reset" }, epochs, isFirst);
        return take({ ...gap, from: offset + 1, to, reason: "expired" }, epochs, isFirst);
      }
      item.begins = at !== table;
      if (item.begins) rows.clear();
      table = item.more ? at : "";
      epochs.set(key, epochThen);
      if (!item.more) move(at);
      item.rows = item.rows.map((/** @type {Json} */ row) => ({
        channel,
        epoch: epochThen,
        ...row,
        position: `${epochThen}:${row.offset}`,
      }));
      for (const row of item.rows) rows.set(row.key, row);
    } else if (item.position) {
      epochs.set(key, item.epoch);
      if (item.epoch === epoch && asked !== epoch) return; // the other connection said it
      move(item.position);
      head = 0;
    } else if (last) {
      if (theirs !== epoch || last <= offset) return;
      // The replay follows this gap.
      if (short && item.from === start + 1) head = Math.max(head, last + short);
      if (item.to) item.from = Math.max(item.from, offset + 1);
      offset = last;
    } else if (!isFirst) return;
    if (op === "message") {
      item.epoch = epoch;
      item.position = position();
      if (state && item.key && !item.remove) rows.set(item.key, item);
      else rows.delete(item.key);
    }
    const isStart = START.test(op);
    [...members].forEach((member) => (isStart || !waiting.has(member)) && member.push(op, item));
    if (isStart || !short) return;
    short = 0;
    beginAll();
  };

  /** Where history does not reach back, the newest offset is known behind the gap that says so. */
  const beginAll = () => {
    waiting.forEach((member) => member.begin(epoch, offset, Math.max(head, offset)));
    waiting.clear();
  };

  if (since) move(since);

  const self = {
    name: channel,
    kind: "channel",
    key,
    members,
    first,
    asked: false, // of the hub
    /** The data that the member says of itself. */
    presence: first.presence,
    release,
    position: () => epoch && position(),
    all: () => [self],

    /**
     * Whether it lacks nothing of what a connection brings from there on.
     * @param {string} start
     */
    follows: (start) => !!epoch && !state && (epochOf(start) !== epoch || offsetOf(start) <= offset),

    /**
     * A further subscription: it begins here, or when the channel does.
     * @param {Member} member
     * @param {boolean} carried whether the present connection brings the channel already
     */
    join(member, carried) {
      members.add(member);
      if (state && (epoch || table)) {
        const whole = { channel, position: table || position(), rows: [...rows.values()], more: !!table, begins: true };
        queueMicrotask(() => members.has(member) && member.push("state", whole));
      } else if (!carried) return void (state || waiting.add(member));
      if (!carried) return;
      if (!state) member.begin(epoch, offset, Math.max(head, offset));
      const told = { channel, position: position(), recovered: true, replayed: 0, ...given };
      queueMicrotask(() => members.has(member) && member.push("subscribed", told));
    },

    /** @param {Member} member */
    leave(member) {
      members.delete(member);
      waiting.delete(member);
    },

    /** The command's fields: the present position, or else the start that the application wants. */
    request() {
      asked = epoch;
      table = "";
      return { channel, since: epoch ? position() : undefined, last, fill, filter, presence: self.presence, every_ms, state };
    },

    /**
     * @param {Json} push
     * @param {Map<string, string>} epochs of the channels that the connection is subscribed to
     * @param {boolean} isFirst whether this is the connection for pushes without an offset
     * @param {boolean} newer whether another one, which was there before, still brings the channel
     * @param {boolean} [shared] whether the connection brings it already, for another subscription:
     *   earlier messages do not come again
     */
    push(push, epochs, isFirst, newer, shared) {
      if (newer && (held.length || lacks(push, epochs))) held.push([push, epochs, isFirst]);
      else take(push, epochs, isFirst);
      if ((newer || shared) && START.test(push.op) && epochs.get(key) === epoch) {
        // Where it starts further on, that much is lacking, or in the rows that follow.
        const to = offsetOf(push.position);
        const gap = { op: "gap", channel, epoch, from: offset + 1, to, reason: "expired" };
        if (to <= offset || state) return release();
        if (newer) held.unshift([gap, epochs, isFirst]);
        else take(gap, epochs, isFirst);
      }
      release(held.length > MAX_QUEUE);
    },
  };
  return self;
}
