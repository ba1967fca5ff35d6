/** Publications of an application, in one channel or in several, and their results. */

import { HubError } from "./errors.js";
import { check, PUBLISH_OPTIONS } from "./options.js";

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
export async function publish(request, channel, data = null, options = {}) {
  check(options, PUBLISH_OPTIONS);
  const { idempotencyKey, idempotency_key = idempotencyKey, ttlSeconds, ...more } =
    /** @type {PublishOptions & { idempotency_key?: string }} */ (options);
  const ok = await request({ op: "publish", channel, data, idempotency_key, ttl_seconds: ttlSeconds, ...more });
  return { ...ok, position: `${ok.epoch}:${ok.offset}` };
}

/**
 * Publish one payload in each of several channels; resolves with the result of each, in their
 * order: where it stands, or the error. Rejects where nothing was asked for.
 * @param {Request} request
 * @param {string[]} channels
 * @param {unknown} data
 * @param {PublishOptions} [options]
 * @returns {Promise<(Published | HubError)[]>}
 */
export async function publishEach(request, channels, data, options) {
  if (new Set(channels).size < channels.length) throw new TypeError("a channel is named twice");
  /** @param {string} channel */
  const one = async (channel) => {
    try {
      return await publish(request, channel, data, options);
    } catch (error) {
      if (error instanceof HubError) return error;
      throw error;
    }
  };
  return Promise.all(channels.map(one));
}
