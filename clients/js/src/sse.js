/**
 * Where WebSocket does not get through: pushes as an event stream.
 *
 * `fetch` and not `EventSource`: it shows the status of a refusal and the comment heartbeats,
 * and it never reconnects by itself. Every `data:` is the same JSON as a WebSocket push, on one
 * line, so event names and ids are not needed here.
 */

import { now } from "./backoff.js";
import { openHttp } from "./http.js";
import { MAX_EVENT } from "./limits.js";

/** @param {import("./connection.js").Link} link */
export const openSse = (link) =>
  openHttp(link, async (get, push) => {
    const { body } = await get("sse?session=true");
    const decoded = /** @type {ReadableStream} */ (body).pipeThrough(new TextDecoderStream());
    const reader = decoded.getReader();
    let text = "";
    for (;;) {
      const next = await reader.read();
      if (next.done) return "end of stream";
      link.heardAt = now(); // a comment is a sign of life too
      const lines = (text + next.value).split("\n");
      text = /** @type {string} */ (lines.pop());
      if (text.length > MAX_EVENT) return "too large";
      for (const line of lines) if (line.startsWith("data:")) push(JSON.parse(line.slice(5)));
    }
  });
