/**
 * Why did somebody not get something? A form for `GET /api/explain`: of a subject, over all its
 * connections, or of one connection.
 */

import { get } from "../api.js";
import { factList, failure, field, h } from "../dom.js";
import { explain, TONES, words } from "../fates.js";
import { dateTime } from "../format.js";
import { lifeline } from "../lifeline.js";
import { channelLink, connectionLink, remember } from "../links.js";
import { newestMessages } from "../newest.js";

const NAMES = ["subject", "connection", "channel", "offset", "epoch", "from", "to"];
const LABELS = ["Subject", "Or connection", "Channel", "Offset", "Epoch (optional)", "From", "To"];
/** @type {Record<string, Record<string, any>>} */
const KINDS = {
  offset: { type: "number", min: 1, step: 1 },
  from: { type: "datetime-local", step: 1 },
  to: { type: "datetime-local", step: 1 },
};

/** @param {number | null} from @param {number | null} to */
function when(from, to) {
  if (from === null) return null;
  const milliseconds = (/** @type {number} */ at) => `${dateTime(at)}.${String(at % 1000).padStart(3, "0")}`;
  if (to === null || to === from) return milliseconds(from);
  return `${milliseconds(from)}, or up to ${to - from} ms later`;
}

/** @param {any} told */
const verdict = (told) =>
  h("section", { class: "verdict panel" },
    h("p", { class: `pill ${TONES[told.answer] ?? "quiet"}` }, words(told.answer)),
    h("p", {}, told.detail),
    factList([
      ["Connection", told.connection ? connectionLink(told.connection) : null],
      ["Channel", channelLink(told.channel)],
      ["Publication", h("code", {}, `${told.epoch ?? "–"}:${told.offset}`)],
      ["When", when(told.from_ms ?? null, told.to_ms ?? null)],
      ...(told.by ? [/** @type {[string, any]} */ (["Replaced by", String(told.by)])] : []),
      ["Newest of the channel", told.head ?? null],
    ]));

/** @param {string} text of an input, local time */
const milliseconds = (text) => (text ? new Date(text).getTime() : null);

/** @param {Record<string, string>} asked */
async function ofSubject({ subject, channel, offset, epoch, from, to }) {
  const times = { from_ms: milliseconds(from), to_ms: milliseconds(to) };
  const told = await get("api/explain", { subject, channel, offset, epoch, ...times });
  const { explained, connection } = told;
  return h("div", { class: "view" },
    explained && verdict({ ...explained, connection, channel, offset }), lifeline(told));
}

/**
 * @param {import("../live.js").Live} _live
 * @param {URLSearchParams} query
 */
export function explainView(_live, query) {
  const inputs = NAMES.map((name) =>
    h("input", { name, value: query.get(name) ?? "", autocomplete: "off", ...KINDS[name] }));
  const [subject, connection, channel, offset, epoch] = inputs;
  const problem = h("p", { class: "problem", role: "alert" });
  const answer = h("div", { role: "status" });
  const messages = h("div", {});
  let turn = 0;
  let listed = "";

  const asked = () => Object.fromEntries(inputs.map(({ name, value }) => [name, value.trim()]));

  /** What is missing for a question, in words; empty where nothing is. */
  const lacking = () => {
    const given = asked();
    if (Boolean(given.subject) === Boolean(given.connection)) return "Give a subject, or else a connection.";
    if (given.offset && !given.channel) return "An offset is one of a channel.";
    if (given.connection && !(given.channel && given.offset)) return "Of a connection a channel and an offset are asked for.";
    return "";
  };

  const load = async () => {
    problem.textContent = lacking();
    if (problem.textContent) return;
    const given = asked();
    const mine = ++turn;
    remember("/explain", given);
    let content;
    try {
      content = given.subject ? await ofSubject(given) : verdict(await explain(given.connection, /** @type {any} */ (given)));
    } catch (error) {
      content = failure("No answer", error, load);
    }
    if (mine === turn) answer.replaceChildren(content);
  };

  /** The channel's newest messages, as soon as it is named. */
  const list = async () => {
    const name = channel.value.trim();
    if (name === listed) return;
    listed = name;
    let content = null;
    if (name) {
      content = await newestMessages(name, (number, its) => {
        offset.value = String(number);
        epoch.value = its;
        load();
      }).catch((error) => h("p", { class: "problem" }, error.message));
    }
    if (name === listed) messages.replaceChildren(...(content ? [content] : []));
  };

  channel.addEventListener("change", list);
  const form = h("form", { class: "filters" },
    ...inputs.map((input, index) => field(LABELS[index], input)),
    h("button", { type: "submit", class: "primary" }, "Explain"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    load();
    list();
  });
  list();
  if (subject.value || connection.value) {
    if (lacking() === "") load();
  }
  return {
    element: h("div", { class: "view" },
      h("p", { class: "hint" }, "Why did somebody not get a message, or when did they? Give a subject, for all its "
        + "connections on one line of time, or a connection. The nodes remember ten minutes, and longer where "
        + "HUB_JOURNAL_PATH is set; beyond that the answer is unknown."),
      form, problem, messages, answer),
  };
}
