/** One channel: its state, who is present, and its publications from history on. */

import { get, part } from "../api.js";
import { clearHistory, publish } from "../dialogs.js";
import { factList, failure, h, notUpToDate, state } from "../dom.js";
import { count, dateTime, offsetOf, rate } from "../format.js";
import { address, connectionLink } from "../links.js";
import { rowsList } from "../rows.js";
import { whenChanged } from "../table.js";
import { tail, text } from "../tail.js";
import { RATE_MS, rows, subscribers } from "./channels.js";

const LAST = 50;
const MEMBERS = 100;

/** @param {any} row @param {ReturnType<typeof rowsList> | null} table @returns {[string, any][]} */
const facts = (row, table) => [
  ["Subscribers", h("a", { href: address("/connections", { channel: row.channel }) }, subscribers(row))],
  ["Publications per second", row.publications_per_second === null ? null : rate(row.publications_per_second)],
  ["Position", h("code", {}, row.position)],
  ["Held in history", count(row.held)],
  ...(row.keyed ? [/** @type {[string, any]} */ (["Rows", row.rows === null ? table?.said() : rows(row)])] : []),
  ...(row.ended ? [/** @type {[string, any]} */ (["Ended", `with ${row.ended.offset}, ${dateTime(row.ended.time)}`])] : []),
];

const unknown = () =>
  state("Not known yet", "Nothing was published here and nobody subscribes to it.");

/**
 * Its row in the list of all nodes, where the shortest name that begins so comes first.
 * @param {string} channel
 */
async function stateOf(channel) {
  const path = `api/channels/${part(channel)}/history`;
  const [{ channels: [row] }, { position, oldest, publications: [newest] }] = await Promise.all([
    get("api/channels", { prefix: channel, limit: 1 }),
    get(path, { limit: 1, reverse: true }),
  ]);
  if (row?.channel !== channel) return null;
  const ended = newest?.end && newest.offset === offsetOf(position) ? newest : null;
  return { ...row, position, ended, held: offsetOf(position) + 1 - oldest };
}

/** @param {any[]} members */
function present(members) {
  const shown = members.slice(0, MEMBERS).map(({ id, connection, sub, data }) =>
    h("li", {}, sub ?? id, " ", connectionLink(connection), data !== undefined && h("code", {}, text(data))));
  const more = members.length > MEMBERS && h("li", {}, `and ${count(members.length - MEMBERS)} more`);
  return [h("h2", {}, `Present (${count(members.length)})`),
    members.length ? h("ul", { class: "members" }, ...shown, more) : h("p", { class: "hint" }, "Nobody is here.")];
}

/**
 * @param {import("../live.js").Live} live
 * @param {string} channel
 */
export function channelView(live, channel) {
  const top = h("div", {}, state("Loading", ""));
  const late = h("p", { class: "problem", role: "status" });
  let drawn = false;
  /** @type {any} */
  let again = 0;
  const people = h("section", {});
  const kept = h("div", {});
  /** @type {ReturnType<typeof rowsList> | null} */
  let table = null;
  /** @type {any} */
  let newest = null;
  const publications = tail(live, {
    title: "Publications",
    hint: `The newest ${LAST} that history holds, and then each as this page gets it, newest first.`,
    last: LAST,
  });
  publications.follow([channel]);

  const load = async () => {
    try {
      const row = await stateOf(channel);
      late.textContent = "";
      drawn = row !== null;
      if (!row) return top.replaceChildren(unknown());
      newest = row;
      if (row.keyed && !table) kept.replaceChildren((table = rowsList(channel, () => newest?.rows ?? null, load)).element);
      await table?.reload();
      top.replaceChildren(factList(facts(row, table)));
      if (row.publications_per_second === null && !again) again = setTimeout(load, RATE_MS);
      if (!row.presence) return;
      const { members } = await get(`api/channels/${part(channel)}/presence`);
      people.replaceChildren(...present(members));
    } catch (error) {
      if (drawn) late.textContent = notUpToDate(error);
      else top.replaceChildren(failure("The channel's state did not come", error, load));
    }
  };
  load();
  const stop = whenChanged(live, load);
  return {
    element: h("div", { class: "view" }, late, top,
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => publish(channel) }, "Publish a test message"),
        h("button", {
          type: "button", class: "danger", onclick: async () => (await clearHistory(channel)) && load(),
        }, "Delete history")),
      people, publications.element, kept),
    close() {
      clearTimeout(again);
      stop();
      publications.close();
    },
  };
}
