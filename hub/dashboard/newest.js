/** The newest messages of a channel, each to be clicked: what an operator asks about is one of them. */

import { get, part } from "./api.js";
import { escaped, h } from "./dom.js";
import { epochOf, offsetOf, time } from "./format.js";

const SHOWN = 20;
const SHOWN_CHARACTERS = 160;

/** @param {string} channel @returns {Promise<{ epoch: string, rows: any[] }>} the newest first */
async function newest(channel) {
  const path = `api/channels/${part(channel)}/history`;
  const { position } = await get(path, { limit: 1 });
  const [epoch, head] = [epochOf(position), offsetOf(position)];
  if (!head) return { epoch, rows: [] };
  const since = `${epoch}:${Math.max(0, head - SHOWN)}`;
  const page = await get(path, { since, limit: SHOWN });
  return { epoch: page.epoch, rows: page.publications.reverse() };
}

/** @param {any} data */
function text(data) {
  const json = escaped(JSON.stringify(data));
  return json.length > SHOWN_CHARACTERS ? `${json.slice(0, SHOWN_CHARACTERS)}…` : json;
}

/**
 * @param {string} channel
 * @param {(offset: number, epoch: string) => void} choose
 */
export async function newestMessages(channel, choose) {
  const { epoch, rows } = await newest(channel);
  if (!rows.length) return h("p", { class: "hint" }, `History holds nothing of ${channel}.`);
  const items = rows.map(({ offset, data, time: at, key }) =>
    h("li", {}, h("button", { type: "button", class: "quiet", onclick: () => choose(offset, epoch) },
      h("span", { class: "when" }, at ? time(at) : "–"),
      h("span", { class: "place" }, offset),
      key && h("span", { class: "tag" }, `key ${key}`),
      h("code", {}, text(data)))));
  return h("section", {}, h("h2", {}, `Newest of ${channel}`),
    h("p", { class: "hint" }, "Click the message that is missing."), h("ol", { class: "newest" }, ...items));
}
