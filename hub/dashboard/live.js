/**
 * Figures of all nodes as they come: every node publishes its own once a second on the hub's
 * channel `hub:stats`, and this page is one more subscriber of it.
 */

import { Hub } from "../client.js";
import { call, get } from "./api.js";
import { SECONDS } from "./chart.js";

const CHANNEL = "hub:stats";
/** Five of a node's figures are missing: it is shown as silent. */
const SILENT_MS = 5000;
/** Then the hub is asked whether the node lives; its lease there is ten seconds. */
const ASK_MS = 15000;
/** The hub is asked so often while nothing can be heard, as at a node that takes no connections. */
const DEAF_ASK_MS = 5000;
/** And so often while the channel with the figures is away. */
const AWAY_ASK_MS = 2000;

/** @typedef {Record<string, any>} NodeRecord as `GET /api/nodes` has it */
/** @typedef {{ record: NodeRecord, rates: Record<string, number>, heardAt: number }} Known */
/** @typedef {ReturnType<typeof openLive>} Live */

const RATES = ["publications", "deliveries", "dropped", "gaps"];

/**
 * Counters of two records as rates; the node's own means where there is no earlier record.
 * @param {NodeRecord | undefined} before
 * @param {NodeRecord} now
 */
export function ratesOf(before, now) {
  const seconds = before ? (now.at_ms - before.at_ms) / 1000 : 0;
  const pairs = RATES.map((name) => {
    const rate = before && seconds > 0 ? (now[name] - before[name]) / seconds : now[`${name}_per_second`];
    return [name, Math.max(0, rate)];
  });
  return Object.fromEntries(pairs);
}

/**
 * One moment of the whole hub: sums, and of times the worst node's.
 * @param {Known[]} known
 */
export function together(known) {
  /** @param {(each: Known) => number} of */
  const sum = (of) => known.reduce((total, each) => total + of(each), 0);
  /** @param {(each: Known) => number | null} of */
  const worst = (of) => {
    const values = known.map(of).filter((value) => value !== null && value !== undefined);
    return values.length ? Math.max(.../** @type {number[]} */ (values)) : null;
  };
  /** @type {Record<string, any>} */
  const sample = { connections: sum(({ record }) => record.connections) };
  for (const name of RATES) sample[name] = sum(({ rates }) => rates[name]);
  for (const name of ["websocket", "sse", "poll"]) {
    sample[name] = sum(({ record }) => record.transports[name] ?? 0);
  }
  sample.p50 = worst(({ record }) => record.latency_p50_ms);
  sample.p99 = worst(({ record }) => record.latency_p99_ms);
  sample.lag = worst(({ record }) => record.loop_lag_ms);
  sample.outbox = sum(({ record }) => record.outbox_bytes);
  return sample;
}

/** @typedef {{ nodes: NodeRecord[], node?: string, complete?: boolean }} Told as `GET /api/nodes` answers */

/** @param {Told} first what the hub said at the start */
export function openLive(first) {
  const ticket = async () => (await call("POST", "api/ticket")).ticket;
  const hub = new Hub("", { token: ticket });
  /** @type {Map<string, Known>} by name and start, since a name may come again */
  const nodes = new Map();
  /** @type {any[]} one per second, the newest last */
  const samples = [];
  let second = 0;
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @type {any} */
  let connection = { state: "connecting" };
  let answeredBy = first.node ?? "";
  let asking = false;
  let askedAt = performance.now();
  let closed = false;

  const tell = () => listeners.forEach((listener) => listener());

  /** @param {NodeRecord} record @param {number} [ageMs] since it was so */
  const hear = (record, ageMs = 0) => {
    const name = `${record.node} ${record.started_ms}`;
    const before = nodes.get(name)?.record;
    if (before && before.at_ms >= record.at_ms) return;
    nodes.set(name, { record, rates: ratesOf(before, record), heardAt: performance.now() - ageMs });
  };

  /** @param {Told} told where the others are not known now, theirs are old */
  const hearAll = ({ nodes: records, node = "", complete = true }) => {
    answeredBy = node;
    const now = records.find((each) => each.node === node)?.at_ms ?? 0;
    for (const record of records) hear(record, complete ? 0 : Math.max(0, now - record.at_ms));
  };

  const isAway = () => [...nodes.values()].some(
    ({ record, heardAt }) => record.node === answeredBy && record.broker_away?.length && performance.now() - heardAt < ASK_MS);

  const sampled = () => {
    const now = Math.ceil(performance.now() / 1000);
    const passed = second ? Math.min(SECONDS, now - second) : 1;
    for (let hole = 1; hole < passed; hole++) samples.push(undefined);
    // Figures that stand still are nobody's of now.
    const sample = together([...nodes.values()].filter(({ heardAt }) => performance.now() - heardAt < ASK_MS));
    if (passed) samples.push(sample);
    else samples[samples.length - 1] = sample;
    samples.splice(0, samples.length - SECONDS);
    second = now;
  };

  /** Nodes that say nothing have ended, or publish no figures: the hub knows. */
  const ask = async () => {
    if (asking) return;
    asking = true;
    askedAt = performance.now();
    try {
      const told = await get("api/nodes");
      const names = told.nodes.map((/** @type {NodeRecord} */ each) => `${each.node} ${each.started_ms}`);
      for (const [name, { heardAt }] of nodes) {
        if (!names.includes(name) && performance.now() - heardAt > ASK_MS) nodes.delete(name);
      }
      hearAll(told);
      sampled();
    } catch {
      // The banner says that the hub cannot be reached; it is asked again.
    }
    asking = false;
    tell();
  };

  const look = () => {
    const heard = [...nodes.values()].map(({ heardAt }) => heardAt);
    const now = performance.now();
    // Where nobody is heard, the channel itself may be away.
    const deaf = connection.state !== "connected" || now - Math.max(...heard) > SILENT_MS;
    const patience = isAway() ? AWAY_ASK_MS : deaf ? DEAF_ASK_MS : ASK_MS;
    const since = patience === ASK_MS ? Math.max(Math.min(...heard), askedAt) : askedAt;
    if (now - since > patience) ask();
    else tell();
  };

  hub.subscribe(CHANNEL, ({ data }) => {
    hear(data);
    sampled();
    tell();
  });
  hub.on("state", (next) => {
    connection = next;
    tell();
  });
  hearAll(first);
  sampled();
  const timer = setInterval(look, 1000);

  return {
    hub,
    samples,
    get connection() {
      return connection;
    },
    /** By name. */
    get nodes() {
      return [...nodes.values()].sort((a, b) => (a.record.node < b.record.node ? -1 : 1));
    },
    /** The name of the node that answers this page. */
    get answeredBy() {
      return answeredBy;
    },
    /** Whether what connects that node with the others is away: then it answers for itself. */
    get isAlone() {
      return isAway();
    },
    /** Whether figures come, on the channel or because they are asked for. */
    get isFresh() {
      return [...nodes.values()].some(({ heardAt }) => performance.now() - heardAt < 2 * DEAF_ASK_MS);
    },
    /** @param {Known} known */
    isSilent: (known) => performance.now() - known.heardAt > SILENT_MS,
    /** Changes whenever something was opened, closed, published or written. */
    get changes() {
      const counted = ["opened", "closed", "publications", "deliveries", "dropped"];
      return [...nodes.values()].reduce(
        (total, { record }) => total + counted.reduce((sum, name) => sum + record[name], 0), 0);
    },
    /** @param {() => void} listener told about once a second @returns {() => void} stops it */
    on(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    close() {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      hub.close();
    },
  };
}
