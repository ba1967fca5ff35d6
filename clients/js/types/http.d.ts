/**
 * The part that server-sent events and long polling share: a session that begins with a GET, commands
 * as POST, and how the hub refuses.
 */
export type Json = import("./commands.js").Json;
export type Get = (path: string) => Promise<Response>;
/** @typedef {import("./commands.js").Json} Json */
/** @typedef {(path: string) => Promise<Response>} Get resolves with an answer that is no refusal */
/**
 * @param {import("./connection.js").Link} link
 * @param {(get: Get, push: (push: Json) => void) => Promise<string>} run until the session ends;
 *   resolves with the reason
 */
export declare function openHttp(link: import("./connection.js").Link, run: (get: Get, push: (push: Json) => void) => Promise<string>): void;
