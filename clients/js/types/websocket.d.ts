/** The first choice: commands and pushes as text frames of one WebSocket. */
/** @param {import("./connection.js").Link} link */
export declare function openWebSocket(link: import("./connection.js").Link): void;
