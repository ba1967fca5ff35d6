/**
 * When to try again. The only file that knows about reconnect timing.
 *
 * Full jitter: a random moment between now and a ceiling that doubles with every failure, so
 * that clients which lost the same hub do not come back as one wave.
 */

// Guesses, not measured: a restarted process is found within a second; the wait after an outage
// stays below half a minute.
const BASE_MS = 1000;
const CAP_MS = 30000;

/** @param {() => number} [random] from 0 up to 1 */
export function backoff(random = Math.random) {
  let ceiling = BASE_MS;
  return {
    /** Milliseconds to wait after one more failure. */
    next() {
      const delay = random() * ceiling;
      ceiling = Math.min(CAP_MS, ceiling * 2);
      return delay;
    },

    /**
     * Milliseconds to wait inside a window, such as the one of the hub's goodbye.
     * @param {number} windowMs
     */
    within: (windowMs) => random() * windowMs,

    /** The connection proved itself: the next failure is a first one again. */
    reset() {
      ceiling = BASE_MS;
    },
  };
}
