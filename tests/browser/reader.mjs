// A Node subscriber with the browser client: every message and gap as one line of JSON.
// WebSocket where this Node has one (22 and newer), otherwise the client falls back to SSE.

import { Hub } from "../../clients/js/src/hub.js";

const [url, channel, since] = process.argv.slice(2);
const random = () => Math.random() / 8; // a wait that would be seconds is not, in a test
const print = (entry) => console.log(JSON.stringify(entry));

new Hub(url, { random }).subscribe(channel, ({ data, position }) => print({ data, position }), {
  since,
  onGap: ({ reason, from, to, position }) => print({ reason, from, to, position }),
});
