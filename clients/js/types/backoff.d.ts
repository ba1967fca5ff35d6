/**
 * When to try again. The only file that knows about reconnect timing.
 *
 * Full jitter: a random moment between now and a ceiling that doubles with every failure, so
 * that clients which lost the same hub do not come back as one wave.
 */
/** Milliseconds by a clock that is never set; whether it counts a sleep is the machine's choice. */
export declare const now: () => number;
/**
 * `setTimeout` for any number: one above the longest timer, or none at all, would be due at once.
 * @param {() => void} run
 * @param {number} delay
 */
export declare const timer: (run: () => void, delay: number) => number;
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
