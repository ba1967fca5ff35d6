/**
 * Where WebSocket does not get through: pushes as an event stream, commands as POST.
 *
 * `fetch` and not `EventSource`: it shows the status of a refusal and the comment heartbeats,
 * and it never reconnects by itself. Every `data:` is the same JSON as a WebSocket push, so
 * event names and ids are not needed here.
 */

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {import("./websocket.js").Heard} Heard */

// WIRE.md: 32 channels at most, a URL below 4 KB. The rest is subscribed by command.
const MAX_CHANNELS = 32;
const MAX_URL = 2800; // so that one more channel and position, encoded, end below 4 KB
// Far above any frame the hub sends (64 KiB of data by default).
const MAX_EVENT = 8 * 1024 * 1024;
const COMMAND_TIMEOUT_MS = 10000;
/** @type {Record<number, number>} */
const CLOSE_CODES = { 400: 4400, 401: 4401, 403: 4403, 413: 4413, 429: 4429 };

/**
 * @param {import("./websocket.js").Place} place
 * @param {Heard} heard
 * @returns {import("./websocket.js").Link}
 */
export function openSse({ base, token, wanted, fetch }, heard) {
  const { url, included } = address(base, token, wanted);
  const stop = new AbortController();
  let command = "";
  let secret = "";
  let goodbye = 1006;
  let line = Promise.resolve();
  /** @param {Json} push */
  const push = (push) => {
    if (push.op === "welcome") {
      secret = push.secret;
      command = new URL(`command?connection=${encodeURIComponent(push.connection)}`, base).href;
    } else if (push.op === "goodbye") goodbye = push.code;
    heard.push(push);
  };
  listen(fetch, url, stop.signal, { ...heard, push }).then(
    ([code, reason]) => stop.signal.aborted || heard.closed(code ?? goodbye, reason),
    (error) => stop.signal.aborted || heard.closed(1006, String(error)),
  );
  return {
    included,
    duplex: false,
    // One after the other: two POSTs at once may overtake each other.
    send(json) {
      line = line.then(() => post(fetch, command, secret, json)).then(heard.push);
    },
    close: () => stop.abort(),
  };
}

/**
 * The URL with as many subscriptions as it may carry. One `last` and one `fill` hold for all.
 * @param {URL} base
 * @param {string | undefined} token
 * @param {Json[]} wanted
 */
function address(base, token, wanted) {
  const url = new URL("sse", base);
  const { searchParams } = url;
  const included = new Set();
  const fill = !!wanted[0]?.fill;
  const alike = wanted.filter((each) => !!each.fill === fill);
  const last = alike.find(({ since }) => !since)?.last;
  if (token) searchParams.set("token", token);
  if (fill) searchParams.set("fill", "true");
  if (last) searchParams.set("last", last);
  for (const { channel, since, last: own } of alike) {
    if (included.size === MAX_CHANNELS || url.href.length > MAX_URL) break;
    if (!since && own !== last) continue;
    searchParams.append("channel", channel);
    if (since) searchParams.append("since", `${channel}=${since}`);
    included.add(channel);
  }
  return { url, included };
}

/**
 * Read the stream to its end.
 * @param {typeof globalThis.fetch} fetch
 * @param {URL} url
 * @param {AbortSignal} signal
 * @param {Heard} heard
 * @returns {Promise<[number | undefined, string]>} how it ended
 */
async function listen(fetch, url, signal, heard) {
  const headers = { Accept: "text/event-stream" };
  const response = await fetch(url.href, { signal, headers, cache: "no-store" });
  const type = response.headers.get("Content-Type") ?? "";
  if (!response.body || !type.startsWith("text/event-stream")) {
    // Only the hub's own refusal is final; a proxy's error page may be gone in a minute.
    const problem = type.includes("problem+json") ? await response.json() : {};
    return [problem.code && CLOSE_CODES[response.status], problem.detail ?? `HTTP ${response.status}`];
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return [undefined, "end of stream"];
    heard.alive();
    const blocks = (text + value).split("\n\n");
    text = /** @type {string} */ (blocks.pop());
    if (text.length > MAX_EVENT) throw new Error("event too large");
    for (const block of blocks) {
      const data = block.split("\n").filter((field) => field.startsWith("data:"));
      if (data.length) heard.push(JSON.parse(data.map((field) => field.slice(5)).join("\n")));
    }
  }
}

/**
 * Send one command; a failure is a reply too. What a subscribe's reply says stands in the stream
 * as a `subscribed` push, at its place, so it is left out here.
 * @param {typeof globalThis.fetch} fetch
 * @param {string} url
 * @param {string} secret
 * @param {Json} command
 * @returns {Promise<Json>}
 */
async function post(fetch, url, secret, command) {
  const { id } = command;
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { Authorization: `Bearer ${secret}`, "Content-Type": "application/json" },
      body: JSON.stringify(command),
      signal: AbortSignal.timeout(COMMAND_TIMEOUT_MS),
    });
    const { op, ok, error, code, detail } = await response.json();
    if (op === "reply") return { op, id, error, ok: command.op === "subscribe" ? undefined : ok };
    return failure(id, code, detail, response.status >= 500);
  } catch (error) {
    return failure(id, "disconnected", String(error), true);
  }
}

/**
 * @param {number} id
 * @param {string} code
 * @param {string} message
 * @param {boolean} retryable
 */
function failure(id, code = "unavailable", message, retryable) {
  return { op: "reply", id, error: { code, message, retryable } };
}
