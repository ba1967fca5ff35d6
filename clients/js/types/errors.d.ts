/** Refusals of the hub, and requests that this client gave up on. */
export declare class HubError extends Error {
    code: string;
    retryable: boolean;
    name: string;
    /** When the hub asked to try again; 0 where it did not say. */
    retryAfterSeconds: number;
    /**
     * @param {string} code the hub's stable error code, or `disconnected`, `timeout`, `closed`, `busy`
     * @param {boolean} [retryable] whether the same request may succeed later
     * @param {string} [message]
     */
    constructor(code: string, retryable?: boolean, message?: string);
}
/** For a token function to throw: there is no session to go on with, so the hub is closed. */
export declare class LoggedOutError extends HubError {
    name: string;
    /** @param {string} [message] */
    constructor(message?: string);
}
/**
 * Say an error that no callback takes on the console: a page that stays empty must not be silent too.
 * @param {string} what
 * @param {string} [why]
 */
export declare const complain: (what: string, why?: string) => void;
/**
 * Run an application's callback. Its error is reported as an uncaught one and must not
 * end the stream for everybody else.
 * @template T
 * @param {((value: T) => void) | undefined} callback
 * @param {T} value
 */
export declare function call<T>(callback: ((value: T) => void) | undefined, value: T): void;
