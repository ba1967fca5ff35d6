/** Who was refused and why, and whom limits hold back, on all nodes. */

import { get } from "../api.js";
import { unban } from "../dialogs.js";
import { field, h } from "../dom.js";
import { count, dateTime, duration, time } from "../format.js";
import { address as link, connectionLink, remember } from "../links.js";
import { byName } from "../subject.js";
import { cut, pageOf, table, whenChanged } from "../table.js";
import { silent } from "./connections.js";

/** As many as the API gives. */
const MOST = 1000;
/** Who was held back so lately is being held back now. */
const NOW_MS = 10000;

/** What the words of the metrics mean to an operator, where they do not say it themselves. */
const REASONS = /** @type {Record<string, string>} */ ({
  no_credentials: "nothing was sent where something is needed",
  key: "a key that is not set here",
  not_operator: "no operator's credentials",
  proxy_header: "no PROXY protocol header where one has to stand",
  tls_handshake: "a TLS handshake that failed, or none at all",
  slow_request: "a request that was begun and not whole in time",
  slow_reader: "an answer that was not taken in time",
  token_signature: "a signature that no key made",
  token_key: "a key that the identity provider does not have",
  origin: "a page of an origin that is not allowed",
  host: "a host that the hub does not answer for",
  node: "a message between nodes that no operator's key proves",
  application: "the application said no",
  forbidden: "a channel that the grants do not cover",
});
const LIMITS = /** @type {Record<string, string>} */ ({
  handshakes: "HUB_RATE_HANDSHAKES",
  commands: "HUB_RATE_COMMANDS",
  publishes: "HUB_RATE_PUBLISHES",
  inbound_bytes: "HUB_RATE_INBOUND_BYTES",
  address_connections: "HUB_ADDRESS_CONNECTIONS",
  subject_connections: "HUB_SUBJECT_CONNECTIONS",
  max_connections: "HUB_MAX_CONNECTIONS",
});

/** Who is counted in one row. */
const others = () => h("span", { title: "Those that are not told apart any more" }, "others");

/** @param {string} address */
function from(address) {
  if (!address) return others();
  // Connections have no network of theirs to filter by.
  return address.includes("/") ? address : h("a", { href: link("/connections", { address }), class: "name" }, address);
}

/** @param {number} ms */
const when = (ms) => h("span", { title: dateTime(ms) }, time(ms));

/** @type {import("../table.js").Column[]} */
const REFUSALS = [
  { name: "reason", label: "Reason", cell: ({ reason }) => h("span", { title: REASONS[reason] }, reason) },
  { name: "count", label: "Times", number: true, cell: (row) => count(row.count) },
  { name: "address", label: "Address", short: true, cell: (row) => from(row.address) },
  { name: "origin", label: "Origin", cell: (row) => cut(row.origin) },
  { name: "last_ms", label: "Last", number: true, cell: (row) => when(row.last_ms) },
  { name: "first_ms", label: "First", number: true, cell: (row) => when(row.first_ms) },
  { name: "node", label: "Node", short: true, cell: (row) => row.node },
  { name: "detail", label: "Told", cell: (row) => cut(row.detail) },
];

/** @param {any} row */
function who({ by, name }) {
  if (!name) return others();
  if (by === "address") return from(name);
  if (by === "connection") return connectionLink(name);
  if (by === "key") return name;
  return h("a", { href: link("/connections", { [by]: name }), class: "name" }, name);
}

/** @type {import("../table.js").Column[]} */
const LIMITED = [
  { name: "limit", label: "Limit", cell: ({ limit }) => h("span", { title: LIMITS[limit] }, limit) },
  { name: "count", label: "Times", number: true, cell: (row) => count(row.count) },
  { name: "by", label: "Holds", short: true, cell: (row) => row.by || null },
  { name: "name", label: "Name", short: true, cell: who },
  { name: "address", label: "Address", short: true, cell: (row) => row.address && from(row.address) },
  {
    name: "last_ms", label: "Last", number: true,
    cell: ({ last_ms }) => Date.now() - last_ms < NOW_MS ? h("span", { class: "bad" }, "now") : when(last_ms),
  },
  { name: "lasts_ms", label: "For", number: true, cell: (row) => duration(row.lasts_ms / 1000) },
  { name: "node", label: "Node", short: true, cell: (row) => row.node },
];

