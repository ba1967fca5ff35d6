/** One connection: what it is, what it is subscribed to, and what becomes of what it should get. */

import { ApiError, get, part } from "../api.js";
import { disconnect, unsubscribe } from "../dialogs.js";
import { factList, failure, h, notUpToDate, state, swap } from "../dom.js";
import { age, bytes, count, dateTime, duration, ms, rate } from "../format.js";
import { openFates } from "../fates.js";
import { address, channelLink } from "../links.js";
import { subjectBar } from "../subject.js";
import { whenChanged } from "../table.js";
import { tail } from "../tail.js";
import { MEANINGS, MOST } from "./closed.js";
import { RATE_MS } from "./channels.js";
import { named } from "./connections.js";

/** More would make this page a heavy subscriber itself. */
const FOLLOWED = 20;

/** @typedef {{ sent: number, dropped: number } | null} Rates per second, once it was read twice */

/** @param {any} shown @param {boolean} bad */
const told = (shown, bad) => h("span", { class: bad ? "bad" : "" }, shown);

/** @param {number} all @param {number | undefined} perSecond */
const counted = (all, perSecond) => `${count(all)}${perSecond === undefined ? "" : `, ${rate(perSecond)}/s`}`;

/** @param {string[]} all */
const patterns = (all) =>
  h("span", {}, ...all.flatMap((pattern, place) => [
    place ? ", " : null, h("a", { href: address("/connections", { pattern }), class: "name" }, pattern)]));

/** What a subscription asked for, beside all that comes. @param {any} row */
function asked({ filter = null, every_ms: every = null, rows, fill, pattern = null }) {
  const said = [
    pattern !== null && `by the pattern ${pattern || "that has ended"}`,
    rows && "rows first",
    filter !== null && `only ${filter}`,
    every !== null && `the newest each ${ms(every)}`,
    fill && "filled from history",
  ].filter(Boolean);
  return said.length ? said.join("; ") : null;
}

/** @param {any} row @param {Rates} rates @returns {[string, any][]} */
const facts = (row, rates) => [
  ["Subject", named(row)],
  ["Transport", row.transport],
  ["Node", row.node],
  ["Address", row.address],
  ["Connected", h("span", { title: dateTime(row.opened_ms) }, `${age(row.opened_ms)} ago`)],
  ["Round trip", ms(row.round_trip_ms)],
  ["Sent", counted(row.sent, rates?.sent)],
  ["Dropped", told(counted(row.dropped, rates?.dropped), row.dropped > 0)],
  ["Outbox", told(`${bytes(row.outbox_bytes)} in ${count(row.outbox_messages)} messages`, row.outbox_messages > 0)],
  ["Oldest owed", row.outbox_messages ? told(duration(row.outbox_age_seconds), true) : null],
  ...(row.patterns?.length ? [/** @type {[string, any]} */ (["Patterns", patterns(row.patterns)])] : []),
  ["User agent", row.user_agent],
];

/** @param {string} connection @param {string | null} subject @param {any[]} rows @param {() => unknown} changed */
function subscriptions(connection, subject, rows, changed) {
  if (!rows.length) return state("No subscriptions", "It is connected and listens to nothing.");
  const heads = ["Channel", "Asked for", "Position", "State", "Outbox", "Dropped"];
  const lines = rows.map((row) => {
    const { channel, position, state: now, outbox_messages: owed, dropped } = row;
    const cells = [channelLink(channel), asked(row) ?? "all", h("code", {}, position),
      told(now, now === "congested"), told(count(owed), owed > 0), told(count(dropped), dropped > 0)];
    return h("tr", { role: "row" },
      ...cells.map((cell, index) => h("td", { role: "cell", "data-label": heads[index] }, h("span", {}, cell))),
      h("td", { role: "cell", class: "action" }, h("button", {
        type: "button", class: "quiet", "aria-label": `Unsubscribe from ${channel}`, "data-place": channel,
        onclick: async () => (await unsubscribe(connection, channel, subject)) && changed(),
      }, "Unsubscribe")));
  });
  const grid = h("table", { role: "table", "aria-label": "Subscriptions" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
      ...heads.map((head) => h("th", { role: "columnheader", scope: "col" }, head)),
      h("th", { role: "columnheader", scope: "col" }, h("span", { class: "unseen" }, "Action")))),
    h("tbody", { role: "rowgroup" }, ...lines));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Subscriptions" }, grid);
}

