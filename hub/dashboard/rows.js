/** The rows of a keyed channel, a page at a time in the order of their keys. */

import { get, part } from "./api.js";
import { removeRow } from "./dialogs.js";
import { h } from "./dom.js";
import { count, dateTime } from "./format.js";
import { cut, table } from "./table.js";
import { text } from "./tail.js";

/** @type {import("./table.js").Column[]} */
const COLUMNS = [
  { name: "key", label: "Key", fixed: true, cell: ({ key }) => h("span", { class: "name" }, key) },
  { name: "offset", label: "Offset", number: true, fixed: true, cell: ({ offset }) => offset },
  { name: "time", label: "Since", short: true, fixed: true, cell: ({ time }) => dateTime(time) },
  { name: "data", label: "Data", fixed: true, cell: ({ data }) => h("code", {}, cut(text(data))) },
];

/**
 * @param {string} channel
 * @param {() => number | null} known how many there are, where that is known
 * @param {() => unknown} changed is called when a row was removed here
 */
export function rowsList(channel, known, changed) {
  /** As far as pages have shown it. */
  let seen = { rows: 0, more: false };
  const list = table({
    caption: "Rows",
    columns: COLUMNS,
    id: ({ key }) => key,
    sort: "key",
    empty: ["No rows", "Nothing with a key was published, or all of it was removed."],
    async load({ after, limit }) {
      const { rows, next } = await get(`api/channels/${part(channel)}/state`, { after, limit });
      if (after === null) seen = { rows: rows.length, more: next !== null };
      const all = known();
      return { rows, next, total: all ?? seen.rows, note: all === null && seen.more ? "There are more" : "" };
    },
    action: ({ key }) => h("button", {
      type: "button", class: "quiet", "aria-label": `Remove ${key}`,
      onclick: async () => (await removeRow(channel, key)) && changed(),
    }, "Remove"),
  });
  const head = h("h2", {}, "Rows");
  return {
    /** How many there are, in words. */
    said: () => `${count(seen.rows)}${seen.more ? " or more" : ""}`,
    element: h("section", {}, head,
      h("p", { class: "hint" }, "The newest publication of each key. A subscriber that asks for state gets them first."), list.element),
    async reload() {
      await list.reload();
      const all = known();
      head.textContent = `Rows (${all === null ? this.said() : count(all)})`;
    },
  };
}
