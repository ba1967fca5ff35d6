/**
 * A live line of the newest messages, drawn as SVG.
 *
 * Attributes only, no inline style: the page is served with a strict Content-Security-Policy.
 */

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 100; // as many as a channel's history holds by default: 25 s of the demo
const WIDTH = 240;
const HEIGHT = 80;
const EDGE = 4; // room above and below for the line's own width

/**
 * @param {string} tag
 * @param {Record<string, string>} attributes
 */
function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** @param {number[]} values @param {number} ceiling */
function path(values, ceiling) {
  const step = WIDTH / (POINTS - 1);
  const left = WIDTH - step * (values.length - 1);
  const y = (/** @type {number} */ value) =>
    HEIGHT - EDGE - (Math.min(value, ceiling) / ceiling) * (HEIGHT - 2 * EDGE);
  const points = values.map((value, n) => `${(left + n * step).toFixed(1)} ${y(value).toFixed(1)}`);
  return { line: `M${points.join("L")}`, left };
}

/**
 * @param {{ label: string, ceiling?: number, second?: boolean }} options without a ceiling the
 *   chart scales to what it shows
 */
export function createChart({ label, ceiling, second = false }) {
  const svg = shape("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  const area = shape("path", { class: "area" });
  const line = shape("path", { class: "line" });
  const other = shape("path", { class: "line second" });
  svg.append(area, line, ...(second ? [other] : []));
  /** @type {number[][]} */
  const series = [[], []];

  return {
    svg,
    /** @param {number} first @param {number} [also] the dashed line */
    add(first, also = 0) {
      series[0].push(first);
      series[1].push(also);
      for (const values of series) if (values.length > POINTS) values.shift();
      const top = ceiling ?? Math.max(1024, ...series[0], ...series[1]) * 1.15;
      const main = path(series[0], top);
      line.setAttribute("d", main.line);
      area.setAttribute("d", `${main.line}L${WIDTH} ${HEIGHT}L${main.left.toFixed(1)} ${HEIGHT}Z`);
      if (second) other.setAttribute("d", path(series[1], top).line);
    },
  };
}
