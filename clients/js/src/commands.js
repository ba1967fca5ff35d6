/**
 * Commands and their replies.
 *
 * At most `MAX_PENDING` are under way: the hub's room for replies is bounded, and so is the time
 * that one of them takes. Commands beyond that wait for their turn, without
 * a time limit: publications in their order, everything else before them. Pages of history are
 * asked for one after the other, because each may be 1 MiB long, and the hub closes a session that
 * does not take its replies. Commands of subscriptions wait for nothing: an application that subscribes
 * and then publishes ten thousand gets them all.
 *
 * A command under way waits for a connection where there is none. A command that was sent when
 * the connection broke is rejected as `disconnected`: its outcome is unknown.
 */

import { now } from "./backoff.js";
import { HubError } from "./errors.js";
import { COMMAND_MS, MAX_PENDING } from "./limits.js";

/** @typedef {Record<string, any>} Json */
/** @typedef {(error?: HubError, ok?: any) => void} Settle either the error or the reply's `ok` */
/** @typedef {{ command: Json, settle: Settle }} Wish a command that has no turn yet */

const OF_A_CONNECTION = /^(un)?subscribe$/;
const PAGE = "history";

/** @param {() => ((command: Json) => void) | undefined} sender of the present connection */
export function commands(sender) {
  /** @type {Map<number, { done: Settle, since: number }>} by id, of those under way */
  const pending = new Map();
  /** @type {Map<number, Json>} of these, those that wait for a connection */
  const waiting = new Map();
  /** @type {Wish[]} */
  const publications = [];
  /** @type {Wish[]} */
  const others = [];
  let lastId = 0;
  let reads = false; // a page of history is under way

  /** Begin waiting commands, as far as there is room. */
  const go = () => {
    while (pending.size < MAX_PENDING) {
      const at = others.findIndex(({ command }) => !reads || command.op !== PAGE);
      const next = at < 0 ? publications.shift() : others.splice(at, 1)[0];
      if (!next) return;
      begin(next);
    }
  };

  /** @param {Wish} wish */
  const begin = ({ command, settle }) => {
    const id = ++lastId;
    const isPage = command.op === PAGE;
    reads ||= isPage;
    /** @type {Settle} */
    const done = (error, ok) => {
      clearTimeout(timer);
      pending.delete(id);
      waiting.delete(id);
      if (isPage) reads = false;
      settle(error, ok);
      go();
    };
    const mine = { done, since: now() };
    const look = () => {
      const left = mine.since + COMMAND_MS - now();
      if (left > 0) timer = setTimeout(look, left);
      else done(new HubError("timeout", true));
    };
    let timer = setTimeout(look, COMMAND_MS);
    pending.set(id, mine);
    const asked = { ...command, id };
    const send = sender();
    if (send) send(asked);
    else waiting.set(id, asked);
  };

  return {
    /**
     * Throws for data that JSON cannot hold.
     * @param {Json} command
     * @param {Settle} settle told in the reply's own turn, before the frame after it
     */
    request(command, settle) {
      const wish = { command: JSON.parse(JSON.stringify(command)), settle }; // as it is now
      if (OF_A_CONNECTION.test(command.op)) return begin(wish);
      (command.op === "publish" ? publications : others).push(wish);
      go();
    },

    /** There is a connection: send the commands that waited for it, in order. */
    flush() {
      waiting.forEach((command) => sender()?.(command));
      waiting.clear();
    },

    /** The connection is gone, and all under way was sent on it. */
    fail() {
      const lost = [...pending.values()];
      lost.forEach(({ done }) => done(new HubError("disconnected", true)));
    },

    /**
     * There will be no connection.
     * @param {HubError} error
     */
    refuse(error) {
      const wishes = [...others.splice(0), ...publications.splice(0)];
      [...pending.values()].forEach(({ done }) => done(error));
      wishes.forEach(({ settle }) => settle(error));
    },

    /** @param {Json} push a reply; its error may be a problem document */
    reply({ id, ok, error }) {
      const told = error && new HubError(error.code, error.retryable, error.message ?? error.detail);
      if (told && error.retry_after_seconds > 0) told.retryAfterSeconds = error.retry_after_seconds;
      // Its time runs from the reply before its own: over SSE they go one after the other.
      pending.forEach((each, other) => other > id && (each.since = now()));
      pending.get(id)?.done(told, ok);
    },
  };
}
