/** What an operator does with a subject, by its name: it need not be connected. */

import { get, part } from "./api.js";
import { ban, closeAll, revoke, unban } from "./dialogs.js";
import { h } from "./dom.js";
import { duration } from "./format.js";
import { address } from "./links.js";

/** A subject in a list, which leads to its connections and to what can be done with it. @param {string | null} name */
export const subjectLink = (name) =>
  (name ? h("a", { href: address("/connections", { subject: name }), class: "cut", title: name }, name) : null);

/** Ask for the name of whom to ban, or whose tokens to revoke. @param {() => unknown} changed */
export const byName = (changed) => [
  h("button", { type: "button", onclick: async () => (await ban()) && changed() }, "Ban a subject"),
  h("button", { type: "button", onclick: async () => (await revoke()) && changed() }, "Revoke tokens"),
];

/**
 * Buttons for one subject, and whether it is banned; nothing until `show` was called with a name.
 * @param {() => unknown} changed called after something was done
 */
export function subjectBar(changed) {
  let name = "";
  const standing = h("span", { role: "status" }, "");
  const got = h("a", { href: "#", class: "button" }, "What it got");
  /** @param {(subject: string) => Promise<boolean>} act */
  const after = (act) => async () => {
    if (!(await act(name))) return;
    load();
    changed();
  };
  const lift = h("button", { type: "button", hidden: true, onclick: after(unban) }, "Lift ban");
  const element = h("div", { class: "bar subject", hidden: true },
    standing, got,
    h("button", { type: "button", class: "danger", onclick: after(closeAll) }, "Close all its connections"),
    h("button", { type: "button", class: "danger", onclick: after(revoke) }, "Revoke its tokens"),
    h("button", { type: "button", class: "danger", onclick: after(ban) }, "Ban subject"),
    lift);

  /** @param {any} found the ban in force, if any */
  const draw = (found) => {
    const left = found && duration((found.until_ms - Date.now()) / 1000);
    const why = found?.reason ? ` (${found.reason})` : "";
    standing.className = found ? "bad" : "quiet";
    standing.textContent = found ? `${name} is banned for ${left} more${why}.` : `Of the subject ${name}:`;
    lift.hidden = !found;
  };

  const load = async () => {
    const asked = name;
    // The bar serves without it too.
    const { ban: found } = await get(`api/subjects/${part(asked)}`, { limit: 1 }).catch(() => ({ ban: null }));
    if (asked === name) draw(found);
  };

  return {
    element,
    /** @param {string | null} subject of whom it is; null or empty for nobody */
    show(subject) {
      if (subject === name) return;
      name = subject ?? "";
      element.hidden = !name;
      if (!name) return;
      got.href = address("/explain", { subject: name });
      draw(null);
      load();
    },
  };
}
