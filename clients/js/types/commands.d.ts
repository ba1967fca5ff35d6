/**
 * Commands and their replies.
 *
 * A command given while there is no connection waits for one. A command that was sent when the
 * connection broke is rejected as `disconnected`: nobody knows whether it was carried out.
 */
import { HubError } from "./errors.js";
export type Json = Record<string, any>;
export type Settle = (error?: HubError, ok?: any) => void;
/** @typedef {Record<string, any>} Json */
/** @typedef {(error?: HubError, ok?: any) => void} Settle either the error or the reply's `ok` */
/** @param {() => ((command: Json) => void) | undefined} sender of the present connection */
export declare function commands(sender: () => ((command: Json) => void) | undefined): {
    /**
     * Throws what JSON cannot say.
     * @param {Json} command
     * @param {Settle} settle told in the reply's own turn, before the frame after it
     */
    request(command: Json, settle: Settle): void;
    /** There is a connection: send what waited, in order. */
    flush(): void;
    /**
     * The connection is gone, and all was sent on it.
     * @param {HubError} [error]
     */
    fail(error?: HubError): void;
    /** @param {Json} push a reply; its error may be a problem document */
    reply({ id, ok, error }: Json): void;
};
