/**
 * One channel as this client sees it: how far it is, and who listens.
 *
 * Offsets order publications within an epoch; what is not newer than the last one seen is a
 * repeat and is dropped. So two connections may bring the same channel while the client moves
 * from one to the other: what comes first counts. Holes without a gap are normal (a publication
 * with `echo: false` does not come back), so only the hub's `gap` is reported.
 */

/** @typedef {import("./subscription.js").Member} Member */
/** @typedef {import("./commands.js").Json} Json */
/** @typedef {ReturnType<typeof openChannel>} Channel */

/** @param {string} position `epoch:offset`, split at its last colon */
export const epochOf = (position) => position.slice(0, position.lastIndexOf(":"));

/**
 * @param {string} channel
 * @param {{ since?: string, last?: number, fill?: boolean }} first how the first subscription starts
 */
export function openChannel(channel, { since, last, fill }) {
  /** @type {Set<Member>} */
  const members = new Set();
  let epoch = "";
  let offset = 0;
  let asked = ""; // the epoch that the newest connection was asked to resume in

  const position = () => `${epoch}:${offset}`;

  /** @param {string} text `epoch:offset` */
  const move = (text) => {
    epoch = epochOf(text);
    offset = Number(text.slice(epoch.length + 1));
  };

  if (since) move(since);

  return {
    channel,
    members,

    /** What to ask the hub for: the present position, or else how the application starts. */
    request() {
      asked = epoch;
      return { channel, since: epoch ? position() : undefined, last, fill };
    },

    /**
     * Tell the members what is new; a copy of them, because a callback may unsubscribe.
     * @param {Json} push
     * @param {Map<string, string>} epochs of the channels that the connection is subscribed to
     * @param {boolean} first whether this is the connection for what has no offset
     */
    push({ op, ...item }, epochs, first) {
      const theirs = epochs.get(channel);
      const last = item.offset ?? item.to;
      if (op === "subscribed") {
        // A position that is known stays. That of another epoch moves with the `reset` that
        // follows; moving now would hide it if the connection ended in between.
        epochs.set(channel, epochOf(item.position));
        if (!epoch) move(item.position);
      } else if (!theirs) return; // owed to an earlier subscription
      else if (item.position) {
        epochs.set(channel, item.epoch);
        if (item.epoch === epoch && asked !== epoch) return; // the other connection said it
        move(item.position);
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
    },
  };
}
