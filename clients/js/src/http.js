/**
 * What server-sent events and long polling share: a session that begins with a GET, commands
 * as POST, and how the hub refuses.
 */

import { COMMAND_MS, LOST, MAX_CHANNELS, MAX_POLL_URL, MAX_URL } from "./limits.js";

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {(path: string, wanted: Json[]) => Promise<Response>} Get */

/**
 * @param {import("./connection.js").Link} link
 * @param {(get: Get, push: (push: Json) => void) => Promise<void>} run until the session ends;
 *   `get` resolves with what is not a refusal
 */
export function openHttp(link, run) {
  const { base, fetch, token } = link;
  const stop = new AbortController();
  /** @type {Json | undefined} the last welcome */
  let session;
  let code = LOST;
  let line = Promise.resolve();

  /**
   * @param {URL} url
   * @param {RequestInit} more
   */
  const ask = (url, more) =>
    fetch(url.href, {
      headers: session && { Authorization: `Bearer ${session.secret}` },
      cache: "no-store",
      ...more,
    });

  /** @type {Get} */
  const get = async (path, wanted) => {
    const url = new URL(path, base);
    const included = include(url.searchParams, wanted, session ? MAX_POLL_URL : MAX_URL);
    if (!session) {
      link.included = included;
      if (token) url.searchParams.set("token", token);
    }
    const response = await ask(url, { signal: stop.signal });
    const { ok, status } = response;
    if (ok) return response;
    // Only the hub's own refusal is final; a proxy's error page may be gone in a minute.
    const { detail, retryable } = await response.json().catch(() => ({}));
    if (retryable === false && !session) {
      // Perhaps of one channel: by command each gets an answer of its own.
      if (included.size && status !== 401) return get(path, []);
      code = 4000 + status;
    }
    throw new Error(detail ?? `HTTP ${status}`);
  };

  /**
   * Send one command; a failure is a reply too. What is said of a subscribe stands in the stream
   * as a `subscribed` push, at its place, and the answer to a ping proves the stream: both are
   * left out here.
   * @param {Json} command
   */
  const post = async (command) => {
    const { id, op } = command;
    /** @type {Json} */
    let reply = { op: "reply", id };
    try {
      const url = new URL(`command?connection=${session?.connection}`, base);
      const signal = AbortSignal.timeout(COMMAND_MS);
      const response = await ask(url, { method: "POST", body: JSON.stringify(command), signal });
      const { status } = response;
      const answer = await response.json();
      if (answer.op) reply = answer;
      else reply.error = { ...answer, message: answer.detail };
      if (op === "subscribe") reply.ok = {};
      if (status === 401 || status === 404) link.closed(LOST, answer.detail); // no such session
    } catch (error) {
      reply.error = { code: "disconnected", message: String(error), retryable: true };
    }
    if (id) link.push(reply);
  };

  // One after the other: two POSTs at once may overtake each other.
  link.send = (command) => void (line = line.then(() => post({ ...command })));
  link.close = () => stop.abort();
  run(get, (push) => {
    if (push.op === "welcome") session = push;
    if (push.op === "goodbye") code = push.code; // there is no close frame
    link.push(push);
  })
    .catch(({ message }) => message)
    .then((reason = "end of stream") => link.closed(code, reason));
}

/**
 * Add as many subscriptions as the URL may carry. One `last` and one `fill` hold for all.
 * @param {URLSearchParams} query
 * @param {Json[]} wanted
 * @param {number} most characters, but for the last channel's
 */
function include(query, wanted, most) {
  const included = new Set();
  const { fill, last } = wanted.find(({ since }) => !since) ?? wanted[0] ?? {};
  if (fill) query.set("fill", fill);
  if (last) query.set("last", last);
  for (const { channel, since, ...own } of wanted) {
    if (included.size === MAX_CHANNELS || `${query}`.length > most) break;
    if (own.fill !== fill || (!since && own.last !== last)) continue;
    query.append("channel", channel);
    if (since) query.append("since", `${channel}=${since}`);
    included.add(channel);
  }
  return included;
}
