/**
 * A subscriber behind a proxy that refuses WebSockets: `refused.mjs URL CHANNEL LIBRARY`, with Node's
 * own WebSocket (`node`) or the npm package `ws`. Says its states and numbers as JSON lines.
 */

import { createInterface } from "node:readline";
import { Hub } from "../../../clients/js/src/hub.js";

const [url, channel, library] = process.argv.slice(2);
const { WebSocket } = library === "node" ? globalThis : await import("../../../clients/js/node_modules/ws/wrapper.mjs");
const say = (event, value) => console.log(JSON.stringify([event, value]));

const hub = new Hub(url, { WebSocket, random: () => Math.random() / 10, betterMs: 300 });
hub.on("state", ({ state, transport }) => say("state", [state, transport]));
hub.subscribe(channel, ({ data }) => say("number", data), {
  onGap: (gap) => say("gap", gap),
  onSubscribed: ({ position }) => say("subscribed", position),
});
createInterface({ input: process.stdin }).on("close", () => {
  hub.close();
  setTimeout(() => process.exit(0), 200);
});
