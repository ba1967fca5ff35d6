/**
 * One connection for everything: which transport, when to reconnect, and how a silent one is
 * noticed. It knows nothing about channels.
 *
 * Each attempt has to prove itself: the hub's `welcome` came and a ping was answered, in time,
 * so both ways are open and nothing holds the stream back. Only then does it take the place of
 * the connection before it, which goes on until then and a little longer. So moving, to another
 * node or to a better transport, leaves no moment without a connection.
 */
export type Json = import("./commands.js").Json;
export type Options = import("./options.js").Options;
export type State = import("./options.js").State;
export type Transport = import("./options.js").Transport;
export type Events = {
    /**
     * this is the connection from now on
     */
    up: (link: Link) => void;
    /**
     * there is none
     */
    down: () => void;
    /**
     * it brings nothing more
     */
    over: (link: Link) => void;
    push: (push: Json, link: Link) => void;
    state: (state: State) => void;
};
export type Link = {
    /**
     * below the hub's, with the token until the welcome came
     */
    url: (path: string) => URL;
    token?: string;
    WebSocket?: Options["WebSocket"];
    fetch?: Options["fetch"];
    /**
     * a reply stands in the stream, at its place
     */
    duplex?: boolean;
    /**
     * channel to epoch, of what it is subscribed to
     */
    epochs: Map<string, string>;
    /**
     * index of its transport
     */
    at: number;
    /**
     * the application's answer, with the welcome
     */
    given?: {
        data: any;
    };
    /**
     * its transport was asked: before that no failure is the transport's
     */
    dialled?: boolean;
    /**
     * when its last frame came
     */
    heardAt: number;
    /**
     * a longer silence is a lost connection; the welcome says it
     */
    silenceMs: number;
    timers: Record<string, ReturnType<typeof setTimeout>>;
    push: (push: Json) => void;
    /**
     * only the first time counts
     */
    closed: (code: number, reason?: string) => void;
    send: (command: Json) => void;
    close?: () => void;
};
/**
 * @param {URL} base
 * @param {Options} options
 * @param {Events} events
 */
export declare function connection(base: URL, options: Options, events: Events): {
    /** Connect unless that is under way, or over. */
    start: () => undefined;
    close: (code?: number, reason?: string) => void;
    /** Connect although it was over. */
    restart(): void;
};
