/**
 * The subscription that `hub.subscribe` hands out: callbacks, and messages for `for await`.
 *
 * Messages and gaps stand in one queue, so the application hears of a gap exactly where the
 * messages would have been. With `fill` a gap that history may still have is asked for when its
 * turn comes; messages that arrive meanwhile wait behind it. So are those that a later subscription
 * to a channel wants by `since` or `last`, and that the stream passed before it came: subscribed with `last: 2` at
 * offset 40, it asks history for 39 and 40 and then goes on with 41. The queue has a limit, because
 * one without would grow until the page dies: a loop that is slower than its channel loses the
 * oldest, which become a gap with reason `client`.
 */

import { epochOf, offsetOf } from "./channel.js";
import { call, complain } from "./errors.js";
import { behind, isFillable, shrink } from "./gaps.js";
import { joinPage, openJoiner } from "./joining.js";
import { MAX_QUEUE } from "./limits.js";
import { NO_TERMS, termsOf } from "./options.js";
import { publish } from "./publishing.js";

/** @typedef {import("./errors.js").HubError} HubError */
/** @typedef {import("./publishing.js").PublishOptions} PublishOptions */
/** @typedef {import("./publishing.js").Published} Published */

/**
 * @template [T=any]
 * @typedef {object} Message
 * @property {string} channel
 * @property {T} data
 * @property {string} epoch
 * @property {string} position `epoch:offset`, for `since`
 * @property {number} [offset] missing where a publication came by plain Redis PUBLISH
 * @property {string} [key]
 * @property {number} [time] milliseconds since 1970 UTC
 * @property {string} [from] the token subject of the session that published it
 * @property {Record<string, string|number|boolean>} [tags]
 * @property {boolean} [remove] it takes the row of its key away
 * @property {boolean} [end] it is the last one of its channel
 * @property {boolean} [state] it is the answer of `getState`
 * @property {number} [joined] of so many replayed messages it is made: `data` is theirs, one after the other
 */
/**
 * @typedef {object} Gap
 * @property {string} channel
 * @property {"slow"|"conflated"|"broker"|"expired"|"invalid"|"reset"|"client"} reason
 * @property {string} [epoch]
 * @property {number} [from] first missing offset; none at a `reset`
 * @property {number} [to] last missing offset; none at a `reset`
 * @property {string} [position] after a `reset`: where the stream continues
 * @property {number} [unsequenced] how many publications without an offset were dropped
 */
/**
 * @typedef {object} Subscribed
 * @property {string} channel
 * @property {string} position
 * @property {boolean} recovered
 * @property {number} replayed
 * @property {any} [data] the answer of the application that the hub asks
 */
/**
 * @typedef {object} Presence
 * @property {"join"|"leave"|"update"|"presence_reset"} op at a `presence_reset` some were lost: ask again
 * @property {string} channel
 * @property {Record<string, any>} [member]
 */
/**
 * @template [T=any]
 * @typedef {(message: Message<T>) => void} OnMessage
 */
/**
 * @typedef {object} SubscribeOptions
 * @property {OnMessage<any>} [onMessage] where it is not an argument of its own
 * @property {string} [since] resume after this position, `epoch:offset`
 * @property {number} [last] begin with the newest n publications; `since` wins over it
 * @property {boolean} [fill] get from history the messages that a slow reader missed, in order
 * @property {Record<string, any>} [filter] only messages with such tags, as `{ league: "nba" }`;
 *   the same for all that get messages of a channel, of which later ones begin with the next message
 * @property {() => any} [getState] resolves with `{ data, position }`, the application's own state as
 *   of a position; asked at the start and whenever messages are missing, told as a message with
 *   `state: true` before those behind that position
 * @property {number} [everyMs] the newest of each key, or of the channel, at most that often; as the
 *   first that gets messages of a channel wants it, and refused to one that wants them more often
 * @property {{ data: any }} [presence] the data that the member says of itself, 4 KiB of JSON at
 *   most: that of the newest subscription to a channel
 * @property {AbortSignal} [signal] unsubscribes when aborted
 * @property {(gap: Gap) => void} [onGap]
 * @property {(presence: Presence) => void} [onPresence] goes along with any other subscription to the
 *   channel, where nothing takes messages here
 * @property {boolean} [state] rows of a keyed channel first, and again where history cannot make a
 *   resume whole; the same for all that get messages of a channel
 * @property {boolean} [joined] the replay of a start or a resume comes as one message, whose `data` is that
 *   of all, one after the other, where all of it is text; without `filter` and `state`
 * @property {(state: Rows<any>) => void} [onState] gets the rows; messages follow them
 * @property {(subscribed: Subscribed) => void} [onSubscribed] after every (re)connect
 * @property {(error: HubError) => void} [onError]
 */
