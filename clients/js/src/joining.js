/**
 * The replay of a start or a resume, as one message (`joined`).
 *
 * The hub says with the start how many offsets follow from history, so the last one of them is
 * known. Where history does not reach back that far, the gap that comes first moves it. Should it
 * never come, nothing waits for it for long: the joined part is told, and the rest comes singly.
 */

import { epochOf, offsetOf } from "./channel.js";
import { JOIN_MS } from "./limits.js";

/** @typedef {any} Item a message or a gap */

const PARTS = Symbol("parts"); // not the application's

/**
 * One message out of several, of which the last says all but the data.
 * @param {Item[]} parts
 * @returns {Item}
 */
const join = (parts) => ({
  ...parts.at(-1),
  data: parts.map(({ data }) => data).join(""),
  joined: parts.length,
  [PARTS]: parts,
});

/** @param {Item} item */
const isText = ({ data }) => typeof data === "string";

/**
 * The offset that it begins with.
 * @param {Item} item
 * @returns {number}
 */
export const firstOf = ({ offset, [PARTS]: parts }) => parts?.[0].offset ?? offset;

/**
 * The part of a joined message that is behind an offset.
 * @param {Item} item
 * @param {number} offset
 */
export const joinBehind = (item, offset) => join(item[PARTS].filter((/** @type {Item} */ part) => part.offset > offset));

/**
 * A page of history, joined where all of it is text.
 * @param {Item[]} found
 */
export const joinPage = (found) => (found[0] && found.every(isText) ? [join(found)] : found);

/** @param {(item: Item) => void} hand where each has its turn */
export function openJoiner(hand) {
  /** @type {Item[]} */
  const parts = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let epoch = "";
  let start = 0;
  let count = 0; // how many offsets the hub said would follow
  let last = 0; // of them

  /** Tell the parts that are there. */
  const cut = () => {
    clearTimeout(timer);
    if (parts[0]) hand(join(parts.splice(0)));
  };

  return {
    cut,

    /**
     * @param {string} position before what is replayed
     * @param {number} [replayed]
     */
    starts(position, replayed = 0) {
      if (epoch !== epochOf(position)) last = 0;
      epoch = epochOf(position);
      start = offsetOf(position);
      count = replayed;
      last = Math.max(last, start + count);
    },

    /** @param {Item} item */
    push(item) {
      const { offset } = item;
      const replayed = item.epoch === epoch && offset <= last && !item.end;
      const joins = replayed && isText(item);
      if (joins) parts.push(item);
      else if (replayed) {
        last = 0;
        parts.splice(0).forEach(hand);
      }
      if (joins && offset < last) {
        clearTimeout(timer);
        timer = setTimeout(() => {
          last = 0;
          cut();
        }, JOIN_MS);
        return;
      }
      cut();
      if (joins) return;
      // History holds these no more: behind the gap follow as many as the hub said.
      if (count && item.reason && item.from === start + 1) last = Math.max(last, item.to + count);
      hand(item);
    },
  };
}
