/** What the bar says while what connects the nodes is away, and for a while after its return. */

import { time } from "./format.js";

/** @typedef {import("./live.js").Known} Known */

/** How long the return stays told. */
const TOLD_MS = 300_000;

/** @param {Known} known */
const name = ({ record }) => record.node;

/**
 * No length of time stands in it: a bar whose text changes is read out again.
 * @param {Known} known whose broker is away
 * @param {Known[]} old
 * @param {boolean} answers whether it is the node that answers this page
 */
function away({ record }, old, answers) {
  const { node, broker_away: servers, broker_away_since_ms: since } = record;
  const what = `${servers.join(" and ")} ${servers.length > 1 ? "are" : "is"} away since ${time(since)}.`;
  if (!answers) return `${what} So says ${node}; the node that answers here reaches it.`;
  const still = "Open connections stay; lists, “Why not?” and “Disconnect” work for this node. " +
    "Publishing, channels that are new here, history and members wait for its return.";
  const others = old.map((each) => ` Figures of ${name(each)} are from ${time(each.record.at_ms)}.`);
  return `${what} ${still} Figures are of ${node} alone.${others.join("")}`;
}

/** @param {Known[]} returned */
function back(returned) {
  const latest = Math.max(...returned.map(({ record }) => record.broker_back_ms));
  const reset = returned.filter(({ record }) => record.broker_reset_channels);
  const counts = reset.map(({ record }) => `${record.broker_reset_channels} at ${record.node}`);
  const cost = counts.length
    ? `Channels with subscribers were reset (${counts.join(", ")}): their subscribers were told, and go on in a new epoch.`
    : "No channel with a subscriber was reset.";
  return `What connects the nodes was away and is back since ${time(latest)}. ${cost}`;
}

/**
 * What there is to say, and how bad it is; null where all is well.
 * @param {import("./live.js").Live} live
 * @returns {{ tone: "bad" | "warn", text: string } | null}
 */
export function outage(live) {
  const fresh = live.nodes.filter((known) => !live.isSilent(known));
  const here = fresh.find((known) => name(known) === live.answeredBy);
  const lacking = fresh.filter(({ record }) => record.broker_away?.length);
  const worst = lacking.find((known) => known === here) ?? lacking[0];
  if (worst) {
    const old = live.nodes.filter((known) => live.isSilent(known));
    return { tone: "bad", text: away(worst, old, worst === here) };
  }
  const returned = fresh.filter(({ record }) => record.broker_back_ms > record.at_ms - TOLD_MS);
  return returned.length ? { tone: "warn", text: back(returned) } : null;
}