/**
 * The options of `hub.subscribePattern`: without those that belong to one channel.
 * @typedef {Omit<SubscribeOptions, "since" | "presence" | "everyMs" | "getState" | "state" | "onState" | "joined"> & {
 *   since?: Record<string, string> }} PatternOptions `since` takes the `positions` of a subscription;
 *   a channel that it does not name is read from its beginning
 */
/**
 * @template [T=any]
 * @typedef {object} Rows rows of a keyed channel as of `position`
 * @property {string} channel
 * @property {string} position
 * @property {Message<T>[]} rows the newest message of each key, in the order of the keys
 * @property {boolean} more whether further rows as of the same position follow
 * @property {boolean} begins whether the table begins anew: forget the rows that came so far
 * @property {number} [dropped] rows that the hub let go of for want of room
 */
/**
 * @template [T=any]
 * @typedef {{
 *   channel: string,
 *   positions: Record<string, string>,
 *   publish: (data: unknown, options?: PublishOptions) => Promise<Published>,
 *   unsubscribe: () => void,
 *   [Symbol.asyncIterator]: () => AsyncGenerator<Message<T>, void, void>,
 * }} Subscription a loop gets the messages in order; leaving it unsubscribes
 */
/**
 * @typedef {object} Member a subscription as its channel sees it
 * @property {Subscription} subscription
 * @property {(epoch: string, from: number, head: number) => void} begin of a later subscription:
 *   the stream goes on after `from` for it, and `head` is the newest offset
 * @property {(op: string, item: any) => void} push
 * @property {() => boolean} isBare whether it wants presence alone, in whatever way messages come
 * @property {(error?: HubError) => boolean} pause the connection is over; whether it goes on with the next
 * @property {(error?: HubError | 1) => void} end no more messages; a loop ends, or throws `error`;
 *   1: a loop ends behind all that came
 */
/** @typedef {Omit<SubscribeOptions, "since"> & { since?: any }} Listening */
/**
 * @typedef {object} Owner
 * @property {(member: Member) => void} leave
 * @property {() => HubError | undefined} conflict why its messages cannot come
 * @property {(command: Record<string, any>) => Promise<any>} request
 */

const ASK_AGAIN_MS = 1000; // and up to two more: whole audiences ask at once

/**
 * @param {Owner} owner
 * @param {string} channel
 * @param {Listening} on
 * @returns {Member}
 */
