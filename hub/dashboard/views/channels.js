/** Channels: who listens, how much comes, how much is kept. */

import { get } from "../api.js";
import { publish } from "../dialogs.js";
import { field, h } from "../dom.js";
import { count, offsetOf, rate } from "../format.js";
import { channelLink, remember } from "../links.js";
import { table, whenChanged } from "../table.js";
import { silent } from "./connections.js";

/** @type {import("../table.js").Column[]} */
const COLUMNS = [
  { name: "channel", label: "Channel", cell: ({ channel }) => channelLink(channel) },
  { name: "subscribers", label: "Subscribers", number: true, cell: (row) => count(row.subscribers) },
  {
    name: "publications_per_second", label: "Per second", number: true,
    cell: (row) => (row.publications_per_second === null ? null : rate(row.publications_per_second)),
  },
  { name: "offset", label: "Last offset", number: true, cell: (row) => count(offsetOf(row.position)) },
  {
    name: "history", label: "Held", number: true,
    cell: (row) => (row.history === null ? null : count(row.history)),
  },
  { name: "presence", label: "Presence", fixed: true, cell: (row) => (row.presence ? "yes" : "no") },
];

/**
 * @param {import("../live.js").Live} live
 * @param {URLSearchParams} query
 */
export function channelsView(live, query) {
  let prefix = query.get("prefix") ?? "";
  let sort = query.get("sort") ?? "-subscribers";
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
  return {
    element: h("div", { class: "view" }, form, list.element),
    close: whenChanged(live, list.reload),
  };
}
