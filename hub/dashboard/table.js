/**
 * A list that the hub sorts, filters and cuts: the browser never holds more than one page.
 */

import { failure, h, notUpToDate, state, swap } from "./dom.js";
import { count } from "./format.js";

const PAGE = 50;
/** A list of what changes all the time is read again after this long ... */
const LEAST_MS = 3000;
/** ... and after so many times what the last answer took: a large hub is asked less often. */
const SHARE = 20;

/**
 * @typedef {object} Column
 * @property {string} name as the API calls it
 * @property {string} label
 * @property {(row: any) => any} cell text or an element
 * @property {boolean} [number]
 * @property {boolean} [short] never breaks its line
 * @property {boolean} [fixed] cannot be sorted by
 * @property {boolean} [backwards] what is shown falls while the API's field rises, as an age does
 */
/**
 * @typedef {object} Page
 * @property {any[]} rows
 * @property {number} total
 * @property {string | null} next
 * @property {string} [note]
 */
/**
 * @typedef {object} Options
 * @property {string} caption
 * @property {Column[]} columns
 * @property {(row: any) => string} id
 * @property {(asked: { sort: string, after: string | null, limit: number }) => Promise<Page>} load
 * @property {string} sort a column's name, `-` before it: descending
 * @property {(sort: string) => void} [onSort]
 * @property {[string, string]} empty a title and a sentence
 * @property {(row: any) => any} [action] what a last column without a heading holds
 */

/** A cell whose text may be long: cut here, whole where the pointer rests. @param {string | null} text */
export const cut = (text) => (text ? h("span", { class: "cut", title: text }, text) : null);

/** @param {string} text */
export const agent = (text) => (text ? h("span", { class: "agent cut", title: text }, text) : null);

/** Whether what a column shows falls in this order. @param {Column} column @param {string} sort */
const falls = ({ backwards = false }, sort) => sort.startsWith("-") !== backwards;

/** The API's order in which what a column shows falls, or rises. @param {Column} column @param {boolean} falling */
const orderOf = ({ name, backwards = false }, falling) => (falling !== backwards ? `-${name}` : name);

