/** The shell: who may come in, which view is shown, and whether the hub can be heard. */

import { ApiError, get, key, onRefused } from "./api.js";
import { outage } from "./away.js";
import { failure, field, h, state } from "./dom.js";
import { time } from "./format.js";
import { openLive } from "./live.js";
import { route, VIEWS } from "./routes.js";

/** @param {string} id @returns {any} */
const part = (id) => document.getElementById(id);
const [main, nav, status, banner, leave] = ["main", "nav", "status", "banner", "leave"].map(part);

/** @type {import("./live.js").Live | null} */
let live = null;
/** The close code of what ended without one (RFC 6455 section 7.4.1). */
const LOST = 1006;
/** When the connection was lost; 0 while there is one. */
let since = 0;
/** @type {{ element: any, close?: () => void } | null} */
let view = null;

/** A question is about what was shown when it was asked. */
const closeQuestion = () => document.querySelector("dialog")?.close();

/** @param {any} element */
function put(element) {
  view?.close?.();
  view = null;
  main.replaceChildren(element);
}

function shut() {
  closeQuestion();
  live?.close();
  live = null;
  nav.hidden = leave.hidden = banner.hidden = true;
  status.textContent = "";
}

/** @param {string} [wrong] why the last key was not taken */
function login(wrong) {
  shut();
  document.title = "Sign in · Hub";
  const input = h("input", { type: "password", autocomplete: "current-password", required: true, autofocus: true });
  const form = h("form", { class: "login panel" },
    h("h1", {}, "Operators only"),
    field("Operator key", input, "One of HUB_OPERATOR_KEYS. It stays in this tab until it is closed."),
    wrong && h("p", { class: "problem", role: "alert" }, wrong),
    h("button", { type: "submit", class: "primary" }, "Sign in"));
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    key.set(input.value.trim());
    start();
  });
  put(form);
  input.focus();
}

function signOut() {
  key.forget();
  login();
}

/** @param {string} text @param {string} tone */
function say(text, tone) {
  banner.dataset.tone = tone;
  // What is set again is read out again.
  if (banner.textContent !== text) banner.textContent = text;
}

function showConnection() {
  if (!live) return;
  const { connection, isAlone: alone } = live;
  const { state: now } = connection;
  const up = now === "connected";
  status.textContent = alone ? "This node alone" : up ? "Live" : now === "connecting" ? "Connecting" : "Not connected";
  status.dataset.state = alone ? "waiting" : now;
  document.body.classList.toggle("stale", !up && !live.isFresh);
  if (up) since = 0;
  else since ||= Date.now();
  if (up || alone) {
    // Where the node answers for itself, its own word says why nothing comes.
    const trouble = outage(live);
    banner.hidden = !trouble;
    if (trouble) say(trouble.text, trouble.tone);
    return;
  }
  if (now !== "connecting") banner.hidden = false; // an attempt in between changes nothing
  if (banner.hidden || now === "connecting") return;
  const again = now === "waiting" ? "It is tried again by itself." : "Reload the page to try again.";
  // Of a connection that just broke the code says nothing but that.
  const why = connection.code && connection.code !== LOST ? ` (${connection.code} ${connection.reason})` : "";
  const figures = live.isFresh ? "Figures are asked for every few seconds." : "Figures are from before.";
  say(`No connection to the hub since ${time(since)}${why}. ${figures} ${again}`, "bad");
}

function show() {
  if (!live) return;
  const { title, path, make } = route(location.hash);
  document.title = `${title} · Hub`;
  view?.close?.();
  view = make(live);
  main.replaceChildren(h("h1", {}, title), view.element);
  for (const link of nav.querySelectorAll("a")) {
    if (link.hash === `#${path}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** @param {unknown} error */
function refuse(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 401) {
    const tried = key.get();
    key.forget();
    return login(tried ? error.message : undefined);
  }
  shut();
  if (error.status !== 403) return put(failure("The hub does not answer", error, start));
  const out = key.get() && h("button", { type: "button", onclick: signOut }, "Use another key");
  return put(state("Not for this key", error.message, out));
}

async function start() {
  put(state("Loading", "Asking the hub for its nodes."));
  try {
    live = openLive(await get("api/nodes"));
  } catch (error) {
    return refuse(error);
  }
  nav.hidden = false;
  leave.hidden = !key.get();
  live.on(showConnection);
  showConnection();
  show();
}

nav.append(...VIEWS.map(({ path, title }) => h("a", { href: `#${path}` }, title)));
leave.addEventListener("click", signOut);
onRefused((error) => live && refuse(error));
addEventListener("hashchange", () => {
  if (!live) return;
  closeQuestion();
  show();
  main.focus();
  scrollTo(0, 0);
});
start();
