/**
 * Where WebSocket does not get through: pushes as an event stream.
 *
 * `fetch` and not `EventSource`: it shows the status of a refusal and the comment heartbeats,
 * and it never reconnects by itself. Every `data:` is the same JSON as a WebSocket push, on one
 * line, so event names and ids are not needed here.
 */
/** @param {import("./connection.js").Link} link */
export declare const openSse: (link: import("./connection.js").Link) => void;
