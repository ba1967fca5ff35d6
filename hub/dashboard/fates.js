/** What became of publications on their way to a connection, asked a page of them at a time. */

import { get } from "./api.js";
import { address } from "./links.js";
import { h } from "./dom.js";

/** How an answer of `GET /api/explain` is to be seen. */
export const TONES = /** @type {Record<string, string>} */ ({
  written: "good", as_row: "good", own: "good", filtered: "good", queued: "warn", conflated: "warn", dropped: "bad", lost: "bad",
  expired: "bad", forbidden: "bad", not_subscribed: "warn", closed: "warn", not_published: "warn",
  unknown: "quiet",
});

// One question is about a whole channel's rows on the page, so a busy channel costs no more.
const EACH_MS = 500;
const AT_ONCE = 4;
/** As many offsets as one question may be about. */
const MOST = 1000;
// What waits is asked about again, for as long as it is on the page.
const AGAIN_MS = 3000;

/**
 * @param {string} connection
 * @param {{ channel: string, offset: number | string, epoch?: string }} publication
 */
export const explain = (connection, { channel, offset, epoch }) =>
  get("api/explain", { connection, channel, offset, epoch });

/** @param {string} answer */
export const words = (answer) => answer.replaceAll("_", " ");

/** @typedef {import("./tail.js").Row} Row */

/**
 * Rows of one channel and epoch by the offsets that one question may be about.
 * @param {Row[]} rows
 */
function questions(rows) {
  /** @type {Map<string, Row[]>} */
  const places = new Map();
  for (const row of rows) {
    const place = `${row.channel} ${row.epoch}`;
    places.set(place, [...places.get(place) ?? [], row]);
  }
  return [...places.values()].map((all) => {
    const last = Math.max(...all.map(({ offset }) => offset ?? 0));
    return all.filter(({ offset = 0 }) => offset > last - MOST);
  });
}

/** @param {string} connection */
export function openFates(connection) {
  /** @type {Row[]} */
  let rows = [];
  /** @type {WeakMap<Row, number>} when it may be asked about again; of what is settled never */
  const againAt = new WeakMap();
  let under = 0;

  /** @param {Row} row @param {{ answer: string, detail: string }} fate */
  const mark = ({ mark: place, channel, offset, epoch }, { answer, detail }) => {
    const href = address("/explain", { connection, channel, offset, epoch });
    place.replaceChildren(h("a", { href, title: detail, class: TONES[answer] }, words(answer)));
  };

  /** @param {Row[]} asked of one channel and epoch */
  const ask = async (asked) => {
    const offsets = asked.map(({ offset }) => offset ?? 0);
    const [{ channel, epoch }] = asked;
    asked.forEach((row) => againAt.set(row, performance.now() + AGAIN_MS));
    under += 1;
    try {
      const range = { offset: Math.min(...offsets), last: Math.max(...offsets) };
      const { stretches } = await get("api/explain", { connection, channel, epoch, ...range });
      for (const row of asked) {
        const { offset = 0 } = row;
        const fate = stretches.find((/** @type {any} */ each) => each.first <= offset && offset <= each.last);
        if (!fate) continue;
        if (fate.answer !== "queued") againAt.set(row, Infinity);
        mark(row, fate);
      }
    } catch {
      // They are asked about again, or left without a mark.
    }
    under -= 1;
  };

  /** Ask about what is not settled, as far as few questions at a time reach. */
  const askOpen = () => {
    const now = performance.now();
    const open = rows.filter((row) => row.offset && now >= (againAt.get(row) ?? 0));
    return Promise.all(questions(open).slice(0, AT_ONCE - under).map(ask));
  };

  const timer = setInterval(() => document.hidden || askOpen(), EACH_MS);

  return {
    /** Resolves when they are marked, as far as the hub answers. @param {Row[]} shown newest first */
    show(shown) {
      rows = shown;
      for (const row of rows) {
        const { mark: place, channel, offset, epoch } = row;
        if (place.firstChild || !offset) continue;
        const href = address("/explain", { connection, channel, offset, epoch });
        place.replaceChildren(h("a", { href, class: "quiet" }, "why?"));
      }
      return askOpen();
    },
    close: () => clearInterval(timer),
  };
}
