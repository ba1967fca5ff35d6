/** Connections that have ended, as long as the nodes remember: who, when, and why. */

import { get } from "../api.js";
import { field, h } from "../dom.js";
import { count, duration, time } from "../format.js";
import { address, connectionLink, remember } from "../links.js";
import { subjectLink } from "../subject.js";
import { agent, pageOf, table, whenChanged } from "../table.js";
import { silent } from "./connections.js";

/** As many as the API gives. */
export const MOST = 1000;

/** What the hub's own close codes and the usual ones of RFC 6455 mean to an operator. */
export const MEANINGS = /** @type {Record<number, string>} */ ({
  1000: "normal", 1001: "going away", 1006: "broken", 1012: "restart", 4400: "bad request",
  4401: "unauthorized", 4403: "forbidden", 4413: "too large", 4429: "rate limited",
  4500: "internal", 4504: "heartbeat time-out", 4508: "slow",
});

/** @type {import("../table.js").Column[]} */
const COLUMNS = [
  { name: "closed_ms", label: "Closed", number: true, cell: (row) => time(row.closed_ms) },
  { name: "code", label: "Code", number: true, cell: (row) => code(row.code) },
  { name: "reason", label: "Reason", cell: (row) => row.reason || null },
  { name: "connection", label: "Connection", short: true, cell: (row) => connectionLink(row.connection) },
  { name: "subject", label: "Subject", cell: (row) => subjectLink(row.subject) },
  { name: "transport", label: "Transport", short: true, cell: (row) => row.transport },
  { name: "node", label: "Node", short: true, cell: (row) => row.node },
  { name: "address", label: "Address", short: true, cell: (row) => row.address },
  { name: "sent", label: "Sent", number: true, cell: (row) => count(row.sent) },
  { name: "dropped", label: "Dropped", number: true, cell: (row) => count(row.dropped) },
  { name: "lived_ms", label: "Lived", number: true, cell: (row) => duration(row.lived_ms / 1000) },
  { name: "user_agent", label: "User agent", cell: (row) => agent(row.user_agent) },
  {
    name: "why", label: "Explain", fixed: true,
    cell: ({ connection }) => h("a", { href: address("/explain", { connection }) }, "Why not?"),
  },
];

/** @param {number} number */
function code(number) {
  const tone = number >= 4500 || number === 1006 ? "bad" : number >= 4400 ? "warn" : "";
  return h("span", { class: tone }, `${number} ${MEANINGS[number] ?? ""}`);
}

/**
 * @param {import("../live.js").Live} live
 * @param {URLSearchParams} query
 */
export function closedView(live, query) {
  let subject = query.get("subject") ?? "";
  const input = h("input", { name: "subject", type: "search", value: subject, autocomplete: "off" });
  const list = table({
    caption: "Recently closed connections",
    columns: COLUMNS,
    id: (row) => row.connection,
    sort: "-closed_ms",
    empty: ["None lately", "No such connection has ended since the nodes began to note it."],
    async load(asked) {
      const { closed, unanswered, complete } = await get("api/closed", { subject, limit: MOST });
      for (const row of closed) row.lived_ms = row.closed_ms - row.opened_ms;
      return { ...pageOf(closed, asked), note: silent({ complete, unanswered }) };
    },
  });
  const form = h("form", { class: "filters", role: "search" },
    field("Subject", input), h("button", { type: "submit" }, "Filter"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    subject = input.value.trim();
    remember("/closed", { subject });
    list.restart();
  });
  return {
    element: h("div", { class: "view" }, form,
      h("p", { class: "hint" }, `The newest ${count(MOST)} that the nodes remember; they forget after ten minutes.`),
      list.element),
    close: whenChanged(live, list.reload),
  };
}
