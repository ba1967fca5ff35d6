/** The hub as a whole: charts of the last two minutes, every node, and those that have gone. */

import { chart } from "../chart.js";
import { drain, publish, rebalance, undrain } from "../dialogs.js";
import { h, swap } from "../dom.js";
import { age, bytes, count, duration, ms, rate, time } from "../format.js";
import { address } from "../links.js";

/** @typedef {import("../live.js").Known} Known */

/** Figures that somebody should look at; `hub_event_loop_stalls_total` counts the same lag. */
const SLOW_MS = 1000;
const LAG_MS = 100;

/** @param {number} value */
const any = (value) => value > 0;

/** @param {any} shown @param {boolean} bad */
const told = (shown, bad) => (bad ? h("span", { class: "bad" }, shown) : shown);

/** @param {string} name @returns {(sample: any) => number} */
const of = (name) => (sample) => sample[name];

const makeCharts = () => [
  chart("Connections", [
    { name: "all", of: of("connections") },
    { name: "WebSocket", of: of("websocket") },
    { name: "SSE", of: of("sse") },
    { name: "polling", of: of("poll") },
  ], count),
  chart("Publications per second", [{ name: "published", of: of("publications") }], rate),
  chart("Deliveries per second", [{ name: "delivered", of: of("deliveries") }], rate),
  chart("Loss per second", [
    { name: "dropped", of: of("dropped"), bad: any },
    { name: "gap notices", of: of("gaps"), bad: any },
  ], rate),
  chart("Delivery latency, worst node", [
    { name: "p99", of: of("p99"), bad: (value) => value > SLOW_MS },
    { name: "p50", of: of("p50"), bad: (value) => value > SLOW_MS },
  ], ms),
  chart("Event loop lag, worst node", [{ name: "lag", of: of("lag"), bad: (value) => value > LAG_MS }], ms),
];

/** @param {Known} known @param {boolean} silent @returns {[string, string, string]} */
function condition({ record }, silent) {
  const impaired = record.impaired?.join("; ");
  // Figures come seldom where what carries them is impaired.
  if (silent && !impaired) return ["warn", "silent", `figures are from ${time(record.at_ms)}, ${age(record.at_ms)} ago`];
  const { leaving, left_connections: left, leaving_connections: all } = record;
  if (leaving) return ["warn", leaving, `${count(left)} of ${count(all)} closed`];
  if (record.draining) return ["warn", "drained", "takes no connections"];
  if (record.problems.length) return ["bad", "not ready", record.problems.join("; ")];
  if (impaired) return ["bad", "impaired", impaired];
  return ["good", "ready", ""];
}

/** @param {Known} known */
function broker({ record }) {
  if (!record.broker_servers) return "in this process";
  // What is wrong stands above already.
  if (record.broker_away_since_ms) return told(`away since ${time(record.broker_away_since_ms)}`, true);
  const problems = [...record.problems, ...record.impaired ?? []];
  const troubles = problems.filter((/** @type {string} */ each) => each !== "draining");
  if (troubles.length) return h("span", { class: "bad" }, troubles.join("; "));
  const servers = record.broker_servers > 1 ? `${record.broker_servers} servers, ` : "";
  return `${servers}${ms(record.broker_round_trip_ms)}`;
}

/** @param {Known} known @param {boolean} silent */
function card(known, silent) {
  const { record, rates } = known;
  const [tone, word, more] = condition(known, silent);
  const { websocket = 0, sse = 0, poll = 0 } = record.transports;
  const progress = record.leaving && h("progress", {
    max: record.leaving_connections || 1, value: record.left_connections,
    "aria-label": `${record.leaving} of ${record.node}`,
  });
  /** @type {[string, any][]} */
  const facts = [
    ["Connections", h("a", { href: address("/connections", { node: record.node }), "data-place": `${record.node} list` }, count(record.connections))],
    ["WebSocket, SSE, polling", `${count(websocket)}, ${count(sse)}, ${count(poll)}`],
    ["Published, delivered /s", `${rate(rates.publications)}, ${rate(rates.deliveries)}`],
    ["Dropped, gaps /s", told(`${rate(rates.dropped)}, ${rate(rates.gaps)}`, rates.dropped + rates.gaps > 0)],
    ["Dropped, gaps in all", `${count(record.dropped)}, ${count(record.gaps)}`],
    ["Latency p50, p99", told(`${ms(record.latency_p50_ms)}, ${ms(record.latency_p99_ms)}`, record.latency_p99_ms > SLOW_MS)],
    ["Loop lag", told(ms(record.loop_lag_ms), record.loop_lag_ms > LAG_MS)],
    ["Outbox, congested", told(`${bytes(record.outbox_bytes)}, ${count(record.congested)}`, record.congested > 0)],
    ["Broker", broker(known)],
    ["Up", duration(record.uptime_seconds)],
    ["Version", record.version],
  ];
  const button = record.draining
    ? h("button", { type: "button", onclick: () => undrain(record.node) }, "Take back")
    : h("button", { type: "button", disabled: Boolean(record.leaving), onclick: () => drain(record.node) }, "Drain");
  button.setAttribute("aria-label", `${button.textContent} ${record.node}`);
  button.dataset.place = `${record.node} drain`;
  return h("li", { class: "node panel", "data-node": record.node },
    h("div", { class: "bar" },
      h("h3", { class: "name" }, record.node),
      h("p", { class: `pill ${tone}` }, word), button),
    more && h("p", { class: tone }, more), progress,
    h("dl", {}, ...facts.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value)))));
}

/** @param {import("../live.js").Gone} one */
function goneRow({ record, heardAt, stopped }) {
  const at = Date.now() - (performance.now() - heardAt);
  const lived = duration(record.uptime_seconds);
  const how = stopped
    ? `It stopped at ${time(at)} by itself, after ${lived}.`
    : `Nothing was heard of it after ${time(at)}: it was killed, or is cut off from the others. It had been up ${lived}`
      + ` and held ${count(record.connections)} connections.`;
  return h("li", { class: "panel", "data-gone": record.node },
    h("h3", { class: "name" }, record.node),
    h("p", { class: stopped ? "pill quiet" : "pill bad" }, stopped ? "stopped" : "lost"),
    h("p", { class: "hint" }, how));
}

/** @param {import("../live.js").Live} live */
export function overviewView(live) {
  const charts = makeCharts();
  const nodes = h("ul", { class: "nodes" });
  const heading = h("h2", {}, "Nodes");
  const ended = h("ul", { class: "gone" });
  const farewell = h("section", { hidden: true }, h("h2", {}, "Gone"),
    h("p", { class: "hint" }, "Nodes that ended while this page was open, or in the two minutes before."), ended);
  const element = h("div", { class: "view" },
    h("div", { class: "charts" }, ...charts.map((each) => each.element)),
    h("div", { class: "bar" }, heading,
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => publish() }, "Publish a test message"),
        h("button", { type: "button", onclick: () => rebalance() }, "Rebalance"))),
    nodes, farewell);

  const draw = () => {
    if (document.hidden) return;
    const { samples, gone } = live;
    charts.forEach((each) => each.draw(samples));
    farewell.hidden = gone.length === 0;
    swap(ended, gone.map(goneRow));
    heading.textContent = `Nodes (${live.nodes.length})`;
    swap(nodes, live.nodes.map((known) => card(known, live.isSilent(known))));
  };
  draw();
  return { element, close: live.on(draw) };
}
