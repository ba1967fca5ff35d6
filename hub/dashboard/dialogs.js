/** Questions before something is done, and what came of it. */

import { call, part } from "./api.js";
import { field, h } from "./dom.js";

const SHOWN_MS = 6000;

/**
 * Say for a few seconds what happened; screen readers hear it too.
 * @param {string} text
 * @param {boolean} [failed]
 */
export function toast(text, failed = false) {
  const box = h("p", { class: failed ? "toast failed" : "toast" }, text);
  document.getElementById("toasts")?.append(box);
  setTimeout(() => box.remove(), SHOWN_MS);
}

/**
 * Ask, then act; an error stays in the dialog so that it can be tried again.
 * @param {object} question
 * @param {string} question.title
 * @param {any} question.content
 * @param {string} question.button what it is about to do
 * @param {boolean} [question.danger]
 * @param {(data: FormData) => Promise<string>} question.act resolves with what to say
 * @returns {Promise<boolean>} whether it was done
 */
export function ask({ title, content, button, danger, act }) {
  return new Promise((resolve) => {
    const error = h("p", { class: "problem", role: "alert", hidden: true });
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, button);
    const form = h("form", {},
      h("h2", { id: "question" }, title), content, error,
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
    const dialog = h("dialog", { "aria-labelledby": "question", onclose: () => {
      dialog.remove();
      resolve(dialog.returnValue === "done");
    } }, form);
    form.addEventListener("submit", async (/** @type {Event} */ event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        toast(await act(new FormData(form)));
        dialog.close("done");
      } catch (problem) {
        error.textContent = /** @type {Error} */ (problem).message;
        error.hidden = false;
        go.disabled = false;
      }
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * @param {string} connection
 * @param {string | null} subject rows move under the pointer: whose it is stands in the question
 */
export const disconnect = (connection, subject) =>
  ask({
    title: "Disconnect?",
    content: h("p", {}, `${subject ? `${subject} (${connection})` : connection} is closed with 4403, and a client that follows the protocol `
      + "does not come back by itself."),
    button: "Disconnect",
    danger: true,
    async act() {
      await call("DELETE", `api/connections/${part(connection)}`);
      return `${connection} is closed.`;
    },
  });

/** @param {string} [known] the subject; without it the dialog asks for one, which need not be connected */
export function ban(known = "") {
  const minutes = h("input", { name: "minutes", type: "number", min: 1, max: 5256000, value: 60, required: true });
  const name = h("input", { name: "subject", required: true, maxlength: 255, autocomplete: "off" });
  return ask({
    title: known ? `Ban ${known}?` : "Ban a subject",
    content: h("div", { class: "fields" },
      h("p", {}, "All its connections are closed with 4403, on all nodes, and its tokens are refused until the ban ends."),
      !known && field("Subject", name),
      field("Minutes", minutes),
      field("Reason", h("input", { name: "reason", maxlength: 200, autocomplete: "off" }), "It is told. Optional.")),
    button: "Ban",
    danger: true,
    async act(form) {
      const subject = known || String(form.get("subject"));
      const seconds = Number(form.get("minutes")) * 60;
      const body = JSON.stringify({ seconds, reason: form.get("reason") });
      await call("PUT", `api/subjects/${part(subject)}/ban`, { body });
      return `${subject} is banned.`;
    },
  });
}

/**
 * Revoke one token by its name, or all of a subject that were made until now.
 * @param {string} [known] the subject; without it the dialog asks for one, or for a token's name
 */
export function revoke(known = "") {
  const subject = h("input", { name: "subject", maxlength: 255, autocomplete: "off" });
  const token = h("input", { name: "jti", maxlength: 255, autocomplete: "off" });
  return ask({
    title: known ? `Revoke the tokens of ${known}?` : "Revoke tokens",
    content: h("div", { class: "fields" },
      h("p", {}, "Their sessions end with 4401, on all nodes, and they are refused for a year. Tokens that are made later hold."),
      !known && field("Subject", subject, "All its tokens that were made until now."),
      !known && field("Token", token, "Or the name (jti) of one token.")),
    button: "Revoke",
    danger: true,
    async act() {
      const sub = known || subject.value, jti = token.value;
      if (!sub === !jti) throw new Error("Give either a subject or a token's name.");
      // In whole seconds, as tokens say when they were made; the present one belongs to it.
      const revoked = jti ? { jti } : { sub, issued_before: Math.floor(Date.now() / 1000) + 1 };
      await call("POST", "api/tokens/revoke", { body: JSON.stringify(revoked) });
      return jti ? `The token ${jti} is revoked.` : `The tokens of ${sub} are revoked.`;
    },
  });
}

/** @param {string} subject */
export const unban = (subject) =>
  ask({
    title: `Let ${subject} in again?`,
    content: h("p", {}, "Its tokens hold again, on all nodes. Nothing happens where it is not banned."),
    button: "Lift the ban",
    async act() {
      await call("DELETE", `api/subjects/${part(subject)}/ban`);
      return `${subject} may come in again.`;
    },
  });

/** @param {string} subject */
export const closeAll = (subject) =>
  ask({
    title: `Close all connections of ${subject}?`,
    content: h("p", {}, "All that are open, on all nodes, are closed with 4403. Clients that follow the protocol do not come back by "
      + "themselves. The subject is not banned: whoever connects again is let in."),
    button: "Close all",
    danger: true,
    async act() {
      await call("DELETE", `api/subjects/${part(subject)}/connections`);
      return `All connections of ${subject} are closed.`;
    },
  });

/**
 * @param {string} connection
 * @param {string} channel
 * @param {string | null} [subject] whose other connections may leave as well
 */
export function unsubscribe(connection, channel, subject) {
  const all = h("input", { name: "all", type: "checkbox" });
  return ask({
    title: `Unsubscribe from ${channel}?`,
    content: h("div", { class: "fields" },
      h("p", {}, `${connection} gets no more of ${channel}. It is told, and stays connected.`),
      subject && h("label", { class: "check" }, all, h("span", {}, `All connections of ${subject}, on all nodes`))),
    button: "Unsubscribe",
    danger: true,
    async act(form) {
      const everywhere = subject && form.get("all");
      const whose = everywhere ? `subjects/${part(subject)}` : `connections/${part(connection)}`;
      await call("DELETE", `api/${whose}/subscriptions/${part(channel)}`);
      return `${everywhere ? `Each connection of ${subject}` : connection} has left ${channel}.`;
    },
  });
}

/** @param {string} channel */
export const clearHistory = (channel) =>
  ask({
    title: `Delete the history of ${channel}?`,
    content: h("p", {}, "All that was published in it so far is let go of, for good. Offsets go on, and the rows of a keyed channel stay. "
      + "Whoever resumes from before is told of a gap (expired)."),
    button: "Delete history",
    danger: true,
    async act() {
      await call("DELETE", `api/channels/${part(channel)}/history`);
      return `The history of ${channel} is deleted.`;
    },
  });

/** @param {string} channel @param {string} key */
export const removeRow = (channel, key) =>
  ask({
    title: "Remove this row?",
    content: h("p", {}, `The row ${key} of ${channel} goes. That is a publication: all subscribers are told.`),
    button: "Remove",
    danger: true,
    async act() {
      await call("DELETE", `api/channels/${part(channel)}/state/${part(key)}`);
      return `The row ${key} is removed.`;
    },
  });

/** @param {string} [channel] */
export function publish(channel = "") {
  const data = h("textarea", { name: "data", rows: 4, spellcheck: "false", required: true });
  data.value = '{"hello":"from the dashboard"}';
  const name = h("input", { name: "channel", value: channel, required: true, autocomplete: "off" });
  return ask({
    title: "Publish a test message",
    content: h("div", { class: "fields" },
      field("Channel", name),
      field("Data", data, "JSON. Every subscriber of the channel gets it, here and on all nodes."),
      field("Key", h("input", { name: "key", autocomplete: "off" }), "Optional.")),
    button: "Publish to all subscribers",
    async act(form) {
      const to = String(form.get("channel"));
      const query = { key: form.get("key") };
      const body = String(form.get("data"));
      const { epoch, offset } = await call("POST", `api/publish/${part(to)}`, { query, body });
      return `Published on ${to} as ${epoch}:${offset}.`;
    },
  });
}

/** @param {string} node */
export function drain(node) {
  const seconds = h("input", { name: "seconds", type: "number", min: 0, max: 3600, value: 30, required: true });
  return ask({
    title: `Drain ${node}?`,
    content: h("div", { class: "fields" },
      h("p", {}, "It takes no new connections and closes all it has over the window. Clients "
        + "connect elsewhere and resume. The process stays until it is stopped."),
      field("Window in seconds", seconds)),
    button: "Drain",
    danger: true,
    async act(form) {
      const query = { window_seconds: form.get("seconds") };
      await call("POST", `api/nodes/${part(node)}/drain`, { query });
      return `${node} drains.`;
    },
  });
}

/** @param {string} node */
export const undrain = (node) =>
  ask({
    title: `Take ${node} back?`,
    content: h("p", {}, "It becomes ready and takes connections again. Those it has closed stay where they are."),
    button: "Take connections again",
    async act() {
      await call("DELETE", `api/nodes/${part(node)}/drain`);
      return `${node} takes connections again.`;
    },
  });

export function rebalance() {
  const seconds = h("input", { name: "seconds", type: "number", min: 0, max: 3600, value: 30, required: true });
  return ask({
    title: "Rebalance?",
    content: h("div", { class: "fields" },
      h("p", {}, "Nodes with more than their share ask some of their connections, chosen at "
        + "random, to connect again. They resume where they were."),
      field("Window in seconds", seconds)),
    button: "Rebalance",
    async act(form) {
      const query = { window_seconds: form.get("seconds") };
      const { nodes } = await call("POST", "api/rebalance", { query });
      const closing = nodes.reduce(
        (/** @type {number} */ sum, /** @type {any} */ each) => sum + (each.closing ?? 0), 0);
      return closing ? `${closing} connections are asked to move.` : "Nothing to do: it is even.";
    },
  });
}
