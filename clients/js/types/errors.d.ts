/** What the hub refused, or what this client gave up on. */
export declare class HubError extends Error {
    code: string;
    retryable: boolean;
    name: string;
    /**
     * @param {string} code the hub's stable error code, or `disconnected`, `timeout`, `closed`, `busy`
     * @param {boolean} [retryable] whether the same request may succeed later
     * @param {string} [message]
     */
    constructor(code: string, retryable?: boolean, message?: string);
}
/**
 * Run an application's callback. What it throws is reported as an uncaught error and must not
 * end the stream for everybody else.
 * @template T
 * @param {((value: T) => void) | undefined} callback
 * @param {T} value
 */
export declare function call<T>(callback: ((value: T) => void) | undefined, value: T): void;
