/**
 * One channel as this client sees it: its position, and the subscriptions that share it.
 *
 * Offsets order publications within an epoch; a publication that is not newer than the last one
 * seen is a repeat and is dropped. So two connections may bring the same channel while the client
 * moves from one to the other: the first copy counts. Holes without a gap are normal (a publication
 * with `echo: false` does not come back), so only the hub's `gap` is reported. A publication that
 * the newer of two connections lacks is no gap while the other one may still bring it: the gap
 * waits, and all that comes behind it waits as well.
 */
export type Member = import("./subscription.js").Member;
export type Json = import("./commands.js").Json;
export type Channel = ReturnType<typeof openChannel>;
/** @param {string} position `epoch:offset`, split at its last colon */
export declare const epochOf: (position: string) => string;
/** @param {string} position */
export declare const offsetOf: (position: string) => number;
/**
 * @param {string} channel
 * @param {{ since?: string, last?: number, fill?: boolean, filter?: object, presence?: object,
 *   everyMs?: number, every_ms?: number, state?: boolean }} first the options that the hub is asked
 *   with, for all of its subscriptions
 * @param {Set<Member>} [members]
 * @param {string} [key] by which connections know that they bring it
 */
export declare function openChannel(channel: string, first: {
    since?: string;
    last?: number;
    fill?: boolean;
    filter?: object;
    presence?: object;
    everyMs?: number;
    every_ms?: number;
    state?: boolean;
}, members?: Set<Member>, key?: string): {
    name: string;
    kind: string;
    key: string;
    members: Set<import("./subscription.js").Member>;
    first: {
        since?: string;
        last?: number;
        fill?: boolean;
        filter?: object;
        presence?: object;
        everyMs?: number;
        every_ms?: number;
        state?: boolean;
    };
    asked: boolean;
    /** The data that the member says of itself. */
    presence: object | undefined;
    release: (whole?: boolean) => void;
    position: () => string;
    all: () => /*elided*/ any[];
    /**
     * Whether it lacks nothing of what a connection brings from there on.
     * @param {string} start
     */
    follows: (start: string) => boolean;
    /**
     * A further subscription: it begins here, or when the channel does.
     * @param {Member} member
     * @param {boolean} carried whether the present connection brings the channel already
     */
    join(member: Member, carried: boolean): undefined;
    /** @param {Member} member */
    leave(member: Member): void;
    /** The command's fields: the present position, or else the start that the application wants. */
    request(): {
        channel: string;
        since: string | undefined;
        last: number | undefined;
        fill: boolean | undefined;
        filter: object | undefined;
        presence: object | undefined;
        every_ms: number | undefined;
        state: boolean | undefined;
    };
    /**
     * @param {Json} push
     * @param {Map<string, string>} epochs of the channels that the connection is subscribed to
     * @param {boolean} isFirst whether this is the connection for pushes without an offset
     * @param {boolean} newer whether another one, which was there before, still brings the channel
     * @param {boolean} [shared] whether the connection brings it already, for another subscription:
     *   earlier messages do not come again
     */
    push(push: Json, epochs: Map<string, string>, isFirst: boolean, newer: boolean, shared?: boolean): void;
};
