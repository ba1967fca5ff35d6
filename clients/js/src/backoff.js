/**
 * When to try again. The only file that knows about reconnect timing.
 *
 * Full jitter: a random moment between now and a ceiling that doubles with every failure, so
 * that clients which lost the same hub do not come back as one wave.
 */

import { BASE_MS, CEILINGS } from "./limits.js";

/** Milliseconds by the wall clock, which also counts the time a laptop slept. */
export const now = () => Date.now();

/**
 * @param {() => number} random from 0 up to 1
 * @param {number} [baseMs] the first ceiling; the last is 30 times as high
 */
export function backoff(random, baseMs = BASE_MS) {
  let ceiling = baseMs;
  return {
    /** Milliseconds to wait after one more failure. */
    next() {
      const delay = random() * ceiling;
      ceiling = Math.min(CEILINGS * baseMs, ceiling * 2);
      return delay;
    },

    /** The connection proved itself: the next failure is a first one again. */
    reset() {
      ceiling = baseMs;
    },
  };
}
