/** The demo page: four live cards, a table and a channel to try. `?transport=sse` or `poll` is all it uses. */

import { Hub } from "./client.js";
import { createChart } from "./chart.js";
import { showProcesses } from "./processes.js";

/** @typedef {import("./client/subscription.js").Message} Message */
/** @typedef {import("./client/subscription.js").Subscription} Subscription */

const LOG_LENGTH = 50;
const EMPTY_AFTER_MS = 3000; // the demo publishes four times a second

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @param {string} id */
const field = (id) => /** @type {HTMLInputElement} */ (byId(id));

const TRANSPORTS = { websocket: "WebSocket", sse: "SSE", poll: "Long polling" };

const TOKEN_NEEDED = "This hub wants a token. Make one with hub token, and add ?token=TOKEN to the address of this page.";

const query = new URLSearchParams(location.search);
const forced = /** @type {keyof typeof TRANSPORTS} */ (query.get("transport"));
const here = new URL(".", location.href);
const hub = new Hub(here.href, {
  token: query.get("token") ?? undefined,
  transports: forced in TRANSPORTS ? [forced] : undefined,
});

let received = 0;
let gaps = 0;


/** @type {number | undefined} */
let ticking;

hub.on("state", ({ state, transport, code, reason, retryInMs }) => {
  clearInterval(ticking);
  byId("connection").dataset.state = state;
  byId("connection").title = reason ?? "";
  byId("state").textContent = state;
  byId("transport").textContent = TRANSPORTS[transport];
  byId("closed").hidden = state !== "closed";
  if (state === "closed") for (const each of document.querySelectorAll(".card:not([data-live]) .detail")) each.textContent = "no connection";
  byId("closed").textContent = code === 4401 && !query.has("token") ? TOKEN_NEEDED : `The hub has closed the connection: ${reason}`;
  if (state !== "waiting") return;
  const due = performance.now() + (retryInMs ?? 0);
  const tell = () => {
    const seconds = Math.max(0, Math.ceil((due - performance.now()) / 1000));
    byId("state").textContent = `waiting for the hub, next try in ${seconds} s`;
  };
  tell();
  ticking = setInterval(tell, 500);
});

/**
 * Says what a channel was refused for. Where the whole connection was, each channel hears of it
 * before the page does; then it is said once, above.
 * @param {(message: string) => void} say
 * @returns {(error: { message: string }) => void}
 */
const ofTheChannel = (say) => ({ message }) => {
  setTimeout(() => hub.state === "closed" || say(message));
};

function countMessage() {
  received += 1;
  byId("received").textContent = received.toLocaleString("en");
}

/** @param {{ reason: string }} gap */
function countGap({ reason }) {
  if (reason === "reset") return; // a new epoch: announced, nothing known to be missing
  gaps += 1;
  byId("gaps").textContent = gaps.toLocaleString("en");
}

// -- the cards ---------------------------------------------------------------------------

const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** @param {number} bytes @returns {[string, string]} number and unit */
function size(bytes) {
  let power = 0;
  while (bytes >= 999.5 && power < UNITS.length - 1) {
    bytes /= 1000;
    power += 1;
  }
  return [bytes.toFixed(power && bytes < 100 ? 1 : 0), UNITS[power]];
}

/** @param {number} bytes */
const plain = (bytes) => size(bytes).join(" ");

/**
 * @typedef {object} Card
 * @property {string} name
 * @property {string} title
 * @property {number} [ceiling]
 * @property {boolean} [second]
 * @property {(data: any) => { value: [string, string], detail: string, points: number[] }} read
 */
/** @type {Card[]} */
const CARDS = [
  {
    name: "cpu",
    title: "CPU",
    ceiling: 100,
    read: ({ percent, cores }) => ({
      value: [percent.toFixed(0), "%"],
      detail: `${cores.length} cores, busiest ${Math.max(0, ...cores).toFixed(0)} %`,
      points: [percent],
    }),
  },
  {
    name: "memory",
    title: "Memory",
    ceiling: 100,
    read: ({ percent, used_bytes, total_bytes }) => ({
      value: [percent.toFixed(1), "%"],
      detail: `${plain(used_bytes)} of ${plain(total_bytes)} in use`,
      points: [percent],
    }),
  },
  {
    name: "disk",
    title: "Disk",
    second: true,
    read: ({ percent, read_bytes_per_second, written_bytes_per_second }) => ({
      value: rate(written_bytes_per_second),
      detail: `written, ${rate(read_bytes_per_second).join(" ")} read, ${percent.toFixed(0)} % full`,
      points: [written_bytes_per_second, read_bytes_per_second],
    }),
  },
  {
    name: "network",
    title: "Network",
    second: true,
    read: ({ received_bytes_per_second, sent_bytes_per_second }) => ({
      value: rate(received_bytes_per_second),
      detail: `received, ${rate(sent_bytes_per_second).join(" ")} sent`,
      points: [received_bytes_per_second, sent_bytes_per_second],
    }),
  },
];

