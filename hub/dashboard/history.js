/**
 * The last two minutes of all nodes, second by second: what charts are drawn from.
 *
 * Nodes do not publish in step, so a node's figures stand for the two seconds after them as well. So
 * they do where a page asks a node every few seconds, because nothing can be heard. A second in which
 * nobody spoke, and nobody within the two before and the two after it, is a hole.
 */

/** How far back charts reach. */
export const SECONDS = 120;
/** So many seconds later a node's figures still are its own. */
const STANDS = 2;

/** @typedef {import("./live.js").Known} Known */

/** @param {(known: Known[]) => any} together makes one sample of what all nodes said */
export function openHistory(together) {
  /** @type {Map<number, Map<string, Known>>} by second: what each node said */
  const seconds = new Map();
  /** @type {Map<number, any>} */
  const samples = new Map();
  let newest = 0;

  /** @param {number} second */
  const sample = (second) => {
    const near = Array.from({ length: STANDS }, (_, index) => index + 1);
    const between = near.some((back) => seconds.has(second - back)) && near.some((ahead) => seconds.has(second + ahead));
    if (!seconds.has(second) && !between) return undefined;
    /** @type {Map<string, Known>} */
    const standing = new Map();
    for (let back = STANDS; back >= 0; back--) {
      seconds.get(second - back)?.forEach((known, name) => standing.set(name, known));
    }
    return together([...standing.values()]);
  };

  return {
    /** @param {number} second @param {string} name @param {Known} known */
    put(second, name, known) {
      newest = Math.max(newest, second);
      if (second <= newest - SECONDS) return;
      seconds.set(second, (seconds.get(second) ?? new Map()).set(name, known));
      for (let near = second - STANDS; near <= second + STANDS; near++) samples.delete(near);
    },
    /** One per second, the newest last; holes are undefined. */
    samples() {
      const first = newest - SECONDS + 1;
      for (const map of [seconds, samples]) {
        for (const second of map.keys()) if (second < first - STANDS) map.delete(second);
      }
      return Array.from({ length: SECONDS }, (_, index) => {
        const second = first + index;
        if (!samples.has(second)) samples.set(second, sample(second));
        return samples.get(second);
      });
    },
  };
}
