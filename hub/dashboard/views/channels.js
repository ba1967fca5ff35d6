/** Channels: who listens, how much comes, how much is kept. */

import { get } from "../api.js";
import { publish } from "../dialogs.js";
import { field, h } from "../dom.js";
import { bytes, count, offsetOf, rate } from "../format.js";
import { channelLink, remember } from "../links.js";
import { patternsList } from "../patterns.js";
import { table, whenChanged } from "../table.js";
import { silent } from "./connections.js";

/** Without dashboards, which stand beside them. @param {any} row */
export function subscribers({ subscribers: all, watchers = 0 }) {
  const looking = watchers > 0 && h("span", { class: "tag" }, `+${count(watchers)} dashboard${watchers > 1 ? "s" : ""}`);
  return h("span", {}, looking, " ", count(all - watchers));
}

/** Of a keyed channel; how many there are may be known to the broker alone. @param {any} row */
export function rows({ keyed, rows: all, row_bytes: size }) {
  if (!keyed) return null;
  return all === null ? "keyed" : `${count(all)}, ${bytes(size ?? 0)}`;
}

/** A rate is known once the hub was asked twice. */
export const RATE_MS = 1500;

/** @type {import("../table.js").Column[]} */
const COLUMNS = [
  { name: "channel", label: "Channel", cell: ({ channel }) => channelLink(channel) },
  { name: "subscribers", label: "Subscribers", number: true, cell: subscribers },
  {
    name: "publications_per_second", label: "Per second", number: true,
    cell: (row) => (row.publications_per_second === null ? null : rate(row.publications_per_second)),
  },
  { name: "offset", label: "Last offset", number: true, cell: (row) => count(offsetOf(row.position)) },
  {
    name: "history", label: "Held", number: true,
    cell: (row) => (row.history === null ? null : count(row.history)),
  },
  { name: "rows", label: "Rows", number: true, cell: rows },
  { name: "presence", label: "Presence", fixed: true, cell: (row) => (row.presence ? "yes" : "no") },
];

/**
 * @param {import("../live.js").Live} live
 * @param {URLSearchParams} query
 */
export function channelsView(live, query) {
  let prefix = query.get("prefix") ?? "";
  let sort = query.get("sort") ?? "-subscribers";
  /** @type {any} */
  let again = 0;
  const keep = () => remember("/channels", { prefix, sort });
  const input = h("input", { type: "search", value: prefix, placeholder: "chat:", autocomplete: "off" });
  const list = table({
    caption: "Channels",
    columns: COLUMNS,
    id: (row) => row.channel,
    sort,
    onSort: (by) => {
      sort = by;
      keep();
    },
    empty: ["No channels", prefix ? "None begins so." : "Nobody has subscribed or published yet."],
    async load({ sort: by, after, limit }) {
      const page = await get("api/channels", { prefix, sort: by, after, limit });
      const unknown = page.channels.some((/** @type {any} */ row) => row.publications_per_second === null);
      if (unknown && !again) again = setTimeout(() => list.reload(), RATE_MS);
      return { rows: page.channels, total: page.total, next: page.next, note: silent(page) };
    },
  });
  const form = h("form", { class: "filters", role: "search" },
    field("Begins with", input),
    h("button", { type: "submit" }, "Filter"),
    h("button", { type: "button", onclick: () => publish() }, "Publish a test message"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    prefix = input.value.trim();
    keep();
    list.restart();
  });
  const stop = whenChanged(live, list.reload);
  const patterns = patternsList(live);
  return {
    element: h("div", { class: "view" }, form, list.element, patterns.element),
    close() {
      clearTimeout(again);
      patterns.close();
      stop();
    },
  };
}