/** @param {Options} options */
export function table({ caption, columns, id, load, sort, onSort, empty, action }) {
  /** @typedef {{ after: string | null, from: number }} Place where a page begins */
  const first = /** @type {Place} */ ({ after: null, from: 0 });
  /** @type {Place[]} of every page before this one */
  let before = [];
  let here = first;
  let shown = 0;
  /** @type {string | null} */
  let next = null;
  let turn = 0;
  let drawn = false;

  const body = h("tbody", { role: "rowgroup" });
  const head = h("tr", { role: "row" });
  const total = h("p", { class: "total", role: "status" }, "Loading");
  const previous = h("button", { type: "button", onclick: () => go(before.pop() ?? first) }, "Previous");
  const following = h("button", { type: "button", onclick: () => {
    before.push(here);
    go({ after: next, from: here.from + shown });
  } }, "Next");
  const choice = h("select", { onchange: () => order(choice.value) });
  const place = h("div", {});
  const grid = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, h("table", { role: "table", "aria-label": caption },
    h("thead", { role: "rowgroup" }, head), body));
  const element = h("section", { class: "list" },
    h("div", { class: "bar" }, total, h("label", { class: "order" }, "Sort by ", choice),
      h("div", { class: "pager" }, previous, following)),
    place);

  /** @param {Place} to @returns {Promise<void>} */
  const go = (to) => {
    here = to;
    return show();
  };

  /** @param {string} by */
  const order = (by) => {
    sort = by;
    before = [];
    onSort?.(by);
    heading();
    go(first);
  };

  /** @param {Column} column */
  const isBy = ({ name }) => sort.replace("-", "") === name;
  /** @param {Column} column */
  const turned = (column) => orderOf(column, isBy(column) ? !falls(column, sort) : Boolean(column.number));

  const heading = () => {
    const cells = columns.map((column) => {
      const { name, label, number, fixed } = column;
      const by = isBy(column);
      const way = falls(column, sort) ? "descending" : "ascending";
      const button = h("button", { type: "button", onclick: () => {
        order(turned(column));
        head.querySelector(`[data-column="${name}"] button`)?.focus();
      } }, label, by && h("span", { "aria-hidden": "true" }, way === "ascending" ? " ↑" : " ↓"));
      const props = { role: "columnheader", scope: "col", class: number && "number", "data-column": name };
      return h("th", { ...props, "aria-sort": by ? way : null }, fixed ? label : button);
    });
    if (action) cells.push(h("th", { role: "columnheader", scope: "col" }, h("span", { class: "unseen" }, "Action")));
    head.replaceChildren(...cells);
    const choices = columns.filter(({ fixed }) => !fixed).flatMap((column) => [
      [orderOf(column, false), `${column.label}, rising`], [orderOf(column, true), `${column.label}, falling`],
    ]);
    choice.replaceChildren(...choices.map(([value, label]) =>
      h("option", { value, selected: value === sort }, label)));
  };

  /** @param {any} row */
  const line = (row) => {
    const cells = columns.map(({ label, number, short, cell }) => {
      const props = { role: "cell", class: number ? "number" : short && "short", "data-label": label };
      return h("td", props, h("span", {}, cell(row) ?? "–"));
    });
    if (action) cells.push(h("td", { role: "cell", class: "action" }, action(row)));
    const found = h("tr", { role: "row" }, ...cells);
    found.querySelectorAll("a, button").forEach((/** @type {any} */ each, /** @type {number} */ place) => {
      each.dataset.place = `${id(row)} ${place}`;
    });
    return found;
  };

  /** @param {string} text which screen readers say when it is another one */
  const tell = (text) => {
    if (total.textContent !== text) total.textContent = text;
  };

  /** @param {Page} page */
  const draw = (page) => {
    next = page.next;
    shown = page.rows.length;
    const range = shown ? `${count(here.from + 1)} to ${count(here.from + shown)} of ` : "";
    tell(`${range}${count(page.total)}${page.note ? `. ${page.note}` : ""}`);
    previous.disabled = before.length === 0;
    following.disabled = next === null;
    swap(body, page.rows.map(line));
    place.replaceChildren(page.rows.length ? grid : state(...empty));
    drawn = true;
  };

  const show = async () => {
    const mine = ++turn;
    element.setAttribute("aria-busy", "true");
    try {
      const page = await load({ sort, after: here.after, limit: PAGE });
      // Those of the last page have gone: there is one before it.
      if (mine === turn && !page.rows.length && before.length) return go(before.pop() ?? first);
      if (mine === turn) draw(page);
    } catch (error) {
      // What is on the page stays there; the banner tells that the hub is away.
      if (mine === turn && !drawn) place.replaceChildren(failure("The list did not come", error, show));
      else if (mine === turn) tell(notUpToDate(error));
    }
    if (mine === turn) element.removeAttribute("aria-busy");
  };

  heading();
  previous.disabled = following.disabled = true;
  show();

  return {
    element,
    /** The same page again. */
    reload: show,
    /** From the first page, because what is asked for has changed. */
    restart() {
      before = [];
      return go(first);
    },
  };
}

/**
 * A page of rows that the hub gives all at once.
 * @param {any[]} all
 * @param {{ sort: string, after: string | null, limit: number }} asked
 */
export function pageOf(all, { sort, after, limit }) {
  const name = sort.replace("-", "");
  const way = sort.startsWith("-") ? -1 : 1;
  const order = (/** @type {any} */ a, /** @type {any} */ b) => {
    const [one, other] = [a[name] ?? "", b[name] ?? ""];
    return one === other ? 0 : one < other ? -way : way;
  };
  const from = Number(after ?? 0);
  const rows = all.sort(order).slice(from, from + limit);
  return { rows, total: all.length, next: from + limit < all.length ? String(from + limit) : null };
}

/**
 * Calls `reload` when figures say that something changed: not more often than every three
 * seconds, less often where the hub takes long to answer, and only while somebody may look.
 * @param {import("./live.js").Live} live
 * @param {() => Promise<unknown>} reload
 * @param {boolean} [always] also where the figures do not say it
 */
export function whenChanged(live, reload, always = false) {
  let seen = live.changes;
  let nextAt = performance.now() + LEAST_MS;
  return live.on(async () => {
    const { changes } = live;
    const began = performance.now();
    if ((changes === seen && !always) || document.hidden || began < nextAt) return;
    seen = changes;
    nextAt = Infinity;
    await reload();
    nextAt = performance.now() + Math.max(LEAST_MS, SHARE * (performance.now() - began));
  });
}
