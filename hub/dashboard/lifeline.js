/** All connections of a subject on one line of time: what they got, what they missed, and why. */

import { h, state } from "./dom.js";
import { TONES, words } from "./fates.js";
import { count, dateTime, time } from "./format.js";
import { channelLink, connectionLink } from "./links.js";

const HEADS = ["Time", "Connection", "What", "Channel", "Offsets", "Why"];

/** Of what is no answer: what an operator should see. */
const MORE_TONES = /** @type {Record<string, string>} */ ({
  absent: "bad", refused: "bad", opened: "quiet", subscribed: "quiet", left: "warn", closed: "warn",
});

/** @param {number} at */
const day = (at) => new Date(at).toDateString();

/** @param {any} event */
function when({ at_ms: at, to_ms: to }) {
  if (!at) return null;
  const begun = day(at) === day(Date.now()) ? time(at) : dateTime(at);
  const same = !to || Math.floor(to / 1000) === Math.floor(at / 1000);
  return h("span", { title: dateTime(at) }, same ? begun : `${begun} to ${time(to)}`);
}

/** @param {any} event */
function offsets({ first, last }) {
  if (first === undefined) return null;
  return first === last ? count(first) : `${count(first)} to ${count(last)}`;
}

/** @param {any} event */
function row(event) {
  const { what, connection, channel, detail = "" } = event;
  const tone = TONES[what] ?? MORE_TONES[what] ?? "quiet";
  const cells = [when(event), connectionLink(connection), h("span", { class: tone }, words(what)),
    channel && channelLink(channel), offsets(event), detail];
  return h("tr", { role: "row" }, ...cells.map((cell, index) =>
    h("td", { role: "cell", "data-label": HEADS[index], class: index === 1 ? "short" : null }, h("span", {}, cell || "–"))));
}

/** @param {number} number */
const several = (number) => `${count(number)} connection${number === 1 ? "" : "s"}`;

/** What is missing of the answer. @param {any} told */
function lacking({ more, complete, unanswered, connections }) {
  const forgotten = connections.filter((/** @type {any} */ each) => !each.complete).length;
  return [
    !complete && (unanswered.length ? `No answer from ${unanswered.join(", ")}.` : "Other nodes cannot be asked now."),
    forgotten > 0 && `Of ${several(forgotten)} a part is forgotten.`,
    more && "There is more: narrow it by a channel or a time.",
  ].filter(Boolean).join(" ");
}

/** @param {any} told */
export function lifeline(told) {
  const note = lacking(told);
  if (!told.connections.length) {
    return state("Nobody of that name", `No connection of ${told.subject} is open, or among those that are remembered. ${note}`);
  }
  const open = told.connections.filter((/** @type {any} */ each) => each.closed_ms === null).length;
  const grid = h("table", { role: "table", "aria-label": "Line of time" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
      ...HEADS.map((head) => h("th", { role: "columnheader", scope: "col" }, head)))),
    h("tbody", { role: "rowgroup" }, ...told.events.map(row)));
  return h("section", { class: "list" },
    h("h2", {}, `Line of time (${several(told.connections.length)}, ${count(open)} open)`),
    note && h("p", { class: "problem" }, note),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Line of time" }, grid));
}
