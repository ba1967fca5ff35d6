/**
 * One subscription by a pattern as this client sees it: a place in each channel that matches.
 *
 * Positions belong to channels, so each place is a channel's, with its gaps, resets and moves from
 * one connection to the next. All of them have the pattern's members. A resume names every place;
 * a channel that it does not name the hub reads from the beginning.
 */

import { openChannel } from "./channel.js";

/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./subscription.js").Member} Member */

/**
 * @param {string} pattern `*` is one segment between `:` or `.`, `**` at the end all the rest
 * @param {{ since?: Record<string, string>, last?: number, fill?: boolean, filter?: object,
 *   state?: boolean, everyMs?: number }} first
 */
export function openPattern(pattern, first) {
  const { since, last, fill, filter } = first;
  /** @type {Set<Member>} */
  const members = new Set();
  /** @type {Map<string, Channel>} */
  const places = new Map();
  let begun = !!since;
  const key = `/${pattern}`; // no channel has such a name
  const source = pattern.replace(/[^\w*]/g, "\\$&").replace(/\*\*$/, ".+").replace(/\*/g, "[^:.]+");
  // Channels of the hub itself are of patterns that name them.
  const expression = new RegExp(`^${pattern.startsWith("hub:") ? "" : "(?!hub:)"}${source}$`);

  /**
   * The place in a channel that matches.
   * @param {string} channel
   * @param {string} [since]
   */
  const place = (channel, since) => {
    const known = places.get(channel) ?? openChannel(channel, { since }, members, `${key} ${channel}`);
    places.set(channel, known);
    return known;
  };

  for (const [channel, at] of Object.entries(since ?? {})) place(channel, at);

  const positions = () => Object.fromEntries([...places].map(([name, each]) => [name, each.position()]));

  return {
    name: pattern,
    kind: "pattern",
    key,
    members,
    first,
    asked: false,
    /** A pattern makes nobody present. @type {{ data?: any } | undefined} */
    presence: undefined,
    place,
    all: () => [...places.values()],

    /** @param {string} channel */
    of: (channel) => places.get(channel),

    /** @param {string} channel */
    matches: (channel) => begun && expression.test(channel),

    /** The hub has answered: from now on a resume asks for the missing messages. */
    begin: () => void (begun = true),

    /**
     * A further subscription: it begins with the next message.
     * @param {Member} member
     * @param {boolean} carried
     */
    join(member, carried) {
      members.add(member);
      const told = { pattern, channels: [...places.keys()], positions: positions() };
      if (carried) queueMicrotask(() => members.has(member) && member.push("subscribed", told));
    },

    /** @param {Member} member */
    leave: (member) => void members.delete(member),

    /** The command's fields. */
    request() {
      const asked = [...places].map(([name, each]) => [name, each.request().since]);
      return { pattern, ...(begun ? { since: Object.fromEntries(asked) } : { last }), fill, filter };
    },
  };
}
