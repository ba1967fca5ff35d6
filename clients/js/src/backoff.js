/**
 * When to try again. The only file that knows about reconnect timing.
 *
 * Full jitter: a random moment between now and a ceiling that doubles with every failure, so
 * that clients which lost the same hub do not come back as one wave.
 */

import { BASE_MS, CEILINGS, MAX_TIMER } from "./limits.js";

/** Milliseconds by a clock that is never set; whether it counts a sleep is the machine's choice. */
export const now = () => performance.now();

/**
 * `setTimeout` for any number: one above the longest timer, or none at all, would be due at once.
 * @param {() => void} run
 * @param {number} delay
 */
export const timer = (run, delay) => setTimeout(run, delay < MAX_TIMER ? delay : MAX_TIMER);

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
