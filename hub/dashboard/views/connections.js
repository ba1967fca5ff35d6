/**
 * Connections over all nodes, filtered and sorted by the hub, one page at a time; those that lack
 * something come first.
 */

import { get } from "../api.js";
import { disconnect } from "../dialogs.js";
import { field, h } from "../dom.js";
import { age, bytes, count, duration, ms } from "../format.js";
import { connectionLink, remember } from "../links.js";
import { byName, subjectBar, subjectLink } from "../subject.js";
import { agent, table, whenChanged } from "../table.js";

const FILTERS = ["subject", "channel", "pattern", "address", "transport", "node"];

/** @param {any} shown @param {boolean} bad */
const told = (shown, bad) => (bad ? h("span", { class: "bad" }, shown) : shown);

/** What a dashboard is called among users. @param {any} row */
export const named = ({ subject, watches }) =>
  (watches ? h("span", {}, subject, " ", h("span", { class: "tag" }, "dashboard")) : subjectLink(subject));

/** A star says that some of them come by patterns. @param {any} row */
const channels = ({ subscriptions, patterns = [] }) =>
  h("span", {}, patterns.length > 0 && h("span", { class: "tag", title: `By patterns: ${patterns.join(", ")}` }, "*"),
    " ", count(subscriptions.length));

/** @type {import("../table.js").Column[]} */
const COLUMNS = [
  { name: "connection", label: "Connection", short: true, cell: (row) => connectionLink(row.connection) },
  { name: "subject", label: "Subject", cell: named },
  { name: "transport", label: "Transport", short: true, cell: (row) => row.transport },
  { name: "node", label: "Node", short: true, cell: (row) => row.node },
  { name: "address", label: "Address", short: true, cell: (row) => row.address },
  { name: "subscriptions", label: "Channels", number: true, cell: channels },
  { name: "round_trip_ms", label: "Round trip", number: true, cell: (row) => ms(row.round_trip_ms) },
  { name: "sent", label: "Sent", number: true, cell: (row) => count(row.sent) },
  { name: "missing", label: "Lacks", number: true, cell: (row) => told(count(row.missing), row.missing > 0) },
  { name: "dropped", label: "Dropped", number: true, cell: (row) => told(count(row.dropped), row.dropped > 0) },
  { name: "outbox_bytes", label: "Outbox", number: true, cell: (row) => told(bytes(row.outbox_bytes), row.outbox_messages > 0) },
  {
    name: "outbox_age_seconds", label: "Oldest", number: true,
    cell: (row) => (row.outbox_messages ? told(duration(row.outbox_age_seconds), true) : null),
  },
  { name: "opened_ms", label: "Age", number: true, backwards: true, cell: (row) => age(row.opened_ms) },
  { name: "user_agent", label: "User agent", cell: (row) => agent(row.user_agent) },
];

/** Whose part of a list is missing. @param {any} page */
export function silent({ complete, unanswered }) {
  if (complete) return "";
  return unanswered.length ? `Without ${unanswered.join(", ")}` : "Other nodes cannot be asked now";
}

/**
 * @param {import("../live.js").Live} live
 * @param {URLSearchParams} query
 */
export function connectionsView(live, query) {
  /** @type {Record<string, string>} */
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  let sort = query.get("sort") ?? "-missing";
  const keep = () => remember("/connections", { ...wanted, sort });

  const inputs = FILTERS.map((name) => {
    if (name !== "transport") return h("input", { name, type: "search", value: wanted[name], autocomplete: "off" });
    const choices = [["", "any"], ["websocket", "WebSocket"], ["sse", "SSE"], ["poll", "polling"]];
    return h("select", { name }, ...choices.map(([value, label]) =>
      h("option", { value, selected: value === wanted[name] }, label)));
  });
  const list = table({
    caption: "Connections",
    columns: COLUMNS,
    id: (row) => row.connection,
    sort,
    onSort: (by) => {
      sort = by;
      keep();
    },
    empty: ["No connections", "Nobody is connected who matches."],
    async load({ sort: by, after, limit }) {
      const page = await get("api/connections", { ...wanted, sort: by, after, limit });
      return { rows: page.connections, total: page.total, next: page.next, note: silent(page) };
    },
    action: ({ connection, subject }) => h("button", {
      type: "button", class: "quiet", "aria-label": `Disconnect ${connection}`,
      onclick: async () => (await disconnect(connection, subject)) && list.reload(),
    }, "Disconnect"),
  });
  const whose = subjectBar(() => list.reload());
  const others = h("div", { class: "buttons" }, ...byName(() => list.reload()));
  const showBar = () => {
    whose.show(wanted.subject);
    others.hidden = Boolean(wanted.subject);
  };
  showBar();
  const labels = ["Subject", "Channel", "Pattern", "Address", "Transport", "Node"];
  const form = h("form", { class: "filters", role: "search" },
    ...inputs.map((input, index) => field(labels[index], input)),
    h("button", { type: "submit" }, "Filter"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    inputs.forEach(({ name, value }) => (wanted[name] = value.trim()));
    keep();
    showBar();
    list.restart();
  });
  return {
    element: h("div", { class: "view" }, form, others, whose.element, list.element),
    close: whenChanged(live, list.reload),
  };
}
