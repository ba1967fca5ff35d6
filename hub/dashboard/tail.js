/**
 * Publications of some channels as this page's own subscription gets them, newest first. A busy
 * channel is drawn four times a second, and only its newest rows.
 */

import { h } from "./dom.js";
import { count, time } from "./format.js";
import { channelLink } from "./links.js";

const ROWS = 100;
const DRAW_MS = 250;
const SHOWN_CHARACTERS = 600;

/**
 * @typedef {object} Row
 * @property {string} channel
 * @property {string} epoch
 * @property {number} [offset]
 * @property {any} element
 * @property {any} mark where the fate of this publication stands
 */

/** @param {any} data */
function text(data) {
  const json = JSON.stringify(data);
  return json.length > SHOWN_CHARACTERS ? `${json.slice(0, SHOWN_CHARACTERS)}… (${count(json.length)} characters)` : json;
}

/** @param {any} message @param {boolean} several @returns {Row} */
function messageRow(message, several) {
  const { channel, epoch, offset, data, key, from } = message;
  const mark = h("span", { class: "mark" });
  const element = h("li", {},
    h("span", { class: "when" }, message.time ? time(message.time) : "–"),
    h("span", { class: "place" }, several && channelLink(channel), " ", offset ?? "unnumbered"),
    key && h("span", { class: "tag" }, `key ${key}`),
    from && h("span", { class: "tag" }, `from ${from}`),
    mark,
    h("code", {}, text(data)));
  return { channel, epoch, offset, element, mark };
}

/** @param {any} gap @returns {any} */
function gapElement({ channel, reason, from, to, position, unsequenced }) {
  const range = reason === "reset" ? `goes on at ${position}` : from ? `${from} to ${to}` : `${unsequenced} unnumbered`;
  return h("li", { class: "gap" }, `Gap in ${channel}, ${reason}: ${range}`);
}

/**
 * @param {import("./live.js").Live} live
 * @param {object} options
 * @param {string} options.title
 * @param {string} options.hint what is shown here, and what is not
 * @param {number} [options.last] begin with so many of each channel
 * @param {(rows: Row[]) => void} [options.drawn] told of the rows on the page, newest first
 */
export function tail(live, { title, hint, last, drawn }) {
  /** @type {Map<string, any>} */
  const subscriptions = new Map();
  /** @type {{ element: any, row?: Row }[]} newest first */
  let lines = [];
  let came = 0;
  let paused = false;
  let dirty = false;

  const list = h("ol", { class: "tail", tabindex: 0, "aria-label": title });
  const empty = h("p", { class: "hint" }, "Nothing has come yet.");
  const total = h("span", { class: "hint" }, "");
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    draw();
  } }, "Pause");

  const draw = () => {
    total.textContent = came ? `${count(came)} since the page was opened${paused ? ", paused" : ""}` : "";
    empty.hidden = came > 0;
    if (paused || !dirty) return;
    dirty = false;
    list.replaceChildren(...lines.map(({ element }) => element));
    drawn?.(lines.flatMap(({ row }) => row ?? []));
  };
  const timer = setInterval(draw, DRAW_MS);

  /** @param {{ element: any, row?: Row }} line */
  const add = (line) => {
    came += 1;
    dirty = true;
    lines = [line, ...lines.slice(0, ROWS - 1)];
  };

  /** @param {string} channel */
  const listen = (channel) => live.hub.subscribe(channel, (message) => {
    const row = messageRow(message, subscriptions.size > 1);
    add({ element: row.element, row });
  }, {
    last,
    onGap: (gap) => add({ element: gapElement(gap) }),
    onError: ({ message }) => add({ element: h("li", { class: "gap" }, `${channel}: ${message}`) }),
  });

  return {
    element: h("section", {},
      h("div", { class: "bar" }, h("h2", {}, title), total, pause),
      h("p", { class: "hint" }, hint), empty, list),

    /** @param {string[]} channels to listen to from now on, and to no others */
    follow(channels) {
      for (const [channel, subscription] of subscriptions) {
        if (channels.includes(channel)) continue;
        subscription.unsubscribe();
        subscriptions.delete(channel);
      }
      for (const channel of channels) {
        if (!subscriptions.has(channel)) subscriptions.set(channel, listen(channel));
      }
    },
    close() {
      clearInterval(timer);
      subscriptions.forEach((subscription) => subscription.unsubscribe());
    },
  };
}
