/**
 * The table of this machine's processes: rows first, then each change, kept as the hub keeps them.
 *
 * Whoever opens the page gets the rows as they are now. Where the connection was away for longer than
 * history reaches, the rows come anew by themselves.
 */

const CHANNEL = "demo:processes";
const FULL_PERCENT = 100; // of one core

/** @typedef {import("./client/subscription.js").Message} Message */
/** @typedef {{ pid: number, name: string, cpu_percent: number, memory_bytes: number }} Process */
/** @typedef {{ process: Process, line: HTMLTableRowElement }} Kept */

/**
 * @param {import("./client/hub.js").Hub} hub
 * @param {object} page
 * @param {HTMLElement} page.section hidden until there are rows
 * @param {HTMLElement} page.body of the table
 * @param {HTMLElement} page.place where the position is said
 * @param {HTMLElement} page.told what came so far, in words
 * @param {(bytes: number) => string} page.size
 * @param {() => void} page.onMessage
 * @param {(gap: any) => void} page.onGap
 */
export function showProcesses(hub, { section, body, place, told, size, onMessage, onGap }) {
  /** @type {Map<string, Kept>} */
  const table = new Map();
  let rows = 0;
  let changes = 0;
  let removals = 0;
  let drawing = false;
  /** @type {string | undefined} */
  let position;

  /** @param {Message} row @param {boolean} [fresh] it came while somebody looks */
  const keep = ({ key, data, remove }, fresh = false) => {
    if (remove) {
      table.get(key)?.line.remove();
      table.delete(key);
      return;
    }
    const line = table.get(key)?.line ?? made(fresh);
    fill(line, data, size);
    table.set(key, { process: data, line });
  };

  // Changes of one reading come together: they are drawn once.
  const draw = () => {
    drawing = false;
    section.hidden = false;
    place.textContent = `${CHANNEL} @ ${position}`;
    told.textContent =
      `${count(rows, "row")} came at the start, then ${count(changes, "change")} and ` +
      `${count(removals, "removal")}.`;
    const sorted = [...table.values()].sort(byUse).map(({ line }) => line);
    // Lines that stand right stay: what is moved loses the selection in it.
    sorted.forEach((line, at) => {
      if (body.children[at] !== line) body.insertBefore(line, body.children[at] ?? null);
    });
  };
  const drawSoon = () => {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(draw);
  };

  return hub.subscribe(
    CHANNEL,
    (message) => {
      onMessage();
      if (message.remove) removals += 1;
      else changes += 1;
      position = message.position;
      keep(message, !table.has(message.key));
      drawSoon();
    },
    {
      state: true,
      onState(state) {
        if (state.begins) {
          for (const { line } of table.values()) line.remove();
          table.clear();
          rows = 0;
          changes = 0;
          removals = 0;
        }
        rows += state.rows.length;
        position = state.position;
        state.rows.forEach((row) => keep(row));
        if (table.size) drawSoon();
      },
      onGap,
      // A hub without `--demo` keeps no such table. The page says so already.
      onError() {
        section.hidden = true;
      },
    },
  );
}

/** @param {number} number @param {string} what */
const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

/** @param {Kept} one @param {Kept} other */
function byUse({ process: one }, { process: other }) {
  return other.cpu_percent - one.cpu_percent || other.memory_bytes - one.memory_bytes || one.pid - other.pid;
}

/** @param {boolean} fresh */
function made(fresh) {
  const line = document.createElement("tr");
  if (fresh) line.className = "fresh";
  const name = document.createElement("th");
  name.scope = "row";
  const bar = document.createElement("span");
  bar.className = "bar";
  const cpu = document.createElement("td");
  cpu.append(document.createElement("span"), bar);
  line.append(name, document.createElement("td"), cpu, document.createElement("td"));
  return line;
}

/** @param {HTMLTableRowElement} line @param {Process} process @param {(bytes: number) => string} size */
function fill(line, { pid, name, cpu_percent, memory_bytes }, size) {
  const [called, number, cpu, memory] = line.cells;
  called.textContent = name;
  number.textContent = `${pid}`;
  cpu.children[0].textContent = `${cpu_percent.toFixed(1)} %`;
  const share = Math.min(1, cpu_percent / FULL_PERCENT);
  /** @type {HTMLElement} */ (cpu.children[1]).style.setProperty("--share", `${share}`);
  memory.textContent = size(memory_bytes);
}
