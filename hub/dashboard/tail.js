/**
 * Publications of some channels as this page's own subscription gets them, newest first. A busy
 * channel is drawn four times a second, and of what came only its newest rows are made.
 */

import { escaped, h } from "./dom.js";
import { count, rate, time } from "./format.js";
import { channelLink } from "./links.js";

const ROWS = 100;
const DRAW_MS = 250;
/** Rows wait so long for what is to stand in them. */
const PREPARE_MS = 1000;
const SHOWN_CHARACTERS = 600;
/** A rate is that of so many draws. */
const RATED_DRAWS = 20;

/**
 * @typedef {object} Row
 * @property {string} channel
 * @property {string} epoch
 * @property {number} [offset]
 * @property {any} element
 * @property {any} mark where the fate of this publication stands
 */
/** @typedef {{ element: any, row?: Row }} Line */

/** JSON on one line, cut where it is long. @param {any} data */
export function text(data) {
  const json = escaped(JSON.stringify(data));
  return json.length > SHOWN_CHARACTERS ? `${json.slice(0, SHOWN_CHARACTERS)}… (${count(json.length)} characters)` : json;
}

/** @param {any} message @param {boolean} several @returns {Row} */
function messageRow(message, several) {
  const { channel, epoch, offset, data, key, from, tags, remove, end } = message;
  const mark = h("span", { class: "mark" });
  const element = h("li", {},
    h("span", { class: "when" }, message.time ? time(message.time) : "–"),
    h("span", { class: "place" }, several && channelLink(channel), " ", offset ?? "unnumbered"),
    key && h("span", { class: "tag" }, `key ${key}`),
    from && h("span", { class: "tag" }, `from ${from}`),
    tags && h("span", { class: "tag" }, `tags ${text(tags)}`),
    remove && h("span", { class: "tag" }, "removes its row"),
    end && h("span", { class: "tag" }, "the last of its channel"),
    mark,
    h("code", {}, text(data)));
  return { channel, epoch, offset, element, mark };
}

/** @param {string} text @returns {any} */
const trouble = (text) => h("li", { class: "gap" }, text);

/** @param {any} gap @returns {any} */
function gapElement({ channel, reason, from, to, position, unsequenced }) {
  const range = reason === "reset" ? `goes on at ${position}` : from ? `${from} to ${to}` : `${unsequenced} unnumbered`;
  return trouble(`Gap in ${channel}, ${reason}: ${range}`);
}

/**
 * @param {import("./live.js").Live} live
 * @param {object} options
 * @param {string} options.title
 * @param {string} options.hint what is shown here, and what is not
 * @param {number} [options.last] begin with so many of each channel
 * @param {(rows: Row[]) => Promise<unknown>} [options.prepare] told of the rows that are about to be
 *   shown, newest first; they are shown when it is done, or soon
 */
export function tail(live, { title, hint, last, prepare }) {
  /** @type {Map<string, any>} */
  const subscriptions = new Map();
  /** @type {{ make: () => Line, made?: Line }[]} newest first; made when first drawn */
  const lines = [];
  let came = 0;
  let paused = false;
  let dirty = false;
  let drawing = false;

  const list = h("ol", { class: "tail", tabindex: 0, "aria-label": title });
  const empty = h("p", { class: "hint" }, "Nothing has come yet.");
  const total = h("span", { class: "hint" }, "");
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    draw();
  } }, "Pause");

  /** @type {{ at: number, came: number }[]} one for each of the last draws */
  const draws = [];
  const perSecond = () => {
    draws.push({ at: performance.now(), came });
    const first = draws[0];
    if (draws.length > RATED_DRAWS) draws.shift();
    const seconds = (performance.now() - first.at) / 1000;
    return seconds >= 1 ? `, ${rate((came - first.came) / seconds)}/s` : "";
  };

  const draw = () => {
    const speed = perSecond();
    total.textContent = came ? `${count(came)} so far${paused ? ", paused" : speed}` : "";
    empty.hidden = came > 0;
    if (paused || !dirty || drawing) return;
    dirty = false;
    show();
  };

  const show = async () => {
    const made = lines.map((line) => (line.made ??= line.make()));
    drawing = true;
    if (prepare) {
      const late = new Promise((resolve) => setTimeout(resolve, PREPARE_MS));
      await Promise.race([prepare(made.flatMap(({ row }) => row ?? [])), late]);
    }
    drawing = false;
    list.replaceChildren(...made.map(({ element }) => element));
  };
  const timer = setInterval(draw, DRAW_MS);

  /** @param {() => Line} make */
  const add = (make) => {
    came += 1;
    dirty = true;
    lines.unshift({ make });
    lines.length = Math.min(lines.length, ROWS);
  };

  /** @param {string} channel */
  const listen = (channel) => live.hub.subscribe(channel, (message) => {
    add(() => {
      const row = messageRow(message, subscriptions.size > 1);
      return { element: row.element, row };
    });
  }, {
    last,
    onGap: (gap) => add(() => ({ element: gapElement(gap) })),
    onError: ({ message }) => add(() => ({ element: trouble(`${channel}: ${message}`) })),
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
