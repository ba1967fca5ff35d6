/**
 * Reads a stream with an EventSource that somebody else wrote, as its users do: `onmessage`, and a
 * listener for `subscribed`. Each event's data is a line on stdout.
 *
 *     node event_source.mjs <package> <url>
 */

import { createRequire } from "node:module";

const [name, url] = process.argv.slice(2);
const found = createRequire(new URL("../../../clients/js/", import.meta.url))(name);
const EventSource = found.EventSource ?? found.default ?? found;

const source = new EventSource(url);
source.onmessage = ({ data }) => console.log(data);
source.addEventListener("subscribed", ({ data }) => console.log(data));
source.onerror = () => {}; // it comes back by itself
