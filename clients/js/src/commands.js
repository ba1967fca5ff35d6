/**
 * Commands and their replies.
 *
 * A command given while there is no connection waits for one. A command that was sent when the
 * connection broke is rejected as `disconnected`: nobody knows whether it was carried out.
 */

import { HubError } from "./errors.js";
import { COMMAND_MS, MAX_PENDING } from "./limits.js";

/** @typedef {Record<string, any>} Json */
/**
 * @typedef {object} Pending
 * @property {Json} command
 * @property {boolean} sent
 * @property {(error: HubError | undefined, ok?: any) => void} settle
 */

export function commands() {
  /** @type {Map<number, Pending>} */
  const pending = new Map();
  /** @type {((command: Json) => void) | undefined} */
  let send;
  let lastId = 0;

  /** @param {Pending} entry */
  const transmit = (entry) => {
    if (!send || entry.sent) return;
    entry.sent = true;
    send(entry.command);
  };

  return {
    /**
     * Resolves with the reply's `ok`; rejects with a `HubError`.
     * @param {Json} command
     * @param {(ok: any) => void} [first] told in the reply's own turn, before the frame after it
     * @returns {Promise<any>}
     */
    request: (command, first) =>
      new Promise((resolve, reject) => {
        if (pending.size >= MAX_PENDING) throw new HubError("busy", true);
        const id = ++lastId;
        // As it is now; and what JSON cannot say is rejected here, not when its turn comes.
        const asked = JSON.parse(JSON.stringify({ ...command, id }));
        const late = () => entry.settle(new HubError("timeout", true));
        const timer = setTimeout(late, COMMAND_MS);
        /** @type {Pending} */
        const entry = {
          command: asked,
          sent: false,
          settle(error, ok) {
            clearTimeout(timer);
            pending.delete(id);
            if (error) return reject(error);
            first?.(ok);
            resolve(ok);
          },
        };
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

    /**
     * The connection is gone, and all was sent on it.
     * @param {HubError} [error]
     */
    detach(error = new HubError("disconnected", true)) {
      send = undefined;
      pending.forEach(({ settle }) => settle(error));
    },

    /** @param {Json} push a reply */
    reply({ id, ok, error }) {
      const refused = error && new HubError(error.code, error.retryable, error.message);
      pending.get(id)?.settle(refused, ok);
    },
  };
}
