/**
 * The part that the bindings for React and Vue share: the newest messages of a channel and its
 * members, as values that change. It knows no framework.
 */

import { check } from "./options.js";

/** @typedef {import("./hub.js").Hub} Hub */
/** @typedef {import("./hub.js").HubError} HubError */
/** @typedef {import("./hub.js").PresentMember} PresentMember */
/** @typedef {import("./subscription.js").Gap} Gap */
/** @typedef {import("./subscription.js").Subscribed} Subscribed */
/**
 * @template [T=any]
 * @typedef {import("./subscription.js").Message<T>} Message
 */
/**
 * @template [T=any]
 * @typedef {object} ChannelOptions
 * @property {number} [keep] how many of the newest messages are kept, 1 or more; 1
 * @property {string} [since] begin after this position
 * @property {number} [last] begin with the newest n
 * @property {boolean} [fill] get from history the messages that a slow reader missed
 * @property {Record<string, any>} [filter] only messages with such tags
 * @property {number} [everyMs] the newest of each key, or of the channel, at most that often
 * @property {boolean} [joined] the replay of a start or a resume comes as one message, where all of it is text
 * @property {() => any} [getState] resolves with `{ data, position }`, the application's own state, which comes
 *   as a message before those behind that position
 * @property {(message: Message<T>) => void} [onMessage] called with each message at once
 * @property {(gap: Gap) => void} [onGap]
 */
/**
 * @template [T=any]
 * @typedef {object} ChannelState
 * @property {Message<T>[]} messages the newest ones, oldest first
 * @property {Message<T> | undefined} message the newest one
 * @property {T | undefined} data of the newest one
 * @property {Gap | undefined} gap the newest one
 * @property {HubError | undefined} error why the hub refuses the subscription
 * @property {Subscribed | undefined} subscribed the hub's answer when it began or resumed
 */
/**
 * @template [T=any]
 * @typedef {Omit<ChannelOptions<T>, "since" | "everyMs" | "joined" | "getState"> & {
 *   since?: Record<string, string> }} PatternOptions
 */
/**
 * @template [T=any]
 * @typedef {Pick<ChannelOptions<T>, "onMessage" | "onGap">} TableOptions
 */
/**
 * @template [T=any]
 * @typedef {object} TableState
 * @property {Message<T>[]} rows the newest message of each key
 * @property {boolean} whole whether they are all there: nothing is shown of a table that is not
 * @property {Gap | undefined} gap the newest one
 * @property {HubError | undefined} error why the hub refuses the subscription
 */
/** @typedef {{ data?: any }} PresenceOptions the data that this member says of itself, 4 KiB of JSON at most */
/**
 * @typedef {object} PresenceState
 * @property {PresentMember[]} members
 * @property {HubError | undefined} error why the hub does not tell
 */

/** @type {ChannelState} */
export const NOTHING = {
  messages: [],
  message: undefined,
  data: undefined,
  gap: undefined,
  error: undefined,
  subscribed: undefined,
};
export const PATTERN_OPTIONS = ["keep", "since", "last", "fill", "filter", "onMessage", "onGap"];
export const CHANNEL_OPTIONS = [...PATTERN_OPTIONS, "everyMs", "joined", "getState"];
export const TABLE_OPTIONS = ["onMessage", "onGap"];
export const PRESENCE_OPTIONS = ["data"];

/** @type {TableState} */
export const NO_ROWS = { rows: [], whole: false, gap: undefined, error: undefined };
/** @type {PresenceState} */
export const NOBODY = { members: [], error: undefined };

// A hidden page gets no frames: all messages of that time are one change when it is shown.
const nextFrame = /** @type {(run: () => void) => void} */ (
  (run) => (globalThis.requestAnimationFrame ?? setTimeout)(run)
);

/**
 * All changes between two frames of the screen are one.
 * @param {() => void} change
 */
function perFrame(change) {
  let stopped = false;
  let due = false;
  return {
    soon() {
      if (due) return;
      due = true;
      nextFrame(() => {
        due = false;
        if (!stopped) change();
      });
    },
    stop: () => void (stopped = true),
  };
}

/**
 * Follow a channel, or all that a pattern matches.
 * @param {Hub} hub
 * @param {string} channel
 * @param {ChannelOptions | PatternOptions} asked
 * @param {(state: ChannelState) => void} change
 * @param {"subscribe" | "subscribePattern"} [how]
 * @returns {() => void} stops it
 */
