/** Draws what the public HTTP API tells an operator, and asks again every two seconds. */

const REFRESH_MS = 2000;
const TIMEOUT_MS = 10000;
const PAGE = 100;

const base = new URL("..", import.meta.url);
const number = new Intl.NumberFormat("en");

/** @param {string} path */
async function get(path) {
  const answer = await fetch(new URL(path, base), { signal: AbortSignal.timeout(TIMEOUT_MS) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${path}: ${body.detail}`);
  return body;
}

/** @param {string} id @param {string} text */
function write(id, text) {
  const element = document.getElementById(id);
  if (element) element.textContent = text;
}

/** @param {string} tag @param {unknown} content */
function make(tag, content) {
  const element = document.createElement(tag);
  element.textContent = typeof content === "number" ? number.format(content) : String(content ?? "–");
  if (typeof content === "number") element.className = "number";
  return element;
}

/** @param {Record<string, number>} counts */
const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

/** @param {any} stats */
function drawFigures({ node, counted }) {
  write("node", `${node.node}, version ${node.version}, up ${duration(node.uptime_seconds)}`);
  const figures = {
    Connections: node.connections,
    Subscriptions: node.subscriptions,
    Channels: node.channels,
    Publications: node.publications,
    Deliveries: node.deliveries,
    Dropped: sum(counted.dropped),
    "Gap notices": sum(counted.gaps),
    Refused: sum(counted.refused),
  };
  const boxes = Object.entries(figures).map(([name, value]) => {
    const box = document.createElement("div");
    box.append(make("dt", name), make("dd", number.format(value)));
    return box;
  });
  document.getElementById("figures")?.replaceChildren(...boxes);
}

/** @param {number} seconds */
function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h`;
}

/** @param {string} id @param {unknown[][]} rows @param {number} total */
function drawTable(id, rows, total) {
  const lines = rows.map((cells) => {
    const line = document.createElement("tr");
    line.append(...cells.map((cell) => make("td", cell)));
    return line;
  });
  document.getElementById(id)?.replaceChildren(...lines);
  const shown = rows.length < total ? `the first ${rows.length} of ` : "";
  write(`${id}-total`, `${shown}${number.format(total)}`);
}

/** @param {any} row */
const channelCells = (row) =>
  [row.channel, row.position, row.subscribers, row.history, row.presence ? "yes" : "no"];

/** @param {any} row */
const connectionCells = (row) => [
  row.connection, row.transport, row.subject, row.address,
  row.subscriptions.map((/** @type {any} */ each) => each.channel).join(", "),
  row.sent, row.dropped, row.outbox_messages,
  row.round_trip_ms === null ? null : `${row.round_trip_ms.toFixed(1)} ms`,
];

async function draw() {
  const [stats, channels, connections] = await Promise.all([
    get("api/stats"),
    get(`api/channels?limit=${PAGE}`),
    get(`api/connections?limit=${PAGE}`),
  ]);
  drawFigures(stats);
  drawTable("channels", channels.channels.map(channelCells), channels.total);
  drawTable("connections", connections.connections.map(connectionCells), connections.total);
  return stats.node.draining ? "draining" : "live";
}

async function run() {
  const status = document.getElementById("status");
  let text = "";
  try {
    text = await draw();
  } catch (error) {
    text = error instanceof Error ? error.message : String(error);
  }
  if (status) {
    status.textContent = text;
    status.classList.toggle("failed", text !== "live");
  }
  setTimeout(run, REFRESH_MS);
}

run();
