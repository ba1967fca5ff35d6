/** Refusals of the hub, and requests that this client gave up on. */

export class HubError extends Error {
  name = "HubError";
  /** When the hub asked to try again; 0 where it did not say. */
  retryAfterSeconds = 0;

  /**
   * @param {string} code the hub's stable error code, or `disconnected`, `timeout`, `closed`, `busy`
   * @param {boolean} [retryable] whether the same request may succeed later
   * @param {string} [message]
   */
  constructor(code, retryable = false, message = code) {
    super(message);
    this.code = code;
    this.retryable = retryable;
  }
}

/** For a token function to throw: there is no session to go on with, so the hub is closed. */
export class LoggedOutError extends HubError {
  name = "LoggedOutError";

  /** @param {string} [message] */
  constructor(message = "logged out") {
    super("logged_out", false, message);
  }
}

/**
 * Say an error that no callback takes on the console: a page that stays empty must not be silent too.
 * @param {string} what
 * @param {string} [why]
 */
export const complain = (what, why) => console.error(`broadcast hub: ${what}: ${why || "refused"}`);

/**
 * Run an application's callback. Its error is reported as an uncaught one and must not
 * end the stream for everybody else.
 * @template T
 * @param {((value: T) => void) | undefined} callback
 * @param {T} value
 */
export function call(callback, value) {
  try {
    callback?.(value);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
