/** Lines over the last two minutes, as SVG. */

import { h, svg } from "./dom.js";
import { SECONDS } from "./history.js";

const WIDTH = 240;
const HEIGHT = 72;
const TOP = 4;

/** What stands under the plot, from its left edge to its right one. */
const AXIS = ["2 min ago", "1 min", "now"];

/**
 * @typedef {{ name: string, of: (sample: any) => number | null, bad?: (value: number) => boolean }} Series
 *   `bad` says whether the figure is one that somebody should look at
 */

/**
 * The next of 1, 2, 4, 10, 20, 40, ... at or above `value`, so that the scale seldom changes. Half of
 * each stands at the middle of the axis, and 2.5 connections would be told as 3.
 * @param {number} value
 */
export function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 4].find((step) => step * power >= value * 0.999) ?? 10);
}

/**
 * The path of what is known; a hole where nothing is.
 * @param {(number | null | undefined)[]} values the newest last
 * @param {number} top the value at the upper edge
 */
export function pathOf(values, top) {
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      pen = "M";
      return;
    }
    const x = ((index + SECONDS - values.length) * WIDTH) / (SECONDS - 1);
    const y = HEIGHT - (Math.min(value, top) / top) * (HEIGHT - TOP);
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    // A dot where what is beside it is not known.
    if (pen === "M") path += "h0";
    pen = "L";
  });
  return path;
}

/**
 * @param {string} title
 * @param {Series[]} series the first is the number that is shown large
 * @param {(value: number) => string} format
 */
export function chart(title, series, format) {
  const lines = series.map((_, index) => svg("path", { class: `line line-${index}` }));
  const cross = svg("line", { class: "cross", y1: 0, y2: HEIGHT, visibility: "hidden" });
  const grid = [0, 0.5, 1].map((share) => {
    const y = HEIGHT - share * (HEIGHT - TOP);
    return svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y });
  });
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" };
  const picture = svg("svg", box, ...grid, ...lines, cross);
  const figures = series.map(({ name }, index) => {
    const value = h("b", {}, "–");
    const label = series.length > 1 && h("span", { class: `key key-${index}` }, name);
    return { value, element: h("span", { class: "figure" }, value, label) };
  });
  const when = h("small", {}, "");
  const scale = [1, 0.5, 0].map(() => h("small", {}, ""));
  /** @type {any[]} */
  let shown = [];
  /** @type {number | null} share of the width that the pointer is at */
  let pointed = null;

  const write = () => {
    const at = pointed === null ? null : Math.round(pointed * (SECONDS - 1)) - SECONDS + shown.length;
    const sample = at === null ? shown.at(-1) : shown[at];
    series.forEach(({ of, bad }, index) => {
      const value = sample ? of(sample) : null;
      const none = value === null || value === undefined;
      figures[index].value.textContent = none ? "–" : format(value);
      figures[index].value.className = !none && bad?.(value) ? "bad" : "";
    });
    when.textContent = at === null ? "" : `${shown.length - 1 - at} s ago`;
    const x = ((pointed ?? 0) * WIDTH).toFixed(1);
    cross.setAttribute("x1", x);
    cross.setAttribute("x2", x);
    cross.setAttribute("visibility", pointed === null ? "hidden" : "visible");
  };

  picture.addEventListener("pointermove", (event) => {
    const { left, width } = picture.getBoundingClientRect();
    pointed = Math.min(1, Math.max(0, (/** @type {PointerEvent} */ (event).clientX - left) / width));
    write();
  });
  picture.addEventListener("pointerleave", () => {
    pointed = null;
    write();
  });

  return {
    element: h("figure", { class: "chart" },
      h("figcaption", {}, h("span", {}, title), when),
      h("p", {}, ...figures.map(({ element }) => element)),
      h("div", { class: "plot" },
        h("div", { class: "scale", "aria-hidden": "true" }, ...scale), picture,
        h("div", { class: "axis", "aria-hidden": "true" }, ...AXIS.map((label) => h("small", {}, label))))),

    /** @param {any[]} samples one per second, the newest last; holes are undefined */
    draw(samples) {
      shown = samples.slice(-SECONDS);
      const values = series.map(({ of }) => shown.map((sample) => (sample ? of(sample) : null)));
      const highest = Math.max(0, ...values.flat().map((value) => value ?? 0));
      const top = ceiling(highest);
      lines.forEach((line, index) => line.setAttribute("d", pathOf(values[index], top)));
      // Half of one connection is none, and would be told as one.
      const half = format(top / 2) === format(top) ? "" : format(top / 2);
      [format(top), half, "0"].forEach((text, index) => (scale[index].textContent = text));
      write();
      const said = series.map(({ name }, index) => `${name} ${figures[index].value.textContent}`);
      const most = `highest in the last two minutes ${format(highest)}`;
      picture.setAttribute("aria-label", `${title}: ${said.join(", ")}; ${most}`);
    },
  };
}
