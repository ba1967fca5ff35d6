/**
 * Commands and their replies.
 *
 * A command given while there is no connection waits for one. A command that was sent when the
 * connection broke is rejected as `disconnected`: nobody knows whether it was carried out.
 */

import { HubError } from "./errors.js";
import { COMMAND_MS, MAX_PENDING } from "./limits.js";

/** @typedef {Record<string, any>} Json */
/** @typedef {(error?: HubError, ok?: any) => void} Settle either the error or the reply's `ok` */

/** @param {() => ((command: Json) => void) | undefined} sender of the present connection */
export function commands(sender) {
  /** @type {Map<number, Settle>} by id, of those without a reply */
  const pending = new Map();
  /** @type {Map<number, Json>} of these, those that wait for a connection */
  const waiting = new Map();
  let lastId = 0;

  return {
    /**
     * Throws what JSON cannot say.
     * @param {Json} command
     * @param {Settle} settle told in the reply's own turn, before the frame after it
     */
    request(command, settle) {
      const id = ++lastId;
      const asked = JSON.parse(JSON.stringify({ ...command, id })); // as it is now
      if (pending.size >= MAX_PENDING) return settle(new HubError("busy", true));
      /** @type {Settle} */
      const done = (error, ok) => {
        clearTimeout(timer);
        pending.delete(id);
        waiting.delete(id);
        settle(error, ok);
      };
      const timer = setTimeout(done, COMMAND_MS, new HubError("timeout", true));
      pending.set(id, done);
      const send = sender();
      if (send) send(asked);
      else waiting.set(id, asked);
    },

    /** There is a connection: send what waited, in order. */
    flush() {
      waiting.forEach((command) => sender()?.(command));
      waiting.clear();
    },

    /**
     * The connection is gone, and all was sent on it.
     * @param {HubError} [error]
     */
    fail(error = new HubError("disconnected", true)) {
      pending.forEach((done) => done(error));
    },

    /** @param {Json} push a reply; its error may be a problem document */
    reply({ id, ok, error }) {
      const told = error?.message ?? error?.detail;
      pending.get(id)?.(error && new HubError(error.code, error.retryable, told), ok);
    },
  };
}
