/** Publications of an application, in one channel or in several, and their results. */
import { HubError } from "./errors.js";
export type Request = (command: Record<string, any>) => Promise<any>;
export type PublishOptions = {
    key?: string;
    /**
     * `false`: not back to here
     */
    echo?: boolean;
    /**
     * with the same key again it is published once
     */
    idempotencyKey?: string;
    /**
     * compared by filters, at most 16
     */
    tags?: Record<string, string | number | boolean>;
    /**
     * it takes the row of its key away
     */
    remove?: boolean;
    /**
     * it is the last one of its channel
     */
    end?: boolean;
    /**
     * history holds it no longer than this
     */
    ttlSeconds?: number;
    /**
     * `false`: history does not hold it
     */
    history?: boolean;
};
export type Published = {
    channel: string;
    epoch: string;
    offset: number;
    /**
     * `epoch:offset`
     */
    position: string;
    /**
     * the idempotency key was seen before: this is the first answer again
     */
    duplicate?: boolean;
};
/** @typedef {(command: Record<string, any>) => Promise<any>} Request */
/**
 * @typedef {object} PublishOptions
 * @property {string} [key]
 * @property {boolean} [echo] `false`: not back to here
 * @property {string} [idempotencyKey] with the same key again it is published once
 * @property {Record<string, string|number|boolean>} [tags] compared by filters, at most 16
 * @property {boolean} [remove] it takes the row of its key away
 * @property {boolean} [end] it is the last one of its channel
 * @property {number} [ttlSeconds] history holds it no longer than this
 * @property {boolean} [history] `false`: history does not hold it
 */
/**
 * @typedef {object} Published
 * @property {string} channel
 * @property {string} epoch
 * @property {number} offset
 * @property {string} position `epoch:offset`
 * @property {boolean} [duplicate] the idempotency key was seen before: this is the first answer again
 */
/**
 * Publish by `request`; resolves with where the publication stands.
 * @param {Request} request
 * @param {string} channel
 * @param {unknown} [data]
 * @param {PublishOptions} [options]
 * @returns {Promise<Published>}
 */
export declare function publish(request: Request, channel: string, data?: unknown, options?: PublishOptions): Promise<Published>;
/**
 * Publish one payload in each of several channels; resolves with the result of each, in their
 * order: where it stands, or the error. Rejects where nothing was asked for.
 * @param {Request} request
 * @param {string[]} channels
 * @param {unknown} data
 * @param {PublishOptions} [options]
 * @returns {Promise<(Published | HubError)[]>}
 */
export declare function publishEach(request: Request, channels: string[], data: unknown, options?: PublishOptions): Promise<(Published | HubError)[]>;
