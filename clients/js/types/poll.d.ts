/**
 * Where no stream gets through: long polling. Each answer says how far every channel is, and the
 * next poll repeats that, so the hub notices an answer that was lost on the way.
 */
/** @param {import("./connection.js").Link} link */
export declare const openPoll: (link: import("./connection.js").Link) => void;
