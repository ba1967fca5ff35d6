/** The patterns that sessions subscribe to, and how many do by each. */

import { get } from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";
import { address } from "./links.js";
import { pageOf, table, whenChanged } from "./table.js";
import { silent } from "./views/connections.js";

/** As many as the hub says at once. */
const MOST = 1000;

/** @type {import("./table.js").Column[]} */
const COLUMNS = [
  {
    name: "pattern", label: "Pattern",
    cell: ({ pattern }) => h("a", { href: address("/connections", { pattern }), class: "name" }, pattern),
  },
  { name: "sessions", label: "Sessions", number: true, cell: ({ sessions }) => count(sessions) },
];

/** Hidden while there is none. @param {import("./live.js").Live} live */
export function patternsList(live) {
  const element = h("section", { hidden: true });
  const list = table({
    caption: "Patterns",
    columns: COLUMNS,
    id: ({ pattern }) => pattern,
    sort: "-sessions",
    empty: ["No patterns", "No session subscribes by a pattern."],
    async load(asked) {
      const told = await get("api/patterns", { limit: MOST });
      element.hidden = !told.patterns.length;
      const more = told.total > told.patterns.length ? `Those with most sessions; there are ${count(told.total)}` : "";
      return { ...pageOf(told.patterns, asked), note: [more, silent(told)].filter(Boolean).join(". ") };
    },
  });
  element.append(
    h("h2", {}, "Patterns"),
    h("p", { class: "hint" }, "Sessions that follow all channels which a pattern matches, now and later."), list.element);
  return { element, close: whenChanged(live, list.reload) };
}
