/**
 * One subscription by a pattern as this client sees it: a place in each channel that matches.
 *
 * Positions belong to channels, so each place is a channel's, with its gaps, resets and moves from
 * one connection to the next. All of them have the pattern's members. A resume names every place;
 * a channel that it does not name the hub reads from the beginning.
 */
export type Channel = import("./channel.js").Channel;
export type Member = import("./subscription.js").Member;
/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./subscription.js").Member} Member */
/**
 * @param {string} pattern `*` is one segment between `:` or `.`, `**` at the end all the rest
 * @param {{ since?: Record<string, string>, last?: number, fill?: boolean, filter?: object,
 *   state?: boolean, everyMs?: number }} first
 */
export declare function openPattern(pattern: string, first: {
    since?: Record<string, string>;
    last?: number;
    fill?: boolean;
    filter?: object;
    state?: boolean;
    everyMs?: number;
}): {
    name: string;
    kind: string;
    key: string;
    members: Set<import("./subscription.js").Member>;
    first: {
        since?: Record<string, string>;
        last?: number;
        fill?: boolean;
        filter?: object;
        state?: boolean;
        everyMs?: number;
    };
    asked: boolean;
    /** A pattern makes nobody present. @type {{ data?: any } | undefined} */
    presence: {
        data?: any;
    } | undefined;
    place: (channel: string, since?: string) => {
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
        presence: object | undefined;
        release: (whole?: boolean) => void;
        position: () => string;
        all: () => /*elided*/ any[];
        follows: (start: string) => boolean;
        join(member: import("./channel.js").Member, carried: boolean): undefined;
        leave(member: import("./channel.js").Member): void;
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
        push(push: import("./channel.js").Json, epochs: Map<string, string>, isFirst: boolean, newer: boolean, shared?: boolean): void;
    };
    all: () => {
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
        presence: object | undefined;
        release: (whole?: boolean) => void;
        position: () => string;
        all: () => any[];
        follows: (start: string) => boolean;
        join(member: import("./channel.js").Member, carried: boolean): undefined;
        leave(member: import("./channel.js").Member): void;
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
        push(push: import("./channel.js").Json, epochs: Map<string, string>, isFirst: boolean, newer: boolean, shared?: boolean): void;
    }[];
    /** @param {string} channel */
    of: (channel: string) => {
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
        presence: object | undefined;
        release: (whole?: boolean) => void;
        position: () => string;
        all: () => any[];
        follows: (start: string) => boolean;
        join(member: import("./channel.js").Member, carried: boolean): undefined;
        leave(member: import("./channel.js").Member): void;
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
        push(push: import("./channel.js").Json, epochs: Map<string, string>, isFirst: boolean, newer: boolean, shared?: boolean): void;
    } | undefined;
    /** @param {string} channel */
    matches: (channel: string) => boolean;
    /** The hub has answered: from now on a resume asks for the missing messages. */
    begin: () => undefined;
    /**
     * A further subscription: it begins with the next message.
     * @param {Member} member
     * @param {boolean} carried
     */
    join(member: Member, carried: boolean): void;
    /** @param {Member} member */
    leave: (member: Member) => undefined;
    /** The command's fields. */
    request(): {
        pattern: string;
        since: any;
        fill: boolean | undefined;
        filter: object | undefined;
    } | {
        pattern: string;
        last: number | undefined;
        fill: boolean | undefined;
        filter: object | undefined;
    };
};
