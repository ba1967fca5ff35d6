/** The options of an application, by name, and the states of its connection. */
export type Transport = "websocket" | "sse" | "poll";
export type Socket = {
    new (url: URL): {
        onmessage: ((event: any) => void) | null;
        onclose: ((event: any) => void) | null;
        onerror: ((event: any) => void) | null;
        send: (text: string) => void;
        close: () => void;
    };
};
export type State = {
    state: "connecting" | "connected" | "waiting" | "closed";
    /**
     * in use, or being tried
     */
    transport: Transport;
    /**
     * the close code that led to `waiting` or `closed`
     */
    code?: number;
    reason?: string;
    retryInMs?: number;
    /**
     * with `connected`: the answer of the application that the hub asks
     */
    data?: any;
};
export type Options = {
    /**
     * a function is asked again before
     * the token ends and after a 4401; one that throws `LoggedOutError` closes the hub
     */
    token?: string | (() => string | Promise<string>);
    /**
     * in the order they are tried
     */
    transports?: Transport[];
    /**
     * for Node before 22, such as that of `ws`
     */
    WebSocket?: Socket;
    fetch?: (url: URL, init: RequestInit) => Promise<Response>;
    /**
     * from 0 up to 1
     */
    random?: () => number;
    /**
     * how long a transport has for its welcome, and again for a pong; 5,000
     */
    probeMs?: number;
    /**
     * a better transport is tried again after up to this long, and
     * after up to twice as long each time it fails, at most 30 times; 10,000
     */
    betterMs?: number;
    /**
     * remembers the transport that worked;
     * `localStorage` in a page
     */
    storage?: import("./memory.js").Store;
};
/** @typedef {"websocket" | "sse" | "poll"} Transport */
/**
 * @typedef {{
 *   new (url: URL): {
 *     onmessage: ((event: any) => void) | null,
 *     onclose: ((event: any) => void) | null,
 *     onerror: ((event: any) => void) | null,
 *     send: (text: string) => void,
 *     close: () => void,
 *   }
 * }} Socket the part of a WebSocket that is used
 */
/**
 * @typedef {object} State
 * @property {"connecting" | "connected" | "waiting" | "closed"} state
 * @property {Transport} transport in use, or being tried
 * @property {number} [code] the close code that led to `waiting` or `closed`
 * @property {string} [reason]
 * @property {number} [retryInMs]
 * @property {any} [data] with `connected`: the answer of the application that the hub asks
 */
/**
 * @typedef {object} Options
 * @property {string | (() => string | Promise<string>)} [token] a function is asked again before
 *   the token ends and after a 4401; one that throws `LoggedOutError` closes the hub
 * @property {Transport[]} [transports] in the order they are tried
 * @property {Socket} [WebSocket] for Node before 22, such as that of `ws`
 * @property {(url: URL, init: RequestInit) => Promise<Response>} [fetch]
 * @property {() => number} [random] from 0 up to 1
 * @property {number} [probeMs] how long a transport has for its welcome, and again for a pong; 5,000
 * @property {number} [betterMs] a better transport is tried again after up to this long, and
 *   after up to twice as long each time it fails, at most 30 times; 10,000
 * @property {import("./memory.js").Store} [storage] remembers the transport that worked;
 *   `localStorage` in a page
 */
export declare const HUB_OPTIONS: string[];
export declare const PATTERN_OPTIONS: string[];
export declare const SUBSCRIBE_OPTIONS: string[];
export declare const EARLIER_OPTIONS: string[];
export declare const PUBLISH_OPTIONS: string[];
export declare const HISTORY_OPTIONS: string[];
/**
 * In which way the hub is to bring messages: the same for all that get those of a channel.
 * @param {Record<string, any>} options
 */
export declare const termsOf: ({ filter, state, everyMs }: Record<string, any>) => string;
export declare const NO_TERMS: string;
/**
 * Throws on a name that does not exist: a misspelt one would be ignored in silence. So would a
 * number that is none, or endless: JSON has neither, and says `null`.
 * @param {Record<string, any>} options
 * @param {string[]} known
 */
export declare function check(options: Record<string, any>, known: string[]): void;
