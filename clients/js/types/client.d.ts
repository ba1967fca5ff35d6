/** The channels that the application wants, and those that the present connection carries. */
import { openPattern } from "./pattern.js";
export type Json = import("./commands.js").Json;
export type Channel = import("./channel.js").Channel;
export type Link = import("./connection.js").Link;
export type Pattern = ReturnType<typeof openPattern>;
export type Wanted = Channel | Pattern;
export type State = import("./options.js").State;
export type Member = import("./subscription.js").Member;
/**
 * @param {URL} base
 * @param {import("./options.js").Options} options
 * @param {(state: State) => void} show
 */
export declare function openClient(base: URL, options: import("./options.js").Options, show: (state: State) => void): {
    close: (code?: number, reason?: string) => void;
    request: (command: Json) => Promise<any>;
    /** Connect again after a close, for whatever reason. */
    connect(): void;
    /**
     * @param {string} channel
     * @param {unknown} data
     */
    update(channel: string, data: unknown): Promise<void>;
    /** @param {(state: State) => void} listener */
    on(listener: (state: State) => void): () => undefined;
    /**
     * @param {string} name of a channel, or a pattern
     * @param {import("./subscription.js").Listening} on
     * @param {boolean} [isPattern]
     */
    subscribe(name: string, on: import("./subscription.js").Listening, isPattern?: boolean): import("./subscription.js").Subscription<any>;
};
