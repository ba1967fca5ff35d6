/** What became of publications on their way to a connection, asked a few at a time. */

import { get } from "./api.js";
import { address } from "./links.js";
import { h } from "./dom.js";

/** How an answer of `GET /api/explain` is to be seen. */
export const TONES = /** @type {Record<string, string>} */ ({
  written: "good", own: "good", queued: "warn", conflated: "warn", dropped: "bad", lost: "bad",
  expired: "bad", forbidden: "bad", not_subscribed: "warn", closed: "warn", not_published: "warn",
  unknown: "quiet",
});

// A page that asked about every publication would be a load of its own.
const EACH_MS = 500;
const AT_ONCE = 2;
// What waits is asked about again later, and not for ever.
const AGAIN_MS = 3000;
const MOST_ATTEMPTS = 5;

/**
 * @param {string} connection
 * @param {{ channel: string, offset: number | string, epoch?: string }} publication
 */
export const explain = (connection, { channel, offset, epoch }) =>
  get("api/explain", { connection, channel, offset, epoch });

/** @param {string} answer */
export const words = (answer) => answer.replaceAll("_", " ");

/** @param {string} connection */
export function openFates(connection) {
  /** @type {import("./tail.js").Row[]} */
  let rows = [];
  /** @type {WeakMap<object, { attempts: number, againAt: number }>} */
  const asked = new WeakMap();
  /** @type {WeakSet<object>} */
  const settled = new WeakSet();
  let under = 0;

  /** @param {import("./tail.js").Row} row */
  const ask = async (row) => {
    const { channel, epoch, offset } = row;
    const { attempts = 0 } = asked.get(row) ?? {};
    asked.set(row, { attempts: attempts + 1, againAt: performance.now() + AGAIN_MS });
    under += 1;
    try {
      const { answer, detail } = await explain(connection, { channel, epoch, offset: offset ?? 0 });
      if (answer !== "queued") settled.add(row);
      const href = address("/explain", { connection, channel, offset, epoch });
      row.mark.replaceChildren(h("a", { href, title: detail, class: TONES[answer] }, words(answer)));
    } catch {
      // It is asked again, or left without a mark.
    }
    under -= 1;
  };

  const timer = setInterval(() => {
    if (document.hidden) return;
    const open = rows.filter((row) => {
      const { attempts = 0, againAt = 0 } = asked.get(row) ?? {};
      return row.offset && !settled.has(row) && attempts < MOST_ATTEMPTS && performance.now() >= againAt;
    });
    open.slice(0, AT_ONCE - under).forEach(ask);
  }, EACH_MS);

  return {
    /** @param {import("./tail.js").Row[]} shown newest first */
    show(shown) {
      rows = shown;
      for (const { mark, channel, offset, epoch } of rows) {
        if (mark.firstChild || !offset) continue;
        const href = address("/explain", { connection, channel, offset, epoch });
        mark.replaceChildren(h("a", { href, class: "quiet" }, "why?"));
      }
    },
    close: () => clearInterval(timer),
  };
}