export function openSubscription({ leave, request, conflict }, channel, on) {
  const { onMessage, onPresence, signal, since, last } = on;
  /** @type {any[]} messages and gaps */
  const queue = [];
  /** @type {any} the gap that history is being asked for */
  let filling;
  /** @type {() => void} */
  let wake = () => {};
  /** @type {boolean | 1 | HubError} whether it is over, and why; 1: all that has come is still handed on */
  let ended = false;
  let looping = false;
  /** @type {object | undefined} the application is being asked for its state */
  let syncing;
  let stood = ""; // the position of the state told last
  let begun = false;
  let skipEpoch = ""; // in which a later subscription, or one whose state has it, does not get
  let skip = 0; // this offset, and those before it
  /** @type {Record<string, string>} by channel, behind the last item that was handed on */
  const places = typeof since === "string" ? { [channel]: since } : { ...since };

  /**
   * The application is given this now.
   * @param {any} [item]
   */
  const pass = (item) => {
    const to = item?.position ?? (item?.to && `${item.epoch}:${item.to}`);
    if (to && !item.more) places[item.channel] = to;
  };

  /**
   * The next message; gaps before it are reported. Nothing while there is none, or while
   * history is asked.
   */
  const take = () => {
    while (!filling && !syncing) {
      const item = queue.shift();
      if (!item?.reason) pass(item);
      if (item?.rows) call(on.onState, item);
      else if (!item?.reason) return item;
      else if (isFillable(item, on)) fill((filling = item));
      else report(item);
    }
  };

  /**
   * A subscription to the newest n misses nothing where there are fewer.
   * @param {any} gap
   */
  const report = ({ ask, ...gap }) => {
    pass(gap);
    if (ask !== "last" && ask !== "state") call(on.onGap, gap);
    if (on.getState && gap.reason !== "conflated") sync(gap, ask === "state");
  };

  /**
   * The part of a message or gap that the application does not have.
   * @param {any} item
   */
  const fresh = (item) => (item.epoch === skipEpoch ? behind(item, skip) : item);

  /**
   * Ask the application for its state. Messages of the meantime wait, and those that the state has
   * already are dropped; those between the two are asked of history, and where that lacks them, the
   * application once more. Where history lacks them behind a state as old as the one before, they
   * are a gap.
   * @param {any} gap the stream goes on behind it
   * @param {boolean} [again]
   */
  const sync = async (gap, again) => {
    const { epoch, position, to = offsetOf(position) } = gap;
    const lacked = again;
    const mine = (syncing = {});
    let state;
    while (!state) {
      if (again) await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS * (1 + 2 * Math.random())));
      if (ended && ended !== 1) return;
      try {
        const answer = await /** @type {() => any} */ (on.getState)();
        if (typeof answer?.position !== "string") throw Error("getState must answer { data, position }");
        state = answer;
      } catch (error) {
        complain(`no state of "${channel}"`, `${error}`);
      }
      if (mine !== syncing) return;
      again = true;
    }
    if (lacked && state.position === stood) {
      syncing = undefined;
      call(on.onGap, gap);
      return go();
    }
    stood = state.position;
    const at = epochOf(stood) === epoch ? offsetOf(stood) : 0;
    skipEpoch = epoch;
    skip = Math.max(at, to);
    const rest = queue.map(fresh).filter(Boolean);
    const between = { channel, epoch, from: at + 1, to, reason: "expired", ask: "state" };
    const told = { channel, epoch, position: stood, data: state.data, state: true };
    queue.splice(0, queue.length, told, ...(at < to ? [between] : []), ...rest);
    syncing = undefined;
    go();
  };

  /**
   * The stream begins, behind this position.
   * @param {string} epoch
   * @param {string} position
   */
  const start = (epoch, position) => {
    if (on.getState && !begun) sync({ epoch, position });
    begun = true;
  };

  /** Hand on the items that have their turn. */
  const go = () => {
    wake();
    for (let message; onMessage && (!ended || ended === 1) && (message = take()); ) call(onMessage, message);
  };

  /**
   * Ask history for the missing messages; those that it does not have stay a gap. Messages behind
   * another hole, or beyond the answer's room, are asked for when their turn comes.
   * @param {any} gap
   */
  const fill = async ({ ...gap }) => {
    const asked = filling;
    const { channel, epoch, to } = gap;
    let found = [];
    const since = `${epoch}:${gap.from - 1}`;
    const command = { op: "history", channel, since, limit: MAX_QUEUE };
    const again = (/** @type {HubError} */ { code }) => code === "disconnected" && request(command);
    const history = (await request(command).catch(again).catch(() => 0)) || { position: "" };
    if (filling !== asked) return; // given up
    for (const publication of epochOf(history.position) === epoch ? history.publications : []) {
      const { offset } = publication;
      if (offset > to || (found.length && offset > gap.from)) break;
      if (offset > gap.from) report({ ...gap, to: offset - 1 });
      found.push({ channel, epoch, ...publication, position: `${epoch}:${offset}` });
      gap.from = offset + 1;
    }
    if (on.joined && gap.ask) found = joinPage(found);
    if (!found.length) report(gap);
    else if (gap.from <= to) found.push(gap);
    filling = null;
    queue.unshift(...found);
    go();
  };

  /**
   * It has its turn behind all that came.
   * @param {any} item a message, a gap, or rows
   */
  const enqueue = (item) => {
    const news = fresh(item);
    if (!news) return;
    if (queue.push(news) > MAX_QUEUE) {
      if (filling) {
        report(filling);
        filling = null;
      } else {
        shrink(queue);
      }
    }
    go();
  };

  const joiner = on.joined ? openJoiner(enqueue) : undefined;

  const unsubscribe = () => {
    if (ended) return;
    member.end();
    leave(member);
  };

  /** @type {Member} */
  const member = {
    subscription: {
      channel,
      get positions() {
        return { ...places };
      },
      publish: (data, options) => publish(request, channel, data, options),
      unsubscribe,
      async *[Symbol.asyncIterator]() {
        looping = true;
        const refused = conflict();
        try {
          if (refused) throw refused;
          while (ended !== true) {
            const message = take();
            if (message) yield message;
            else if (ended === 1 && !syncing) return;
            else if (ended && ended !== 1) throw ended;
            else await new Promise((resolve) => (wake = /** @type {() => void} */ (resolve)));
          }
        } finally {
          unsubscribe();
        }
      },
    },

    begin(epoch, from, head) {
      joiner?.starts(`${epoch}:${from}`, head - from);
      skipEpoch = epoch;
      if (on.getState) {
        skip = from;
        return start(epoch, `${epoch}:${from}`);
      }
      skip = Math.max(0, head - (last ?? 0));
      if (since) {
        skip = epochOf(since) === epoch ? offsetOf(since) : 0;
        const reset = { channel, epoch, position: `${epoch}:0`, reason: "reset" };
        if (epochOf(since) !== epoch) queue.push(reset);
      }
      const missed = { channel, epoch, from: skip + 1, to: from, reason: "expired" };
      if (skip < from) queue.push({ ...missed, ask: since ? "since" : "last" });
      if (queue.length) queueMicrotask(go); // the application has no handle yet
    },

    push(op, item) {
      const { position, positions = { [item.channel]: position } } = item;
      if (op === "subscribed" || op === "began") {
        for (const [name, at] of Object.entries(positions)) places[name] ??= at;
        if (position) {
          joiner?.starts(position, item.replayed);
          start(epochOf(position), position);
        }
        if (op === "subscribed") call(on.onSubscribed, item);
      } else if (op === "message" || op === "gap" || (op === "state" && on.state)) {
        (joiner?.push ?? enqueue)(item);
      } else if (item.member || op === "presence_reset") call(onPresence, { op, ...item });
    },

    isBare: () => !!onPresence && !onMessage && !looping && !on.getState && termsOf(on) === NO_TERMS,

    pause(error) {
      joiner?.cut();
      const stays = !looping && !!(onMessage ?? onPresence) && !signal?.aborted;
      if (!stays) member.end(error);
      else if (error) call(on.onError, error);
      return stays;
    },

    end(error) {
      if (error) joiner?.cut();
      if (ended) return;
      ended = error ?? true;
      signal?.removeEventListener("abort", unsubscribe);
      if (error && error !== 1) {
        call(on.onError, error);
        // A loop throws it; that the hub was closed is said once for all.
        if (!on.onError && onMessage && error.code !== "closed")
          complain(`no messages of "${channel}" (${error.code})`, error.message);
      }
      wake();
    },
  };

  signal?.addEventListener("abort", unsubscribe);
  return member;
}
