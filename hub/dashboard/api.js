/** The hub's public HTTP API, with the operator's key where one is needed. */

// Above the two seconds in which a node answers another, with a slow network on top.
const TIMEOUT_MS = 15000;
const KEY = "hub.operator-key";

const base = new URL("..", import.meta.url);

/** What the hub refused, in its own words. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 where there was no answer
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The key lives as long as the tab, and nobody else's page can read it. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  /** @param {string} value */
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** @type {(error: ApiError) => void} */
let refused = () => {};

/**
 * Told when the hub does not take the key any more.
 * @param {(error: ApiError) => void} listener
 */
export function onRefused(listener) {
  refused = listener;
}

/** @param {Response} answer */
async function problem(answer) {
  const body = await answer.json().catch(() => ({}));
  return new ApiError(answer.status, body.detail ?? `the hub answered ${answer.status}`);
}

/**
 * @param {string} method
 * @param {string} path such as `api/nodes`, its parts encoded
 * @param {{ query?: Record<string, any>, body?: string, headers?: Record<string, string> }} [more]
 * @returns {Promise<any>} the answer's JSON, null without any
 */
export async function call(method, path, { query = {}, body, headers } = {}) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const mine = key.get();
  const authorization = mine ? { Authorization: `Bearer ${mine}` } : {};
  let answer;
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const all = /** @type {any} */ ({ ...authorization, ...headers });
    answer = await fetch(url, { method, body, signal, headers: all });
  } catch {
    throw new ApiError(0, "The hub cannot be reached.");
  }
  if (!answer.ok) {
    const error = await problem(answer);
    if (answer.status === 401) refused(error);
    throw error;
  }
  return answer.status === 204 ? null : answer.json();
}

/**
 * @param {string} path
 * @param {Record<string, any>} [query]
 */
export const get = (path, query) => call("GET", path, { query });

/** One part of a path. */
export const part = encodeURIComponent;
