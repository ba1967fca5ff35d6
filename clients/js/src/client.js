/** The channels that the application wants, and those that the present connection carries. */

import { openChannel } from "./channel.js";
import { commands } from "./commands.js";
import { connection as openConnection } from "./connection.js";
import { call, complain, HubError } from "./errors.js";
import { CURES, NO_PAGE, OTHERWISE, WRITE } from "./limits.js";
import { check, PATTERN_OPTIONS, SUBSCRIBE_OPTIONS, termsOf } from "./options.js";
import { openPattern } from "./pattern.js";
import { openSubscription } from "./subscription.js";

/** @typedef {import("./commands.js").Json} Json */
/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./connection.js").Link} Link */
/** @typedef {ReturnType<typeof openPattern>} Pattern */
/** @typedef {Channel | Pattern} Wanted */
/** @typedef {import("./options.js").State} State */
/** @typedef {import("./subscription.js").Member} Member */

/**
 * Milliseconds until a subscription that was refused for now is asked for again. On top of what the hub says,
 * because many clients are told the same second.
 * @param {number} toldSeconds
 */
const askAgainMs = (toldSeconds) => 1000 * (toldSeconds + 1 + 2 * Math.random());

/**
 * @param {URL} base
 * @param {import("./options.js").Options} options
 * @param {(state: State) => void} show
 */
