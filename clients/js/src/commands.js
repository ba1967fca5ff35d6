/**
 * Commands and their replies.
 *
 * A command given while there is no connection waits for one. A command that was sent when the
 * connection broke is rejected as `disconnected`: nobody knows whether it was carried out.
 */

import { HubError } from "./errors.js";

/** @typedef {Record<string, any>} Json */
/**
 * @typedef {object} Pending
 * @property {Json} command
 * @property {boolean} [sent]
 * @property {(ok: any) => void} resolve
 * @property {(error: HubError) => void} reject
 * @property {ReturnType<typeof setTimeout>} timer
 */

// Guesses, not measured. The hub queues 256 commands of a session before it stops reading.
const MAX_PENDING = 256;
const TIMEOUT_MS = 10000;

export function commands() {
  /** @type {Map<number, Pending>} */
  const pending = new Map();
  /** @type {((command: Json) => void) | null} */
  let send = null;
  let lastId = 0;

  /** @param {Pending} entry */
  const transmit = (entry) => {
    if (!send || entry.sent) return;
    entry.sent = true;
    send(entry.command);
  };

  /**
   * @param {number} id
   * @param {HubError | null} error
   * @param {any} [ok]
   */
  const settle = (id, error, ok) => {
    const entry = pending.get(id);
    if (!entry) return;
    pending.delete(id);
    clearTimeout(entry.timer);
    if (error) entry.reject(error);
    else entry.resolve(ok);
  };

  return {
    /**
     * Resolves with the reply's `ok`; rejects with a `HubError`.
     * @param {Json} command
     * @param {(ok: any) => void} [first] told in the reply's own turn, before the frame after it
     * @returns {Promise<any>}
     */
    request: (command, first) =>
      new Promise((done, reject) => {
        if (pending.size >= MAX_PENDING) throw new HubError("busy", undefined, true);
        const id = ++lastId;
        const late = () => settle(id, new HubError("timeout", "no reply in time", true));
        const timer = setTimeout(late, TIMEOUT_MS);
        /** @param {any} ok */
        const resolve = (ok) => {
          first?.(ok);
          done(ok);
        };
        const entry = { command: { ...command, id }, resolve, reject, timer };
        pending.set(id, entry);
        transmit(entry);
      }),

    /**
     * There is a connection.
     * @param {(command: Json) => void} sender
     */
    attach(sender) {
      send = sender;
    },

    /** Send what waited, in order. */
    flush: () => pending.forEach(transmit),

    /** The connection is gone. */
    detach() {
      send = null;
      pending.forEach(({ sent }, id) => {
        if (sent) settle(id, new HubError("disconnected", "outcome unknown", true));
      });
    },

    /** @param {Json} push a reply */
    reply({ id, ok, error }) {
      settle(id, error ? new HubError(error.code, error.message, error.retryable) : null, ok);
    },

    close() {
      send = null;
      pending.forEach((_, id) => settle(id, new HubError("closed")));
    },
  };
}
