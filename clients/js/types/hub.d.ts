/**
 * Subscribe to channels of a broadcast hub, over one connection.
 *
 *     const hub = new Hub("https://example.com", { token });
 *     hub.subscribe("prices", ({ data }) => show(data));
 *
 * Subscriptions survive reconnects and changes of transport: each channel resumes after the last
 * publication it saw.
 */
import { HubError, LoggedOutError } from "./errors.js";
export { HubError, LoggedOutError };
export type Options = import("./options.js").Options;
export type State = import("./options.js").State;
export type Transport = import("./options.js").Transport;
export type Gap = import("./subscription.js").Gap;
export type Message<T = any> = import("./subscription.js").Message<T>;
export type OnMessage<T = any> = import("./subscription.js").OnMessage<T>;
export type PatternOptions = import("./subscription.js").PatternOptions;
export type Presence = import("./subscription.js").Presence;
export type Rows<T = any> = import("./subscription.js").Rows<T>;
export type PublishOptions = import("./publishing.js").PublishOptions;
export type Subscribed = import("./subscription.js").Subscribed;
export type SubscribeOptions = import("./subscription.js").SubscribeOptions;
export type Subscription<T = any> = import("./subscription.js").Subscription<T>;
export type Published = import("./publishing.js").Published;
export type Publication = {
    offset: number;
    data: any;
    /**
     * milliseconds since 1970 UTC
     */
    time: number;
    key?: string;
    /**
     * the token subject of the session that published it
     */
    from?: string;
    tags?: Record<string, string | number | boolean>;
    /**
     * it takes the row of its key away
     */
    remove?: boolean;
    /**
     * it is the last one of its channel
     */
    end?: boolean;
};
export type History = {
    channel: string;
    /**
     * of the newest offset given out
     */
    position: string;
    /**
     * first offset still held
     */
    oldest: number;
    publications: Publication[];
    /**
     * with `fromTime` or `reverse`: the `since` of the page that goes on
     */
    next?: string | null;
    /**
     * with these: false where history does not reach back as far as was asked
     */
    complete?: boolean;
};
export type HistoryOptions = {
    /**
     * publications behind this position; with `reverse`, those before it
     */
    since?: string;
    /**
     * 1 to 1,000; 100
     */
    limit?: number;
    /**
     * nothing older: milliseconds since 1970, or ISO 8601
     */
    fromTime?: Date | number | string;
    /**
     * newest first
     */
    reverse?: boolean;
};
export type PresentMember = {
    id: string;
    connection: string;
    sub?: string;
    data?: any;
};
/** @typedef {import("./options.js").Options} Options */
/** @typedef {import("./options.js").State} State */
/** @typedef {import("./options.js").Transport} Transport */
/** @typedef {import("./subscription.js").Gap} Gap */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").Message<T>} Message
 */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").OnMessage<T>} OnMessage
 */
/** @typedef {import("./subscription.js").PatternOptions} PatternOptions */
/** @typedef {import("./subscription.js").Presence} Presence */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").Rows<T>} Rows
 */
/** @typedef {import("./publishing.js").PublishOptions} PublishOptions */
/** @typedef {import("./subscription.js").Subscribed} Subscribed */
/** @typedef {import("./subscription.js").SubscribeOptions} SubscribeOptions */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").Subscription<T>} Subscription
 */
/** @typedef {import("./publishing.js").Published} Published */
/**
 * @typedef {object} Publication
 * @property {number} offset
 * @property {any} data
 * @property {number} time milliseconds since 1970 UTC
 * @property {string} [key]
 * @property {string} [from] the token subject of the session that published it
 * @property {Record<string, string|number|boolean>} [tags]
 * @property {boolean} [remove] it takes the row of its key away
 * @property {boolean} [end] it is the last one of its channel
 */
/**
 * @typedef {object} History
 * @property {string} channel
 * @property {string} position of the newest offset given out
 * @property {number} oldest first offset still held
 * @property {Publication[]} publications
 * @property {string | null} [next] with `fromTime` or `reverse`: the `since` of the page that goes on
 * @property {boolean} [complete] with these: false where history does not reach back as far as was asked
 */
/**
 * @typedef {object} HistoryOptions
 * @property {string} [since] publications behind this position; with `reverse`, those before it
 * @property {number} [limit] 1 to 1,000; 100
 * @property {Date | number | string} [fromTime] nothing older: milliseconds since 1970, or ISO 8601
 * @property {boolean} [reverse] newest first
 */