/** @param {number} bytes @returns {[string, string]} */
function rate(bytes) {
  const [number, unit] = size(bytes);
  return [number, `${unit}/s`];
}

/** @param {string} tag @param {string} className @param {string} [text] */
function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

/** @param {Card} card */
function showCard({ name, title, ceiling, second, read }) {
  const channel = `demo.${name}`;
  const chart = createChart({ label: `${title}, the newest 100 messages`, ceiling, second });
  const box = make("article", `card ${name}`);
  const head = make("div", "card-head");
  const place = make("span", "place", channel);
  const figure = make("p", "figure");
  const value = make("span", "value", "–");
  const detail = make("span", "detail", `waiting for the first message of ${channel}`);
  const unit = make("span", "unit");
  head.append(make("h3", "", title), place);
  figure.append(value, detail);
  box.append(head, figure, chart.svg);
  byId("cards").append(box);

  hub.subscribe(
    channel,
    ({ data, position }) => {
      countMessage();
      byId("empty").hidden = true;
      const shown = read(data);
      unit.textContent = shown.value[1];
      value.replaceChildren(shown.value[0], unit);
      detail.textContent = shown.detail;
      place.textContent = `${channel} @ ${position}`;
      chart.add(shown.points[0], shown.points[1]);
      box.dataset.live = "true";
    },
    { last: 100, onGap: countGap, onError: ofTheChannel((message) => (detail.textContent = message)) },
  );
}

CARDS.forEach(showCard);
showProcesses(hub, {
  section: byId("processes"),
  body: byId("processes-rows"),
  place: byId("processes-place"),
  told: byId("processes-told"),
  size: plain,
  onMessage: countMessage,
  onGap: countGap,
});
setTimeout(() => {
  if (hub.state === "connected" && !document.querySelector("[data-live]")) {
    byId("empty").hidden = false;
  }
}, EMPTY_AFTER_MS);

// -- try it ------------------------------------------------------------------------------

/** @type {Subscription | undefined} */
let subscription;

/** @param {string} offset @param {string} text @param {number} [time] @param {string} [kind] */
function addLine(offset, text, time = Date.now(), kind = "") {
  const line = make("li", kind);
  const clock = new Date(time).toLocaleTimeString("en-GB");
  line.append(make("span", "offset", offset), make("span", "body", text), make("time", "", clock));
  byId("log").prepend(line);
  while (byId("log").childElementCount > LOG_LENGTH) byId("log").lastElementChild?.remove();
  byId("log-empty").hidden = true;
}

/** @param {string} message */
const addProblem = (message) => addLine("!", message, undefined, "problem");

/** @param {Message} message */
function showMessage({ data, offset, time }) {
  countMessage();
  const text = typeof data === "string" ? data : JSON.stringify(data);
  addLine(offset === undefined ? "raw" : `#${offset}`, text, time);
}

const RESET =
  "The hub no longer has what was published before: it was started anew without a store, or its " +
  "store was emptied. Offsets begin again, and nothing more can be said of what came before.";

/** @param {import("./client/subscription.js").Gap} gap */
function showGap(gap) {
  countGap(gap);
  const { reason, from, to } = gap;
  if (reason === "reset") addLine("reset", RESET, undefined, "problem");
  else addLine("gap", `${from} to ${to} missing (${reason})`, undefined, "problem");
}

/** What stands in the field, as JSON: what is JSON already, such as {"eur": 1.5}, else a string. */
function messageAsJson() {
  const text = field("message").value.trim();
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(field("message").value);
  }
}

/** The command line as a POSIX shell takes it: what stands in single quotes stays as it is. */
function showCommand() {
  const channel = field("channel").value;
  const json = messageAsJson().replaceAll("'", "'\\''");
  const url = new URL(`api/publish/${encodeURIComponent(channel)}`, here).href;
  byId("curl").textContent = `curl -d '${json}' '${url}'`;
}

function subscribe() {
  const channel = field("channel").value;
  if (subscription?.channel === channel) return;
  subscription?.unsubscribe();
  byId("log").replaceChildren();
  byId("log-empty").hidden = false;
  byId("subscribed").textContent = channel;
  subscription = hub.subscribe(channel, showMessage, { onGap: showGap, onError: ofTheChannel(addProblem) });
}

/** @param {string} id @param {() => void} run */
function onSubmit(id, run) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

onSubmit("subscribe", subscribe);
onSubmit("publish", () => {
  if (!/** @type {HTMLFormElement} */ (byId("subscribe")).reportValidity()) return;
  subscribe();
  subscription?.publish(JSON.parse(messageAsJson())).catch(({ message }) => addProblem(message));
});
byId("copy").addEventListener("click", async () => {
  const done = await navigator.clipboard.writeText(byId("curl").textContent ?? "").then(
    () => "Copied",
    () => "Select it",
  );
  byId("copy").textContent = done;
  setTimeout(() => (byId("copy").textContent = "Copy"), 1500);
});
for (const id of ["channel", "message"]) field(id).addEventListener("input", showCommand);

field("channel").value = `try.${Math.random().toString(36).slice(2, 7)}`;
showCommand();
subscribe();
