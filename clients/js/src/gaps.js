/**
 * Rules about missing messages in a queue: which gaps history may fill, which part of an item is
 * behind an offset, and how two neighbours become one gap where the queue is full.
 */

import { firstOf, joinBehind } from "./joining.js";

// Gaps that history may fill: the hub fills nothing else either (PROTOCOL.md, pushes).
const FILLABLE = /^(slow|client)$/;

/**
 * Whether a gap is to be asked of history. That tells of no filter.
 * @param {any} gap
 * @param {{ filter?: object, fill?: boolean }} on the options of the subscription
 */
export const isFillable = ({ ask, from, reason }, { filter, fill }) =>
  !filter && (ask || (fill && from && FILLABLE.test(reason)));

/**
 * The part of a message or gap that is behind an offset; nothing where all of it is before.
 * @param {any} item
 * @param {number} offset
 */
export const behind = (item, offset) => {
  if (item.joined && firstOf(item) <= offset && item.offset > offset) return joinBehind(item, offset);
  return !((item.offset ?? item.to) <= offset) && (item.from <= offset ? { ...item, from: offset + 1 } : item);
};

/**
 * Make one gap of the two oldest neighbours in a channel.
 * @param {any[]} queue
 */
export function shrink(queue) {
  for (const [at, item] of queue.entries()) {
    if (item.rows || item.reason === "reset") continue;
    const next = queue.findIndex(({ channel }, place) => place > at && channel === item.channel);
    if (next < 0) continue;
    queue[next] = join(item, queue[next]);
    return void queue.splice(at, 1);
  }
}

/**
 * The gap that a message or gap leaves: its first and last offset, and how many have none.
 * @param {any} item
 */
const span = ({ reason, from, to, unsequenced = 0, ...item }) =>
  reason ? [from, to, unsequenced] : [firstOf(item), item.offset, item.offset ? 0 : 1];

/**
 * Two neighbours that the loop was too slow for, as one gap. A reset says it of all before it.
 * @param {any} first
 * @param {any} second
 */
function join(first, second) {
  if (second.reason === "reset" || second.rows) return second;
  const [from, until, before] = span(first);
  const [next, to, after] = span(second);
  return {
    channel: second.channel,
    epoch: second.epoch,
    from: from ?? next,
    to: to ?? until,
    unsequenced: before + after || undefined,
    reason: "client",
  };
}
