/** Why did a connection not get a publication? A form for `GET /api/explain`. */

import { factList, failure, field, h } from "../dom.js";
import { dateTime } from "../format.js";
import { explain, TONES, words } from "../fates.js";
import { channelLink, connectionLink, remember } from "../links.js";

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
      ["Connection", connectionLink(told.connection)],
      ["Channel", channelLink(told.channel)],
      ["Publication", h("code", {}, `${told.epoch ?? "–"}:${told.offset}`)],
      ["When", when(told.from_ms ?? null, told.to_ms ?? null)],
      ...(told.by ? [/** @type {[string, any]} */ (["Replaced by", String(told.by)])] : []),
      ["Newest of the channel", told.head ?? null],
    ]));

/**
 * @param {import("../live.js").Live} _live
 * @param {URLSearchParams} query
 */
export function explainView(_live, query) {
  const names = ["connection", "channel", "offset", "epoch"];
  const inputs = names.map((name) =>
    h("input", {
      name, value: query.get(name) ?? "", required: name !== "epoch", autocomplete: "off",
      ...(name === "offset" ? { type: "number", min: 1, step: 1 } : {}),
    }));
  const answer = h("div", { role: "status" });
  let turn = 0;

  const asked = () => Object.fromEntries(inputs.map(({ name, value }) => [name, value.trim()]));
  const load = async () => {
    const { connection, channel, offset, epoch } = asked();
    const mine = ++turn;
    remember("/explain", { connection, channel, offset, epoch });
    let content;
    try {
      content = verdict(await explain(connection, { channel, offset, epoch }));
    } catch (error) {
      content = failure("No answer", error, load);
    }
    if (mine === turn) answer.replaceChildren(content);
  };

  const labels = ["Connection", "Channel", "Offset", "Epoch (optional)"];
  const form = h("form", { class: "filters" },
    ...inputs.map((input, index) => field(labels[index], input)),
    h("button", { type: "submit", class: "primary" }, "Explain"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    load();
  });
  const { connection, channel, offset } = asked();
  if (connection && channel && offset) load();
  return {
    element: h("div", { class: "view" },
      h("p", { class: "hint" }, "Why did a connection not get a publication, or when did it? The nodes "
        + "remember ten minutes, or 1,000 events of a connection; beyond that the answer is unknown."),
      form, answer),
  };
}
