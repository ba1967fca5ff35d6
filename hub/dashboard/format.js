/** Numbers, sizes and times as operators read them. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const FROM_SHORT = 100000;

/** @param {number} value */
export const count = (value) => (value < FROM_SHORT ? whole : short).format(value);

/** @param {number} value per second */
export const rate = (value) =>
  value < 100 ? fine.format(value) : count(value);

/** @param {number | null | undefined} value milliseconds */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${fine.format(value / 1000)} s`;
  return `${value < 10 ? value.toFixed(value < 1 ? 2 : 1) : whole.format(value)} ms`;
}

/** @param {number} value */
export function bytes(value) {
  let unit = 0;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  return `${unit ? fine.format(value) : whole.format(value)} ${UNITS[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  const rounded = Math.max(0, Math.floor(seconds));
  if (rounded < 60) return `${rounded} s`;
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${rounded % 60} s`;
  if (rounded < 86400) return `${Math.floor(rounded / 3600)} h ${Math.floor((rounded % 3600) / 60)} min`;
  return `${Math.floor(rounded / 86400)} d ${Math.floor((rounded % 86400) / 3600)} h`;
}

/** @param {number} openedMs */
export const age = (openedMs) => duration((Date.now() - openedMs) / 1000);

/** @param {number} timeMs */
export const time = (timeMs) => clock.format(timeMs);

/** @param {number} timeMs */
export const dateTime = (timeMs) => moment.format(timeMs);

/** @param {string} position `epoch:offset` */
export const offsetOf = (position) => Number(position.slice(position.lastIndexOf(":") + 1));

/** @param {string} position */
export const epochOf = (position) => position.slice(0, position.lastIndexOf(":"));
