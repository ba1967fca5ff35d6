/**
 * What server-sent events and long polling share: a session that begins with a GET, commands
 * as POST, and how the hub refuses.
 */

import { COMMAND_MS, LOST } from "./limits.js";

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {(path: string) => Promise<Response>} Get resolves with what is not a refusal */

/**
 * @param {import("./connection.js").Link} link
 * @param {(get: Get, push: (push: Json) => void) => Promise<void>} run until the session ends
 */
export function openHttp(link, run) {
  const { base, token } = link;
  const stop = new AbortController();
  /** @type {Json | undefined} the last welcome */
  let session;
  let code = LOST;
  /** @type {Record<string, Promise<void>>} */
  const lines = {};

  /**
   * @param {URL} url
   * @param {RequestInit} more
   */
  const ask = (url, more) =>
    (link.fetch ?? fetch)(url, {
      headers: session && { Authorization: `Bearer ${session.secret}` },
      ...more,
    });

  /** @type {Get} */
  const get = async (path) => {
    const url = new URL(path, base);
    if (token && !session) url.searchParams.set("token", token);
    const response = await ask(url, { signal: stop.signal });
    const { ok, status } = response;
    if (ok) return response;
    // Only the hub's own refusal is final; a proxy's error page may be gone in a minute.
    const { detail, retryable } = await response.json().catch(() => ({}));
    if (retryable === false && !session) code = 4000 + status;
    throw new Error(detail ?? `HTTP ${status}`);
  };

  /**
   * Send one command; a failure is a reply too. The answer to a ping proves the stream and is
   * left out here.
   * @param {Json} command
   */
  const post = async (command) => {
    const { id } = command;
    /** @type {Json} */
    let reply = { op: "reply", id, error: { code: "disconnected", retryable: true } };
    try {
      const url = new URL(`command?connection=${session?.connection}`, base);
      const signal = AbortSignal.timeout(COMMAND_MS);
      const response = await ask(url, { method: "POST", body: JSON.stringify(command), signal });
      const { status } = response;
      const answer = await response.json();
      if (answer.op) reply = answer;
      else if (answer.code) reply.error = { ...answer, message: answer.detail };
      if (status === 401 || status === 404) link.closed(LOST, answer.detail); // no such session
    } catch {
      // The outcome is unknown; so it is where somebody else than the hub answered.
    }
    if (id) link.push(reply);
  };

  // One after the other within a channel: two POSTs at once may overtake each other.
  link.send = (command) => {
    const { channel = "" } = command;
    lines[channel] = Promise.resolve(lines[channel]).then(() => post(command));
  };
  link.close = () => stop.abort();
  run(get, (push) => {
    if (push.op === "welcome") session = push;
    if (push.op === "goodbye") code = push.code; // there is no close frame
    link.push(push);
  })
    .catch(({ message }) => message)
    .then((reason = "end of stream") => link.closed(code, reason));
}
