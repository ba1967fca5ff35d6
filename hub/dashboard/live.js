/**
 * Figures of all nodes: every node publishes its own once a second on the hub's channel
 * `hub:stats`, and this page is one more subscriber of it. What the channel remembers comes first.
 */

import { Hub } from "../client.js";
import { call, get } from "./api.js";
import { openHistory, SECONDS } from "./history.js";

const CHANNEL = "hub:stats";
/** Five of a node's figures are missing: it is shown as silent. */
const SILENT_MS = 5000;
/** Then the hub is asked whether the node lives; its lease there is ten seconds. */
const ASK_MS = 15000;
/** The hub is asked so often while nothing can be heard, as at a node that takes no connections. */
const DEAF_ASK_MS = 5000;
/** And so often while the channel with the figures is away. */
const AWAY_ASK_MS = 2000;
/** What the channel remembers at most. */
const REMEMBERED = 1200;
/** Views are told of a replay once, not of each of its hundreds of figures. */
const TELL_MS = 100;
/** Nodes that have gone stay listed so long, and so many. */
const GONE_MS = 3_600_000;
const MOST_GONE = 10;

/** @typedef {Record<string, any>} NodeRecord as `GET /api/nodes` has it */
/** @typedef {{ record: NodeRecord, rates: Record<string, number>, heardAt: number }} Known */
/**
 * @typedef {{ record: NodeRecord, heardAt: number, stopped: boolean }} Gone
 *   `stopped` by its own word; otherwise nothing was heard of it any more
 */
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
  /** @type {Map<string, Gone>} those that have ended, while this page looks or shortly before */
  const gone = new Map();
  /** @type {Map<string, { record: NodeRecord, heardAt: number }>} what the channel told last of each */
  const told = new Map();
  /** @type {Map<string, number>} from a node's clock to this page's, in milliseconds */
  const clocks = new Map();
  const history = openHistory(together);
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @type {any} */
  let connection = { state: "connecting" };
  let answeredBy = first.node ?? "";
  let asking = false;
  let askedAt = performance.now();
  let closed = false;

  const tell = () => listeners.forEach((listener) => listener());
  /** @type {any} */
  let telling = null;
  const tellSoon = () => {
    telling ??= setTimeout(() => {
      telling = null;
      tell();
    }, TELL_MS);
  };

  /** @param {NodeRecord} record */
  const nameOf = (record) => `${record.node} ${record.started_ms}`;

  /** @param {string} name @param {Known} known */
  const keep = (name, known) => {
    history.put(Math.floor(known.heardAt / 1000), name, known);
    const before = nodes.get(name);
    if (!gone.has(name) && !(before && before.record.at_ms >= known.record.at_ms)) nodes.set(name, known);
  };

  /** As the hub answers. @param {NodeRecord} record @param {number} [ageMs] since it was so */
  const hear = (record, ageMs = 0) => {
    const name = nameOf(record);
    const before = nodes.get(name)?.record;
    if (gone.get(name)?.stopped || (before && before.at_ms >= record.at_ms)) return;
    const heardAt = performance.now() - ageMs;
    clocks.set(name, heardAt - record.at_ms);
    gone.delete(name);
    keep(name, { record, rates: ratesOf(before, record), heardAt });
  };

  /** When it was so by this page's clock: what the channel remembers was so before it came. @param {NodeRecord} record */
  const timeOf = (record) => {
    const name = nameOf(record);
    const now = performance.now();
    const [any] = clocks.values();
    const clock = Math.min(clocks.get(name) ?? any ?? Infinity, now - record.at_ms);
    if (clocks.has(name)) clocks.set(name, clock);
    return record.at_ms + clock;
  };

  /** As the channel tells, in order. @param {NodeRecord} record */
  const listen = (record) => {
    const name = nameOf(record);
    const before = told.get(name)?.record;
    if (before && before.at_ms >= record.at_ms) return;
    const heardAt = timeOf(record);
    told.set(name, { record, heardAt });
    if (record.ended_ms) leave(name, { record, heardAt, stopped: true });
    const isPast = performance.now() - heardAt > ASK_MS && !nodes.has(name);
    const known = { record, rates: ratesOf(before, record), heardAt };
    if (isPast) history.put(Math.floor(heardAt / 1000), name, known);
    else keep(name, known);
  };

  /** @param {string} name @param {Gone} one */
  const leave = (name, one) => {
    nodes.delete(name);
    gone.set(name, one);
    clocks.delete(name);
    const oldest = [...gone].sort(([, a], [, b]) => b.heardAt - a.heardAt);
    oldest.slice(MOST_GONE).forEach(([each]) => gone.delete(each));
  };

  /** Those of whom the channel remembers figures, and whom the hub does not list. */
  const findGone = () => {
    const now = performance.now();
    for (const [name, { record, heardAt }] of told) {
      const out = now - heardAt > ASK_MS;
      if (out && !nodes.has(name) && !gone.has(name)) leave(name, { record, heardAt, stopped: false });
      if (out && now - heardAt > GONE_MS) told.delete(name);
    }
    for (const [name, { heardAt }] of gone) {
      if (now - heardAt > GONE_MS) gone.delete(name);
    }
  };

  /** @param {Told} answer where the others are not known now, theirs are old */
  const hearAll = ({ nodes: records, node = "", complete = true }) => {
    answeredBy = node;
    const now = records.find((each) => each.node === node)?.at_ms ?? 0;
    for (const record of records) hear(record, complete ? 0 : Math.max(0, now - record.at_ms));
  };

  const isAway = () => [...nodes.values()].some(
    ({ record, heardAt }) => record.node === answeredBy && record.broker_away?.length && performance.now() - heardAt < ASK_MS);

  /** Nodes that say nothing have ended, or publish no figures: the hub knows. */
  const ask = async () => {
    if (asking) return;
    asking = true;
    askedAt = performance.now();
    try {
      const answer = await get("api/nodes");
      const names = answer.nodes.map(nameOf);
      for (const [name, { record, heardAt }] of nodes) {
        const out = performance.now() - heardAt > ASK_MS;
        if (out && !names.includes(name)) leave(name, { record, heardAt, stopped: false });
      }
      hearAll(answer);
    } catch {
      // The banner says that the hub cannot be reached; it is asked again.
    }
    asking = false;
    tell();
  };

  const look = () => {
    findGone();
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
    listen(data);
    tellSoon();
  }, { last: Math.min(REMEMBERED, SECONDS * Math.max(1, first.nodes.length)) });
  hub.on("state", (next) => {
    connection = next;
    tell();
  });
  hearAll(first);
  const timer = setInterval(look, 1000);

  return {
    hub,
    /** One per second, the newest last; holes are undefined. */
    get samples() {
      return history.samples();
    },
    /** Nodes that have ended, the newest first. */
    get gone() {
      return [...gone.values()].sort((a, b) => b.heardAt - a.heardAt);
    },
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
      clearTimeout(telling);
      hub.close();
    },
  };
}
