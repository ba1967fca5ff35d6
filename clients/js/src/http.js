/**
 * The part that server-sent events and long polling share: a session that begins with a GET, commands
 * as POST, and how the hub refuses.
 */

import { COMMAND_MS, LOST } from "./limits.js";

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {(path: string) => Promise<Response>} Get resolves with an answer that is no refusal */

/**
 * @param {import("./connection.js").Link} link
 * @param {(get: Get, push: (push: Json) => void) => Promise<string>} run until the session ends;
 *   resolves with the reason
 */
export function openHttp(link, run) {
  const stop = new AbortController();
  /** @type {Json | undefined} the last welcome */
  let session;
  let code = LOST;
  /** @type {Record<string, Promise<void>>} */
  const lines = {};

  /**
   * @param {string} path
   * @param {RequestInit} more
   */
  const ask = (path, more) =>
    (link.fetch ?? fetch)(link.url(path), {
      headers: session && { Authorization: `Bearer ${session.secret}` },
      ...more,
    });

  /** @type {Get} */
  const get = async (path) => {
    const response = await ask(path, { signal: stop.signal });
    if (response.ok) return response;
    const { status } = response;
    // Only the hub's own refusal is final; a proxy's error page may be gone in a minute.
    const problem = await response.json().catch(() => ({}));
    if (problem.retryable === false && !session) code = 4000 + status;
    throw new Error(problem.detail ?? `HTTP ${status}`);
  };

  /**
   * Send one command; a failure is a reply too. The answer to a ping proves the stream and is
   * left out here.
   * @param {Json} command
   * @param {Promise<void>} [before] the command before it
   */
  const post = async (command, before) => {
    await before;
    const { id, op } = command;
    const { connection } = /** @type {Json} */ (session);
    // A browser may send it again by itself: Chromium does when a connection that was used before
    // ends without an answer. The same key again is published once.
    if (op === "publish") command = { idempotency_key: `${connection}:${id}`, ...command };
    const body = JSON.stringify(command);
    const signal = AbortSignal.timeout?.(COMMAND_MS);
    /** @type {Json} a reply, or an error */
    let answer = { code: "disconnected", retryable: true };
    try {
      const path = `command?connection=${connection}`;
      const response = await ask(path, { method: "POST", body, signal });
      const { status } = response;
      const told = await response.json();
      if (told.op || told.code) answer = told;
      if (status === 401 || status === 404) link.closed(LOST, told.detail); // no such session
    } catch {
      // The outcome is unknown; so it is where a proxy answered in place of the hub.
    }
    if (id) link.push(answer.op ? answer : { op: "reply", id, error: answer });
  };

  // One after the other within a channel: two POSTs at once may overtake each other. Channels wait
  // for patterns, which come first: a pattern that resumes a channel is then not passed by its name.
  link.send = (command) => {
    const { channel, pattern } = command;
    const line = pattern ?? channel;
    lines[line] = post(command, lines[line] ?? lines["*"]);
    if (pattern) lines["*"] = lines[line];
  };
  link.close = () => stop.abort();
  run(get, (push) => {
    if (push.op === "welcome") session = push;
    if (push.op === "goodbye") code = push.code; // there is no close frame
    link.push(push);
  })
    .catch(({ message }) => message)
    .then((reason) => link.closed(code, reason));
}