/** Its record among those that ended last. @param {string} connection @param {string | null} subject if known */
async function ending(connection, subject) {
  const { closed } = await get("api/closed", { subject, limit: MOST }).catch(() => ({ closed: [] }));
  return closed.find((/** @type {any} */ each) => each.connection === connection);
}

/** @param {any} row */
const how = (row) => (row
  ? `${row.code} ${MEANINGS[row.code] ?? ""} at ${dateTime(row.closed_ms)}: ${row.reason || "no reason given"}`
  : "It is not among those that ended last.");

/**
 * @param {import("../live.js").Live} live
 * @param {string} connection
 */
export function connectionView(live, connection) {
  const top = h("div", {}, state("Loading", ""));
  const late = h("p", { class: "problem", role: "status" });
  const owned = h("section", {});
  const leave = h("button", {
    type: "button", class: "danger", onclick: async () => (await disconnect(connection, subject)) && load(),
  }, "Disconnect");
  const whose = subjectBar(() => load());
  const fates = openFates(connection);
  const stream = tail(live, {
    title: "Live tail",
    hint: "Publications of its channels as this page's own subscription gets them, newest first. "
      + "The mark says what became of each for this connection, by the hub's journal.",
    prepare: fates.show,
  });
  let shown = "";
  /** @type {{ row: any, at: number } | null} as it was read before */
  let before = null;
  /** @type {string | null} whose it is, once that is known */
  let subject = null;

  /** @param {any} row */
  const draw = (row) => {
    late.textContent = "";
    ({ subject } = row);
    whose.show(subject);
    const at = performance.now();
    const seconds = before ? (at - before.at) / 1000 : 0;
    /** @param {"sent" | "dropped"} name */
    const perSecond = (name) => Math.max(0, row[name] - before?.row[name]) / seconds;
    const rates = seconds > 0.5 ? { sent: perSecond("sent"), dropped: perSecond("dropped") } : null;
    before = { row, at };
    top.replaceChildren(factList(facts(row, rates)));
    const now = JSON.stringify(row.subscriptions);
    if (now !== shown) {
      shown = now;
      swap(owned, [h("h2", {}, `Subscriptions (${count(row.subscriptions.length)})`),
        subscriptions(connection, subject, row.subscriptions, load)]);
    }
    const names = row.subscriptions.map((/** @type {any} */ each) => each.channel);
    stream.follow(names.slice(0, FOLLOWED));
  };

  const ended = async () => {
    stop();
    stream.follow([]);
    fates.close();
    leave.hidden = true;
    late.textContent = "";
    owned.replaceChildren();
    const why = h("p", { role: "status" }, "");
    const list = h("a", { href: address("/closed", { subject }) }, "Recently closed connections");
    top.replaceChildren(state("It is not open", "The connection has ended, or never was.", [why, list]));
    const row = await ending(connection, subject);
    why.append(h("span", {}, how(row)));
    whose.show(row?.subject ?? subject);
  };

  const load = async () => {
    try {
      draw(await get(`api/connections/${part(connection)}`));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) ended();
      else if (shown) late.textContent = notUpToDate(error);
      else top.replaceChildren(failure("The connection's record did not come", error, load));
    }
  };
  const stop = whenChanged(live, load);
  load();
  // A rate is known once it was read twice.
  const again = setTimeout(() => before && load(), RATE_MS);
  return {
    element: h("div", { class: "view" },
      h("div", { class: "buttons" },
        h("a", { href: address("/explain", { connection }), class: "button" }, "Why did it not get…?"), leave),
      whose.element, late, top, owned, stream.element),
    close() {
      clearTimeout(again);
      stop();
      fates.close();
      stream.close();
    },
  };
}
