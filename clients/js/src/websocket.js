/** The first choice: commands and pushes as text frames of one WebSocket. */

/** @param {import("./connection.js").Link} link */
export function openWebSocket(link) {
  const url = new URL("ws", link.base);
  url.protocol = url.protocol.replace("http", "ws");
  if (link.token) url.searchParams.set("token", link.token);
  const socket = /** @type {WebSocket} */ (new (link.WebSocket ?? WebSocket)(url));
  socket.onmessage = ({ data }) => link.push(JSON.parse(data));
  socket.onclose = ({ code, reason }) => link.closed(code, reason);
  socket.onerror = () => {}; // Node's `ws` throws what nobody listens to; `onclose` follows
  link.duplex = true;
  link.send = (command) => socket.send(JSON.stringify(command));
  link.close = () => socket.close();
}