export function followChannel(hub, channel, asked, change, how = "subscribe") {
  check(asked, how === "subscribe" ? CHANNEL_OPTIONS : PATTERN_OPTIONS);
  const { keep = 1, onMessage, onGap, ...options } = asked;
  if (!(keep >= 1)) throw new TypeError(`keep is ${keep}`); // all would be kept, until the page dies
  let state = NOTHING;
  const frames = perFrame(() => change(state));

  /** @param {Partial<ChannelState>} next */
  const set = (next) => {
    state = { ...state, ...next };
    frames.soon();
  };

  // The type of the options depends on which of the two it is.
  const { unsubscribe } = /** @type {Hub & { subscribePattern: any }} */ (hub)[how](
    channel,
    (/** @type {Message} */ message) => {
      set({ messages: [...state.messages, message].slice(-keep), message, data: message.data });
      onMessage?.(message);
    },
    /** @type {any} */ ({
      ...options,
      /** @param {Gap} gap */
      onGap(gap) {
        set({ gap });
        onGap?.(gap);
      },
      onSubscribed: (/** @type {Subscribed} */ subscribed) => set({ subscribed, error: undefined }),
      onError: (/** @type {HubError} */ error) => set({ error }),
    }),
  );
  return () => {
    frames.stop();
    unsubscribe();
  };
}

/**
 * Follow the rows of a keyed channel. A table that begins anew is shown once it is whole.
 * @param {Hub} hub
 * @param {string} channel
 * @param {TableOptions} options
 * @param {(state: TableState) => void} change
 * @returns {() => void} stops it
 */
export function followTable(hub, channel, { onMessage, onGap, ...others }, change) {
  check(others, TABLE_OPTIONS);
  /** @type {Map<string | undefined, Message>} */
  let rows = new Map();
  let more = true;
  /** @type {Gap | undefined} */
  let gap;
  /** @type {HubError | undefined} */
  let error;
  const show = () => change({ rows: [...rows.values()], whole: true, gap, error });
  const frames = perFrame(() => (error ? change({ ...NO_ROWS, gap, error }) : more || show()));

  const { unsubscribe } = hub.subscribe(
    channel,
    (message) => {
      if (message.remove) rows.delete(message.key);
      else if (message.key !== undefined) rows.set(message.key, message);
      frames.soon();
      onMessage?.(message);
    },
    {
      state: true,
      onState(page) {
        if (page.begins) rows = new Map();
        for (const row of page.rows) rows.set(row.key, row);
        ({ more } = page);
        frames.soon();
      },
      onGap(missing) {
        gap = missing;
        frames.soon();
        onGap?.(missing);
      },
      onSubscribed: () => void (error = undefined),
      onError(refused) {
        error = refused;
        frames.soon();
      },
    },
  );
  return () => {
    frames.stop();
    unsubscribe();
  };
}

/**
 * Follow the members of a channel: asked for once the hub tells of changes, and again where it lost some.
 * @param {Hub} hub
 * @param {string} channel
 * @param {(state: PresenceState) => void} change
 * @param {PresenceOptions} [options]
 * @returns {() => void} stops it
 */
export function followPresence(hub, channel, change, { data, ...others } = {}) {
  check(others, PRESENCE_OPTIONS);
  /** @type {Map<string, PresentMember>} by id */
  let members = new Map();
  let asked = 0;
  let stopped = false;
  /** @type {((known: Map<string, PresentMember>) => void)[] | undefined} changes that came while it was asked */
  let meanwhile;

  /** @param {HubError} [error] */
  const show = (error) => stopped || change({ members: [...members.values()], error });

  const ask = async () => {
    const mine = ++asked;
    meanwhile = [];
    try {
      const answer = await hub.presence(channel);
      if (mine !== asked) return;
      members = new Map(answer.members.map((member) => [member.id, member]));
      meanwhile.forEach((change) => change(members));
      show();
    } catch (error) {
      const { code, retryable } = /** @type {HubError} */ (error);
      if (mine !== asked) return;
      // Another `subscribed` follows where the connection was lost.
      if (retryable && code !== "disconnected") setTimeout(() => stopped || ask(), 1000 + 2000 * Math.random());
      else if (!retryable) show(/** @type {HubError} */ (error));
    } finally {
      if (mine === asked) meanwhile = undefined;
    }
  };

  const { unsubscribe } = hub.subscribe(channel, {
    presence: data === undefined ? undefined : { data },
    onSubscribed: () => void ask(),
    onError: show,
    onPresence({ op, member }) {
      if (op === "presence_reset") return void ask();
      /** @param {Map<string, PresentMember>} known */
      const apply = (known) => {
        const changed = /** @type {PresentMember} */ (member);
        if (op === "leave") known.delete(changed.id);
        else known.set(changed.id, changed);
      };
      meanwhile?.push(apply);
      apply(members);
      show();
    },
  });
  return () => {
    stopped = true;
    unsubscribe();
  };
}