/** @typedef {{ id: string, connection: string, sub?: string, data?: any }} PresentMember */
export declare class Hub {
    #private;
    /** The state of the last event. @type {State["state"]} */
    state: State["state"];
    /** The answer, at the last connect, of the application that the hub asks. @type {any} */
    data: any;
    /** In use, or being tried. @type {Transport} */
    transport: Transport;
    /**
     * @param {string | URL} [url] of the hub, with its base path: `https://example.com/live`, or in a
     *   page `/live`. Without one it is the hub that served `/client.js`, or else the page's origin.
     * @param {Options} [options]
     */
    constructor(url?: string | URL, options?: Options);
    /**
     * Listen to a channel, by callback or by `for await`; `T` is the type of `data`.
     * @template [T=any]
     * @overload
     * @param {string} channel
     * @param {OnMessage<T>} onMessage
     * @param {SubscribeOptions} [options]
     * @returns {Subscription<T>}
     */
    /**
     * @template [T=any]
     * @overload
     * @param {string} channel
     * @param {SubscribeOptions} [options]
     * @returns {Subscription<T>}
     */
    /**
     * @param {string} channel
     * @param {OnMessage | SubscribeOptions} [onMessage]
     * @param {SubscribeOptions} [options]
     */
    subscribe<T = any>(channel: string, onMessage: OnMessage<T>, options?: SubscribeOptions): Subscription<T>;
    /**
     * Listen to a channel, by callback or by `for await`; `T` is the type of `data`.
     * @template [T=any]
     * @overload
     * @param {string} channel
     * @param {OnMessage<T>} onMessage
     * @param {SubscribeOptions} [options]
     * @returns {Subscription<T>}
     */
    /**
     * @template [T=any]
     * @overload
     * @param {string} channel
     * @param {SubscribeOptions} [options]
     * @returns {Subscription<T>}
     */
    /**
     * @param {string} channel
     * @param {OnMessage | SubscribeOptions} [onMessage]
     * @param {SubscribeOptions} [options]
     */
    subscribe<T = any>(channel: string, options?: SubscribeOptions): Subscription<T>;
    /**
     * Listen to every channel that a pattern matches, now and later: `*` is one segment of a name
     * between `:` or `.`, `**` at the end all the rest. Messages say their channel, and are in order
     * within it.
     * @template [T=any]
     * @overload
     * @param {string} pattern such as `prices:*`
     * @param {OnMessage<T>} onMessage
     * @param {PatternOptions} [options]
     * @returns {Subscription<T>}
     */
    /**
     * @template [T=any]
     * @overload
     * @param {string} pattern
     * @param {PatternOptions} [options]
     * @returns {Subscription<T>}
     */
    /**
     * @param {string} pattern
     * @param {OnMessage | PatternOptions} [onMessage]
     * @param {PatternOptions} [options]
     */
    subscribePattern<T = any>(pattern: string, onMessage: OnMessage<T>, options?: PatternOptions): Subscription<T>;
    /**
     * Listen to every channel that a pattern matches, now and later: `*` is one segment of a name
     * between `:` or `.`, `**` at the end all the rest. Messages say their channel, and are in order
     * within it.
     * @template [T=any]
     * @overload
     * @param {string} pattern such as `prices:*`
     * @param {OnMessage<T>} onMessage
     * @param {PatternOptions} [options]
     * @returns {Subscription<T>}
     */
    /**
     * @template [T=any]
     * @overload
     * @param {string} pattern
     * @param {PatternOptions} [options]
     * @returns {Subscription<T>}
     */
    /**
     * @param {string} pattern
     * @param {OnMessage | PatternOptions} [onMessage]
     * @param {PatternOptions} [options]
     */
    subscribePattern<T = any>(pattern: string, options?: PatternOptions): Subscription<T>;
    /**
     * Resolves with the publication's position when the hub has it.
     * @overload
     * @param {string} channel
     * @param {unknown} data anything JSON can say
     * @param {PublishOptions} [options]
     * @returns {Promise<Published>}
     */
    /**
     * In several channels: resolves with the result of each, in their order; a `HubError` stands
     * where it was refused, or the outcome is unknown.
     * @overload
     * @param {string[]} channels
     * @param {unknown} data
     * @param {PublishOptions} [options]
     * @returns {Promise<(Published | HubError)[]>}
     */
    /**
     * @param {string | string[]} to
     * @param {unknown} data
     * @param {PublishOptions} [options]
     * @returns {Promise<any>}
     */
    publish(channel: string, data: unknown, options?: PublishOptions): Promise<Published>;
    /**
     * Resolves with the publication's position when the hub has it.
     * @overload
     * @param {string} channel
     * @param {unknown} data anything JSON can say
     * @param {PublishOptions} [options]
     * @returns {Promise<Published>}
     */
    /**
     * In several channels: resolves with the result of each, in their order; a `HubError` stands
     * where it was refused, or the outcome is unknown.
     * @overload
     * @param {string[]} channels
     * @param {unknown} data
     * @param {PublishOptions} [options]
     * @returns {Promise<(Published | HubError)[]>}
     */
    /**
     * @param {string | string[]} to
     * @param {unknown} data
     * @param {PublishOptions} [options]
     * @returns {Promise<any>}
     */
    publish(channels: string[], data: unknown, options?: PublishOptions): Promise<(Published | HubError)[]>;
    /**
     * @param {string} channel
     * @param {HistoryOptions} [options]
     * @returns {Promise<History>}
     */
    history(channel: string, options?: HistoryOptions): Promise<History>;
    /**
     * @param {string} channel
     * @returns {Promise<{ channel: string, members: PresentMember[] }>}
     */
    presence(channel: string): Promise<{
        channel: string;
        members: PresentMember[];
    }>;
    /**
     * How many are there.
     * @param {string} channel
     * @returns {Promise<number>}
     */
    presenceCount(channel: string): Promise<number>;
    /**
     * Say something else of this member; it is said again after each reconnect.
     * @param {string} channel
     * @param {unknown} data 4 KiB of JSON at most
     */
    presenceUpdate(channel: string, data: unknown): Promise<void>;
    /**
     * @param {"state"} event
     * @param {(state: State) => void} listener
     * @returns {() => void} stops listening
     */
    on(event: "state", listener: (state: State) => void): () => void;
    /** End the connection, and every loop. Subscriptions by callback go on after `connect`. */
    close(): void;
    /**
     * Connect again after `close`, or after the hub or the application's token function ended it.
     * Each subscription that listens by callback resumes where it was.
     */
    connect(): void;
}