export function openClient(base, options, show) {
  const pending = commands(() => link?.send);
  /** @type {Map<string, Channel>} */
  const channels = new Map();
  /** @type {Map<string, Pattern>} */
  const patterns = new Map();
  const listeners = new Set([show]);
  /** @type {Link | null} */
  let link = null;
  /** @type {Set<Link>} that were it before, and may still bring something */
  const before = new Set();
  /** @type {HubError | undefined} why nothing goes any more */
  let closed;
  /** @type {Set<Wanted>} not asked for yet: something else may want the channel in the same task */
  const bare = new Set();

  /** Throws where a path was given and there is no page: a server that renders one only makes a `Hub`. */
  const reachable = () => {
    if (base.origin === NO_PAGE) throw new TypeError(`no hub at "${base.pathname}": ${WRITE}`);
  };

  /**
   * Resolves with the reply's `ok`; rejects with a `HubError`, or with the error of data that JSON cannot hold.
   * @param {Json} command
   * @returns {Promise<any>}
   */
  const request = (command) =>
    new Promise((resolve, reject) => {
      if (closed) throw closed;
      reachable();
      askBare();
      pending.request(command, (error, ok) => (error ? reject(error) : resolve(ok)));
      wake();
    });

  /** Connect after the present task, so that its subscriptions travel together. */
  const wake = () => queueMicrotask(connection.start);

  /**
   * Subscribe by command. A refusal for now is asked again, at once on a new connection; a refusal
   * for good ends the subscriptions.
   * @param {Wanted} wanted
   */
  const ask = (wanted) => {
    const mine = /** @type {Link} */ (link);
    wanted.asked = true;
    const current = () => homeOf(wanted).get(wanted.name) === wanted;
    const again = () => mine === link && current() && ask(wanted);
    pending.request({ op: "subscribe", ...wanted.request() }, (error, ok) => {
      if (!current()) return;
      if (ok) mine.duplex && begin(wanted, ok, mine);
      else if (error?.retryable) {
        // The stream may have told already: of a reply that was lost.
        if (!mine.epochs.get(wanted.key)) setTimeout(again, askAgainMs(error.retryAfterSeconds));
      }
      // A browser sent the command twice: the stream will tell where the first one started.
      else if (error?.code !== "conflict") end(wanted, error);
    });
  };

  /** Subscriptions that want presence alone are asked for behind the present task, or before a command. */
  const askBare = () => {
    bare.forEach((wanted) => link && !wanted.asked && homeOf(wanted).get(wanted.name) === wanted && ask(wanted));
    bare.clear();
  };

  /**
   * A further subscription says something of the member.
   * @param {Wanted} wanted
   * @param {import("./subscription.js").Listening} on
   */
  const says = (wanted, { presence, onError }) => {
    wanted.presence = presence;
    if (!link || !wanted.asked) return; // it is said when the channel is asked for
    const told = request({ op: "presence_update", channel: wanted.name, ...presence });
    told.catch((error) => error.code === "disconnected" || call(onError, error));
  };

  /** @param {Wanted} wanted */
  const homeOf = ({ kind }) => /** @type {Map<string, Wanted>} */ (kind === "pattern" ? patterns : channels);

  /** All that is wanted, patterns first: a pattern that resumes a channel is then not passed by its name. */
  const all = () => [...patterns.values(), ...channels.values()];

  /**
   * The places in a channel: one by name, and those of patterns.
   * @param {string} name
   */
  const placesIn = (name) => {
    const found = [channels.get(name)];
    patterns.forEach((pattern) => found.push(pattern.of(name)));
    return /** @type {Channel[]} */ (found.filter(Boolean));
  };

  /**
   * @param {Channel} place
   * @param {Json} push
   * @param {Link} from
   * @param {boolean} [shared]
   */
  const hear = (place, push, from, shared) => {
    // While two connections bring a channel, one is for pushes without an offset to compare.
    const first = from === link || !link?.epochs.get(place.key);
    place.push(push, from.epochs, first, from === link && brings(place), shared);
    // A table begins anew: messages of the connection before may be in it already.
    if (push.op === "state" && from === link) before.forEach(({ epochs }) => epochs.delete(place.key));
  };

  /**
   * The hub has answered a subscribe at its place in the stream.
   * @param {Wanted} wanted
   * @param {Json} told
   * @param {Link} from
   */
  const begin = (wanted, told, from) => {
    if (!("matches" in wanted)) return starts({ op: "subscribed", ...told }, from, wanted);
    from.epochs.set(wanted.key, "*");
    wanted.begin();
    /** @type {(channel: string, position: string) => void} */
    const startsIn = (channel, position) =>
      starts({ op: "began", channel, position, replayed: 0 }, from, wanted.place(channel));
    for (const [channel, position] of Object.entries(told.positions)) startsIn(channel, position);
    // A channel without any publication is brought by name alone.
    for (const { name, key, position } of channels.values()) {
      const at = wanted.matches(name) && !wanted.of(name) && from.epochs.get(key) && position();
      if (at) startsIn(name, at);
    }
    wanted.members.forEach((member) => member.push("subscribed", told));
  };

  /**
   * A channel starts on a connection: for the one that asked, or any; and for each other one
   * that lacks nothing of what follows.
   * @param {Json} told
   * @param {Link} from
   * @param {Channel} [asked]
   */
  const starts = (told, from, asked) => {
    const { channel, position } = told;
    patterns.forEach((pattern) => pattern.matches(channel) && pattern.place(channel));
    const places = placesIn(channel);
    const shared = places.some((place) => place !== asked && from.epochs.get(place.key));
    for (const place of places) {
      const named = place === channels.get(channel);
      const mine = place === asked || (named ? !asked : !place.position());
      if (mine || place.follows(position)) hear(place, mine ? told : { ...told, op: "began" }, from, shared);
    }
  };

  /**
   * Whether a connection that was taken over from still brings the channel.
   * @param {Channel} place
   */
  const brings = ({ key }) => [...before].some(({ epochs }) => epochs.get(key));

  /**
   * @param {Wanted} wanted
   * @param {HubError | 1} [error] 1 where the channel has had its last publication
   */
  const end = (wanted, error) => {
    homeOf(wanted).delete(wanted.name);
    wanted.all().forEach((place) => place.release(true));
    wanted.members.forEach((member) => member.end(error));
  };

  /**
   * The connection is over until `connect`: subscriptions by callback go on then.
   * @param {Wanted} wanted
   * @param {HubError} [error]
   */
  const pause = (wanted, error) => {
    for (const member of [...wanted.members]) member.pause(error) || wanted.leave(member);
    if (!wanted.members.size) homeOf(wanted).delete(wanted.name);
  };

  /**
   * @param {Wanted} wanted
   * @param {Member} member
   */
  const leave = (wanted, member) => {
    wanted.leave(member);
    if (wanted.members.size) return;
    homeOf(wanted).delete(wanted.name);
    forget(wanted);
  };

  /**
   * Its pushes are not heard from now on.
   * @param {Wanted} wanted
   */
  const forget = (wanted) => {
    const { name, kind, asked } = wanted;
    const keys = [wanted, ...wanted.all()].map(({ key }) => key);
    for (const each of link ? [link, ...before] : []) keys.forEach((key) => each.epochs.delete(key));
    if (link && asked) request({ op: "unsubscribe", [kind]: name }).catch(() => {}); // the answer changes nothing
  };

  const connection = openConnection(base, options, {
    up(next) {
      if (link) before.add(link);
      link = next;
      all().forEach(ask);
      pending.flush(); // after the subscribes: a publisher may wait for its own message
    },

    down() {
      link = null;
      pending.fail();
    },

    over(gone) {
      if (!before.delete(gone)) return;
      all().forEach((wanted) => wanted.all().forEach((place) => brings(place) || place.release(true)));
    },

    push(push, from) {
      const { op, channel, pattern } = push;
      if (op === "reply") pending.reply(push);
      else if (op === "unsubscribed") {
        // An operator's doing, which must not be undone by asking again; or the channel has ended.
        const known = pattern ? patterns.get(pattern) : channels.get(channel);
        const error = push.reason === "ended" ? 1 : new HubError(op, false, push.reason);
        if (known) end(known, error);
        // A pattern goes on.
        for (const { key } of placesIn(channel))
          if (from.epochs.delete(key) && error !== 1) complain(`no messages of "${channel}" (${op})`, push.reason);
      } else if (op !== "subscribed") placesIn(channel).forEach((place) => hear(place, push, from));
      else if (!pattern) starts(push, from);
      else if (patterns.has(pattern)) begin(/** @type {Wanted} */ (patterns.get(pattern)), push, from);
    },

    state(state) {
      if (state.state === "closed") {
        const error = (closed = new HubError("closed", false, state.reason));
        link = null;
        all().forEach((wanted) => pause(wanted, state.code ? error : undefined));
        const cure = state.code === 4401 ? `; ${CURES[typeof options.token]}` : "";
        if (state.code) complain(`${base} refuses this client (${state.code})`, `${state.reason || "refused"}${cure}`);
        pending.refuse(error);
      }
      listeners.forEach((listener) => call(listener, state));
    },
  });

  return {
    close: connection.close,
    request,

    /** Connect again after a close, for whatever reason. */
    connect() {
      closed = undefined;
      connection.restart();
    },

    /**
     * @param {string} channel
     * @param {unknown} data
     */
    async update(channel, data) {
      await request({ op: "presence_update", channel, data });
      const known = channels.get(channel);
      if (known) known.presence = { data };
    },

    /** @param {(state: State) => void} listener */
    on(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },

    /**
     * @param {string} name of a channel, or a pattern
     * @param {import("./subscription.js").Listening} on
     * @param {boolean} [isPattern]
     */
    subscribe(name, on, isPattern) {
      check(on, isPattern ? PATTERN_OPTIONS : SUBSCRIBE_OPTIONS);
      if (!on.state !== !on.onState) throw new TypeError("state and onState go together");
      // Where a filter leaves the last one out, nothing tells where the replay ends; rows are no text.
      if (on.joined && (on.filter || on.state)) throw new TypeError("joined goes without filter and state");
      reachable();
      const home = /** @type {Map<string, Wanted>} */ (isPattern ? patterns : channels);
      /** @param {Member} member */
      const leaves = (member) => leave(/** @type {Wanted} */ (home.get(name)), member);
      const conflict = () => {
        const { everyMs = 0, ...first } = home.get(name)?.first ?? on;
        // One that gets more than it asks for misses nothing.
        const isMissing = termsOf({ ...on, everyMs: 0 }) !== termsOf({ ...first, everyMs: 0 }) || everyMs > (on.everyMs ?? 0);
        return isMissing ? new HubError("conflict", false, `"${name}" comes ${OTHERWISE}`) : undefined;
      };
      const member = openSubscription({ leave: leaves, request, conflict }, name, on);
      const isBare = member.isBare();
      if (on.signal?.aborted) member.end();
      else if (!closed || member.pause(closed)) {
        const known = home.get(name);
        const stays = isBare || !known || termsOf(known.first) === termsOf(on) || [...known.members].some((each) => !each.isBare());
        const error = stays && !isBare ? conflict() : undefined;
        if (error) member.end(error);
        else if (known && stays) {
          known.join(member, !!link?.epochs.get(known.key));
          if (on.presence) says(known, on);
        } else {
          const wanted = (isPattern ? openPattern : openChannel)(name, { ...on, every_ms: on.everyMs });
          if (known) {
            known.members.forEach((each) => wanted.members.add(each));
            wanted.presence ??= known.presence;
            forget(known);
          }
          home.set(name, wanted);
          wanted.members.add(member);
          if (isBare) bare.add(wanted);
          else if (link) ask(wanted);
        }
        wake();
        if (isBare) queueMicrotask(askBare);
      }
      return member.subscription;
    },
  };
}