const KINDS = /** @type {Record<string, string>} */ ({
  ban: "banned", token: "one token", subject: "older tokens",
});

/** @type {import("../table.js").Column[]} */
const BANS = [
  { name: "kind", label: "Kind", short: true, cell: ({ kind }) => KINDS[kind] ?? kind },
  {
    name: "name", label: "Subject or token",
    cell: ({ sub, name }) => sub ? h("a", { href: link("/connections", { subject: sub }), class: "name" }, sub) : cut(name),
  },
  { name: "reason", label: "Reason", cell: (row) => cut(row.reason) },
  { name: "at_ms", label: "Since", number: true, cell: (row) => dateTime(row.at_ms) },
  { name: "until_ms", label: "Ends in", number: true, cell: (row) => duration((row.until_ms - Date.now()) / 1000) },
];

/**
 * @param {import("../live.js").Live} live
 * @param {URLSearchParams} query
 */
export function refusedView(live, query) {
  let asked = query.get("address") ?? "";
  const input = h("input", { name: "address", type: "search", value: asked, autocomplete: "off" });

  /**
   * @param {string} path
   * @param {string} name of the list in the answer
   */
  const load = (path, name) => async (/** @type {any} */ page) => {
    const { [name]: found, ...told } = await get(path, { address: asked, limit: MOST });
    for (const row of found) row.lasts_ms = row.last_ms - row.since_ms;
    return { ...pageOf(found, page), note: silent(told) };
  };
  const refusals = table({
    caption: "Refusals",
    columns: REFUSALS,
    id: (row) => `${row.reason} ${row.address} ${row.node}`,
    sort: "-last_ms",
    empty: ["Nobody was refused", "Since the nodes began, everybody who came might."],
    load: load("api/refusals", "refusals"),
  });
  const limited = table({
    caption: "Limits that hold somebody back",
    columns: LIMITED,
    id: (row) => `${row.limit} ${row.name} ${row.node}`,
    sort: "-last_ms",
    empty: ["Nobody was held back", "No limit was reached, or none is set."],
    load: load("api/limited", "limited"),
  });
  const bans = table({
    caption: "Bans and revocations",
    columns: BANS,
    id: (row) => `${row.kind} ${row.name}`,
    sort: "-until_ms",
    empty: ["Nobody is banned", "And no token is revoked."],
    async load(page) {
      const { bans: found } = await get("api/bans", { limit: MOST });
      for (const row of found) row.name = row.sub ?? row.jti;
      return pageOf(found, page);
    },
    action: ({ kind, sub }) => kind === "ban" && h("button", {
      type: "button", onclick: async () => (await unban(sub)) && bans.reload(),
    }, "Lift"),
  });
  const form = h("form", { class: "filters", role: "search" },
    field("Address", input), h("button", { type: "submit" }, "Filter"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    asked = input.value.trim();
    remember("/refused", { address: asked });
    refusals.restart();
    limited.restart();
  });
  return {
    // Above the lists, which may be long.
    element: h("div", { class: "view" }, form, h("div", { class: "buttons" }, ...byName(bans.reload)),
      h("h2", {}, "By reason"),
      h("p", { class: "hint" }, "Of each reason the hundred addresses that came last; the others are counted in one row."),
      refusals.element,
      h("h2", {}, "Held back by a limit"),
      limited.element,
      h("h2", {}, "Banned and revoked"), bans.element),
    close: whenChanged(live, async () => {
      await Promise.all([refusals.reload(), limited.reload(), bans.reload()]);
    }, true),
  };
}
