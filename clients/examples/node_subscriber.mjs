// Prints every message of a channel as a line of JSON, through every outage.
//
//     node clients/examples/node_subscriber.mjs http://127.0.0.1:8000 prices
//
// Node 22 has a WebSocket; Node 20 uses server-sent events, or takes one from a package:
// `new Hub(url, { WebSocket: (await import("ws")).default })`.

// After `npm install broadcast-hub-client`: import { Hub } from "broadcast-hub-client";
import { Hub } from "../js/src/hub.js";

const [url = "http://127.0.0.1:8000", channel = "prices"] = process.argv.slice(2);
const hub = new Hub(url, { token: process.env.HUB_TOKEN });
const say = (...words) => process.stderr.write(`${words.join(" ")}\n`);

hub.on("state", ({ state, transport, reason = "" }) => say(state, transport, reason));

hub.subscribe(channel, (message) => process.stdout.write(`${JSON.stringify(message)}\n`), {
  last: 10,
  fill: true,
  onGap: ({ from, to, reason }) => say("missing", from ?? "", to ?? "", reason),
  onError({ code, message }) {
    say(`${code}: ${message}`);
    process.exitCode = 1;
  },
});

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => hub.close());
