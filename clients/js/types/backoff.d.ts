/**
 * When to try again. The only file that knows about reconnect timing.
 *
 * Full jitter: a random moment between now and a ceiling that doubles with every failure, so
 * that clients which lost the same hub do not come back as one wave.
 */
/** Milliseconds by the wall clock, which also counts the time a laptop slept. */
export declare const now: () => number;
/**
 * @param {() => number} random from 0 up to 1
 * @param {number} [baseMs] the first ceiling; the last is 30 times as high
 */
export declare function backoff(random: () => number, baseMs?: number): {
    /** Milliseconds to wait after one more failure. */
    next(): number;
    /** The connection proved itself: the next failure is a first one again. */
    reset(): void;
};
