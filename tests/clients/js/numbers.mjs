/**
 * A subscriber to numbers that a test publishes: `numbers.mjs URL CHANNEL LAST TRANSPORTS`.
 *
 * Says everything it hears as one JSON line each, and ends with the number LAST. Lines on its
 * standard input open and block its WebSocket, as a proxy would. Of several URLs, joined by
 * commas, each request takes the next, as a balancer does that knows no sessions.
 */

import { createInterface } from "node:readline";
import { Hub } from "../../../clients/js/src/hub.js";

const [url, channel, last, transports] = process.argv.slice(2);
const nodes = url.split(",").map((each) => new URL(each));
const say = (event, value) => console.log(JSON.stringify([event, value]));
const sockets = new Set();
let open = true;

class Gate extends WebSocket {
  constructor(address) {
    if (!open) throw new Error("blocked");
    super(address);
    sockets.add(this);
  }
}

createInterface({ input: process.stdin }).on("line", (line) => {
  open = line === "open";
  if (!open) sockets.forEach((socket) => socket.close());
  say("gate", line);
});

const balanced = (address, init) => {
  nodes.push(nodes.shift());
  address.host = nodes[0].host;
  return fetch(address, init);
};
const random = () => Math.random() / 10; // for pauses of a tenth
const options = { WebSocket: Gate, fetch: balanced, random, betterMs: 400, probeMs: 20000 };
const hub = new Hub(nodes[0].href, { ...options, transports: transports.split(",") });
hub.on("state", ({ state, transport }) => say("state", [state, transport]));
hub.subscribe(
  channel,
  async ({ data, position }) => {
    say("number", data);
    if (data !== Number(last)) return;
    const published = await hub.publish(`${channel}:answer`, { at: position });
    const { publications } = await hub.history(channel, { limit: 1000 });
    const { members } = await hub.presence(channel);
    say("end", { published: published.offset, history: publications.length, members: members.length });
    hub.close();
    process.stdin.destroy();
  },
  { onGap: (gap) => say("gap", gap), onSubscribed: ({ position }) => say("subscribed", position) },
);
