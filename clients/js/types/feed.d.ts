/**
 * The part that the bindings for React and Vue share: the newest messages of a channel and its
 * members, as values that change. It knows no framework.
 */
export type Hub = import("./hub.js").Hub;
export type HubError = import("./hub.js").HubError;
export type PresentMember = import("./hub.js").PresentMember;
export type Gap = import("./subscription.js").Gap;
export type Subscribed = import("./subscription.js").Subscribed;
export type Message<T = any> = import("./subscription.js").Message<T>;
export type ChannelOptions<T = any> = {
    /**
     * how many of the newest messages are kept, 1 or more; 1
     */
    keep?: number;
    /**
     * begin after this position
     */
    since?: string;
    /**
     * begin with the newest n
     */
    last?: number;
    /**
     * get from history the messages that a slow reader missed
     */
    fill?: boolean;
    /**
     * only messages with such tags
     */
    filter?: Record<string, any>;
    /**
     * the newest of each key, or of the channel, at most that often
     */
    everyMs?: number;
    /**
     * the replay of a start or a resume comes as one message, where all of it is text
     */
    joined?: boolean;
    /**
     * resolves with `{ data, position }`, the application's own state, which comes
     * as a message before those behind that position
     */
    getState?: () => any;
    /**
     * called with each message at once
     */
    onMessage?: (message: Message<T>) => void;
    onGap?: (gap: Gap) => void;
};
export type ChannelState<T = any> = {
    /**
     * the newest ones, oldest first
     */
    messages: Message<T>[];
    /**
     * the newest one
     */
    message: Message<T> | undefined;
    /**
     * of the newest one
     */
    data: T | undefined;
    /**
     * the newest one
     */
    gap: Gap | undefined;
    /**
     * why the hub refuses the subscription
     */
    error: HubError | undefined;
    /**
     * the hub's answer when it began or resumed
     */
    subscribed: Subscribed | undefined;
};
export type PatternOptions<T = any> = Omit<ChannelOptions<T>, "since" | "everyMs" | "joined" | "getState"> & {
    since?: Record<string, string>;
};
export type TableOptions<T = any> = Pick<ChannelOptions<T>, "onMessage" | "onGap">;
export type TableState<T = any> = {
    /**
     * the newest message of each key
     */
    rows: Message<T>[];
    /**
     * whether they are all there: nothing is shown of a table that is not
     */
    whole: boolean;
    /**
     * the newest one
     */
    gap: Gap | undefined;
    /**
     * why the hub refuses the subscription
     */
    error: HubError | undefined;
};
export type PresenceOptions = {
    data?: any;
};
export type PresenceState = {
    members: PresentMember[];
    /**
     * why the hub does not tell
     */
    error: HubError | undefined;
};
/** @typedef {import("./hub.js").Hub} Hub */
/** @typedef {import("./hub.js").HubError} HubError */
/** @typedef {import("./hub.js").PresentMember} PresentMember */
/** @typedef {import("./subscription.js").Gap} Gap */
/** @typedef {import("./subscription.js").Subscribed} Subscribed */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").Message<T>} Message
 */
/**
 * @template [T=any]
 * @typedef {object} ChannelOptions
 * @property {number} [keep] how many of the newest messages are kept, 1 or more; 1
 * @property {string} [since] begin after this position
 * @property {number} [last] begin with the newest n
 * @property {boolean} [fill] get from history the messages that a slow reader missed
 * @property {Record<string, any>} [filter] only messages with such tags
 * @property {number} [everyMs] the newest of each key, or of the channel, at most that often
 * @property {boolean} [joined] the replay of a start or a resume comes as one message, where all of it is text
 * @property {() => any} [getState] resolves with `{ data, position }`, the application's own state, which comes
 *   as a message before those behind that position
 * @property {(message: Message<T>) => void} [onMessage] called with each message at once
 * @property {(gap: Gap) => void} [onGap]
 */
/**
 * @template [T=any]
 * @typedef {object} ChannelState
 * @property {Message<T>[]} messages the newest ones, oldest first
 * @property {Message<T> | undefined} message the newest one
 * @property {T | undefined} data of the newest one
 * @property {Gap | undefined} gap the newest one
 * @property {HubError | undefined} error why the hub refuses the subscription
 * @property {Subscribed | undefined} subscribed the hub's answer when it began or resumed
 */
/**
 * @template [T=any]
 * @typedef {Omit<ChannelOptions<T>, "since" | "everyMs" | "joined" | "getState"> & {
 *   since?: Record<string, string> }} PatternOptions
 */
/**
 * @template [T=any]
 * @typedef {Pick<ChannelOptions<T>, "onMessage" | "onGap">} TableOptions
 */
/**
 * @template [T=any]
 * @typedef {object} TableState
 * @property {Message<T>[]} rows the newest message of each key
 * @property {boolean} whole whether they are all there: nothing is shown of a table that is not
 * @property {Gap | undefined} gap the newest one
 * @property {HubError | undefined} error why the hub refuses the subscription
 */
/** @typedef {{ data?: any }} PresenceOptions the data that this member says of itself, 4 KiB of JSON at most */
/**
 * @typedef {object} PresenceState
 * @property {PresentMember[]} members
 * @property {HubError | undefined} error why the hub does not tell
 */
/** @type {ChannelState} */
export declare const NOTHING: ChannelState;
export declare const PATTERN_OPTIONS: string[];
export declare const CHANNEL_OPTIONS: string[];
export declare const TABLE_OPTIONS: string[];
export declare const PRESENCE_OPTIONS: string[];
/** @type {TableState} */
export declare const NO_ROWS: TableState;
/** @type {PresenceState} */
export declare const NOBODY: PresenceState;
/**
 * Follow a channel, or all that a pattern matches.
 * @param {Hub} hub
 * @param {string} channel
 * @param {ChannelOptions | PatternOptions} asked
 * @param {(state: ChannelState) => void} change
 * @param {"subscribe" | "subscribePattern"} [how]
 * @returns {() => void} stops it
 */
export declare function followChannel(hub: Hub, channel: string, asked: ChannelOptions | PatternOptions, change: (state: ChannelState) => void, how?: "subscribe" | "subscribePattern"): () => void;
/**
 * Follow the rows of a keyed channel. A table that begins anew is shown once it is whole.
 * @param {Hub} hub
 * @param {string} channel
 * @param {TableOptions} options
 * @param {(state: TableState) => void} change
 * @returns {() => void} stops it
 */
export declare function followTable(hub: Hub, channel: string, { onMessage, onGap, ...others }: TableOptions, change: (state: TableState) => void): () => void;
/**
 * Follow the members of a channel: asked for once the hub tells of changes, and again where it lost some.
 * @param {Hub} hub
 * @param {string} channel
 * @param {(state: PresenceState) => void} change
 * @param {PresenceOptions} [options]
 * @returns {() => void} stops it
 */
export declare function followPresence(hub: Hub, channel: string, change: (state: PresenceState) => void, { data, ...others }?: PresenceOptions): () => void;
