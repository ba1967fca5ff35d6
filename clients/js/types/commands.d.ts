/**
 * Commands and their replies.
 *
 * A command given while there is no connection waits for one. A command that was sent when the
 * connection broke is rejected as `disconnected`: nobody knows whether it was carried out.
 */
import { HubError } from "./errors.js";
export type Json = Record<string, any>;
export type Pending = {
    command: Json;
    sent: boolean;
    settle: (error: HubError | undefined, ok?: any) => void;
};
/** @typedef {Record<string, any>} Json */
/**
 * @typedef {object} Pending
 * @property {Json} command
 * @property {boolean} sent
 * @property {(error: HubError | undefined, ok?: any) => void} settle
 */
export declare function commands(): {
    /**
     * Resolves with the reply's `ok`; rejects with a `HubError`.
     * @param {Json} command
     * @param {(ok: any) => void} [first] told in the reply's own turn, before the frame after it
     * @returns {Promise<any>}
     */
    request: (command: Json, first?: (ok: any) => void) => Promise<any>;
    /**
     * There is a connection.
     * @param {(command: Json) => void} sender
     */
    attach(sender: (command: Json) => void): void;
    /** Send what waited, in order. */
    flush: () => void;
    /**
     * The connection is gone, and all was sent on it.
     * @param {HubError} [error]
     */
    detach(error?: HubError): void;
    /** @param {Json} push a reply */
    reply({ id, ok, error }: Json): void;
};
