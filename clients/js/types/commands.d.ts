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
import { HubError } from "./errors.js";
export type Json = Record<string, any>;
export type Settle = (error?: HubError, ok?: any) => void;
export type Wish = {
    command: Json;
    settle: Settle;
};
/** @param {() => ((command: Json) => void) | undefined} sender of the present connection */
export declare function commands(sender: () => ((command: Json) => void) | undefined): {
    /**
     * Throws for data that JSON cannot hold.
     * @param {Json} command
     * @param {Settle} settle told in the reply's own turn, before the frame after it
     */
    request(command: Json, settle: Settle): void;
    /** There is a connection: send the commands that waited for it, in order. */
    flush(): void;
    /** The connection is gone, and all under way was sent on it. */
    fail(): void;
    /**
     * There will be no connection.
     * @param {HubError} error
     */
    refuse(error: HubError): void;
    /** @param {Json} push a reply; its error may be a problem document */
    reply({ id, ok, error }: Json): void;
};
