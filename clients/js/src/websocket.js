/** The first choice: commands and pushes as text frames of one WebSocket. */

import { LOST } from "./limits.js";

/** @param {import("./connection.js").Link} link */
export function openWebSocket(link) {
  const url = link.url("ws");
  url.protocol = url.protocol.replace("http", "ws");
  /** @type {InstanceType<import("./options.js").Socket>} */
  const socket = new (link.WebSocket ?? WebSocket)(url);
  socket.onmessage = (event) => link.push(JSON.parse(event.data));
  socket.onclose = (event) => link.closed(event.code, event.reason);
  // `onclose` may not follow: Node's own WebSocket tells of a refused handshake by this alone.
  socket.onerror = (event) => link.closed(LOST, event.message);
  link.duplex = true;
  link.send = (command) => socket.send(JSON.stringify(command));
  link.close = () => socket.close();
}
