/**
 * What the bindings for React and Vue share: the newest messages of a channel and the members who
 * are there, as values that change. It knows no framework.
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
     * get from history what a slow reader missed
     */
    fill?: boolean;
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
     * what the hub said when it began or resumed
     */
    subscribed: Subscribed | undefined;
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
 * @property {boolean} [fill] get from history what a slow reader missed
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
 * @property {Subscribed | undefined} subscribed what the hub said when it began or resumed
 */
/**
 * @typedef {object} PresenceState
 * @property {PresentMember[]} members
 * @property {HubError | undefined} error why the hub does not tell
 */
/** @type {ChannelState} */
export declare const NOTHING: ChannelState;
/** @type {PresenceState} */
export declare const NOBODY: PresenceState;
/**
 * Follow a channel. What comes between two frames of the screen is one change.
 * @param {Hub} hub
 * @param {string} channel
 * @param {ChannelOptions} options
 * @param {(state: ChannelState) => void} change
 * @returns {() => void} stops it
 */
export declare function followChannel(hub: Hub, channel: string, { keep, onMessage, onGap, ...options }: ChannelOptions, change: (state: ChannelState) => void): () => void;
/**
 * Follow who is there: asked for once the hub tells of changes, and again where it lost some.
 * @param {Hub} hub
 * @param {string} channel
 * @param {(state: PresenceState) => void} change
 * @returns {() => void} stops it
 */
export declare function followPresence(hub: Hub, channel: string, change: (state: PresenceState) => void): () => void;
