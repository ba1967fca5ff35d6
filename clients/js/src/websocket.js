/** The first choice: commands and pushes as text frames of one WebSocket. */

/**
 * @typedef {object} Place
 * @property {URL} base ends in a slash
 * @property {string | undefined} token
 * @property {import("./commands.js").Json[]} wanted subscriptions, as `Channel.request` says
 * @property {typeof globalThis.WebSocket} WebSocket
 * @property {typeof globalThis.fetch} fetch
 */
/**
 * @typedef {object} Heard
 * @property {(push: import("./commands.js").Json) => void} push
 * @property {() => void} alive some byte came
 * @property {(code: number, reason?: string) => void} closed at most once, never after `close()`
 */
/**
 * @typedef {object} Link
 * @property {Set<string>} included channels that are subscribed by connecting
 * @property {boolean} duplex whether a reply proves that pushes still arrive
 * @property {(command: import("./commands.js").Json) => void} send
 * @property {() => void} close
 */

/**
 * @param {Place} place
 * @param {Heard} heard
 * @returns {Link}
 */
export function openWebSocket({ base, token, WebSocket }, heard) {
  const url = new URL("ws", base);
  url.protocol = base.protocol.replace("http", "ws");
  if (token) url.searchParams.set("token", token);
  const socket = new WebSocket(url.href);
  socket.onmessage = ({ data }) => {
    heard.alive();
    heard.push(JSON.parse(data));
  };
  socket.onclose = ({ code, reason }) => heard.closed(code, reason);
  return {
    included: new Set(),
    duplex: true,
    send: (command) => socket.send(JSON.stringify(command)),
    close() {
      socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}
