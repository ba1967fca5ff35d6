/**
 * Where no stream gets through: long polling. Each answer says how far every channel is, and the
 * next poll repeats that, the newest channels first, so the hub notices an answer that was lost
 * on the way. Only a new session can tell its content.
 */
/** @param {import("./connection.js").Link} link */
export declare const openPoll: (link: import("./connection.js").Link) => void;
