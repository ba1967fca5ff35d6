/** Every limit and time of this client, with its reason. */
/** For a welcome, and again for a pong. A handshake on a slow phone takes two seconds. */
export declare const PROBE_MS = 5000;
/** For a pong when the browser says it is offline: a network that is there answers sooner. Guess. */
export declare const OFFLINE_MS = 1000;
/** For the application's token: a function that starts cold, and a phone, take ten. Guess. */
export declare const TOKEN_MS = 60000;
/** When a better transport is tried again; later each time it fails. Guess, not measured. */
export declare const BETTER_MS = 10000;
/** A connection that held for this long is no reconnect loop. Guess, not measured. */
export declare const STABLE_MS = 10000;
/** Failures of a transport that worked before the next is tried: seconds. Guess. */
export declare const PATIENCE = 3;
/** The last frames of the connection before arrive in this time. Guess, not measured. */
export declare const LINGER_MS = 2000;
/** The clock is looked at this often: after a sleep the next look is late. */
export declare const LOOK_MS = 5000;
/** The longest timer there is: 32 bits with a sign, 24 days. */
export declare const MAX_TIMER: number;
/** The close code of a connection that ended without one (RFC 6455 section 7.4.1). */
export declare const LOST = 1006;
/** A restarted process is found within a second. Guess, not measured. */
export declare const BASE_MS = 1000;
/** The wait after an outage stays below half a minute: the last ceiling, in first ones. */
export declare const CEILINGS = 30;
/** Which transport worked: longer than a visit, shorter than until the laptop is elsewhere. */
export declare const REMEMBER_MS = 3600000;
/**
 * Commands without a reply; more wait for their turn. The hub queues 256 of a session before it
 * stops reading, and its replies to so many are half of what it keeps for a session.
 */
export declare const MAX_PENDING = 256;
/** For a command's reply. Guess, not measured. */
export declare const COMMAND_MS = 10000;
/** Characters of a poll's positions, but for the last one: nginx takes a URL of 8 KB. */
export declare const MAX_PLACES = 6000;
/** PROTOCOL.md's: proxies give a silent answer up after 30 or 60. */
export declare const MAX_WAIT_SECONDS = 25;
/** Characters of a line of SSE: far above any frame the hub sends (64 KiB of data by default). */
export declare const MAX_EVENT = 8000000;
/** Messages that wait for a loop, or behind a gap: two seconds at 500 messages/s. */
export declare const MAX_QUEUE = 1000;
/** A replay that is to be joined and pauses for this long is told as far as it came. Guess. */
export declare const JOIN_MS = 1000;
/** Where a path leads without a page (RFC 2606 section 2: no host has such a name). */
export declare const NO_PAGE = "http://no-page.invalid";
/** The cure for an address that leads nowhere. */
export declare const WRITE = "write https://host, or /path in a page";
/** Why messages of one channel cannot come in two ways, and the cure. */
export declare const OTHERWISE = "with another filter, state or everyMs here: ask for the same, or use another new Hub(url)";
/** The cure where the hub wants a token or another one, by what the application gave. @type {Record<string, string>} */
export declare const CURES: Record<string, string>;
