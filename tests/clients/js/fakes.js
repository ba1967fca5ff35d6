/** A hub's end of the wire, without a network: what the client opens and what it hears. */

import { mock } from "node:test";
import { Hub } from "../../../clients/js/src/hub.js";

export const WELCOME = { op: "welcome", connection: "c1", node: "n", heartbeat_seconds: 20, secret: "s" };

export const subscribed = (channel, position) => ({ op: "subscribed", channel, position, recovered: true, replayed: 0 });

/** Mocked timers, and both clocks with them. */
export function mockTime() {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  const ticked = Date.now;
  let wall = 0;
  let slept = 0;
  mock.method(performance, "now", () => ticked() + slept);
  mock.method(Date, "now", () => ticked() + wall);
  return {
    /** The wall clock is set, or counts a sleep that nothing else does; no timer is due by that. */
    setWall: (milliseconds) => void (wall += milliseconds),
    /** Both clocks count a sleep, and no timer does. */
    sleep(milliseconds) {
      wall += milliseconds;
      slept += milliseconds;
    },
  };
}

export function realTime() {
  mock.timers.reset();
  mock.restoreAll();
}

/** Let promises and microtasks run; timers are mocked and stand still. */
export async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

// A mocked tick tells every timer in it the time of its end: longer ones look like a sleep.
const STEP_MS = 2500;

/** Move the mocked clock, and let what it started run. */
export async function pass(milliseconds) {
  const step = milliseconds < 600_000 ? STEP_MS : milliseconds;
  for (; milliseconds > step; milliseconds -= step) {
    mock.timers.tick(step);
    await settle();
  }
  mock.timers.tick(milliseconds);
  await settle();
}

class FakeSocket {
  constructor(wire, url) {
    Object.assign(this, { wire, url: new URL(url), sent: [], pings: 0, open: true });
    wire.sockets.push(this);
    if (wire.webSocket === "throws") throw new Error("blocked");
    if (wire.webSocket === "refuses") queueMicrotask(() => this.end(1006));
    if (["welcomes", "deaf"].includes(wire.webSocket)) queueMicrotask(() => this.push(WELCOME));
  }
  send(text) {
    const command = JSON.parse(text);
    if (command.op !== "ping") return void this.sent.push(command);
    this.pings += 1;
    if (this.wire.webSocket === "welcomes") queueMicrotask(() => this.pong());
  }
  /** Prove that both ways are open. */
  pong() {
    this.push({ op: "reply", id: 0, ok: {} });
  }
  close() {
    this.open = false;
  }
  push(push) {
    this.onmessage?.({ data: JSON.stringify(push) });
  }
  end(code, reason = "") {
    this.open = false;
    this.onclose?.({ code, reason });
  }
  /** The commands of one op. */
  asked(op) {
    return this.sent.filter((command) => command.op === op);
  }
  reply(command, ok = {}) {
    this.push({ op: "reply", id: command.id, ok });
  }
  /** Confirm the subscription of a channel. */
  confirm(channel, position, more = {}) {
    const command = this.asked("subscribe").findLast((each) => each.channel === channel);
    this.reply(command, { channel, position, recovered: true, replayed: 0, ...more });
  }
  message(channel, offset, data = offset) {
    this.push({ op: "message", channel, offset, time: 1, data });
  }
}

class FakeStream {
  constructor(url, signal) {
    this.url = new URL(url);
    this.open = true;
    this.pong = () => this.push({ op: "reply", id: 0, ok: {} });
    this.body = new ReadableStream({ start: (controller) => (this.controller = controller) });
    signal.addEventListener("abort", () => {
      this.open = false;
      this.controller.error(signal.reason);
    });
  }
  raw(text) {
    this.controller.enqueue(new TextEncoder().encode(text));
  }
  push(push) {
    this.raw(`event: ${push.op}\ndata: ${JSON.stringify(push)}\n\n`);
  }
  end() {
    this.controller.close();
  }
}

/** One `GET /poll` that waits for its answer. */
class FakePoll {
  constructor(url, headers, signal) {
    Object.assign(this, { url: new URL(url), headers });
    this.response = new Promise((resolve, reject) => {
      this.answer = (pushes, positions, welcome = WELCOME) =>
        resolve(Response.json({ pushes, positions, welcome }));
      this.fail = (error = new TypeError("fetch failed")) => reject(error);
      signal.addEventListener("abort", () => reject(signal.reason));
    });
  }
}

/** @param {"welcomes" | "silent" | "refuses" | "throws" | "deaf"} webSocket `deaf` gets no pong */
export function fakeWire(webSocket = "welcomes") {
  const wire = { webSocket, sockets: [], streams: [], polls: [], posts: [], pongs: 0 };
  Object.assign(wire, { status: 200, postStatus: 200, problem: {} });
  wire.WebSocket = class extends FakeSocket {
    constructor(url) {
      super(wire, url);
    }
  };
  wire.fetch = async (url, { method, signal, body, headers }) => {
    if (method === "POST") {
      const command = JSON.parse(body);
      if (command.id === 0) {
        if (!wire.holdsBack) wire.streams.at(-1)?.pong();
        wire.pongs += 1;
        return Response.json({ op: "reply", id: 0, ok: {} });
      }
      if (wire.postStatus !== 200) {
        const problem = { code: "not_found", detail: "no such session", retryable: false };
        return Response.json(wire.postBody ?? problem, { status: wire.postStatus });
      }
      wire.posts.push({ url: new URL(url), command, headers });
      if (wire.losesReplies) throw new TypeError("fetch failed");
      await wire.held;
      return Response.json({ op: "reply", id: command.id, ok: { done: command.op } });
    }
    if (wire.status === 0) throw new TypeError("fetch failed");
    if (wire.status !== 200) {
      const headers = { "Content-Type": "application/problem+json" };
      return new Response(JSON.stringify(wire.problem), { status: wire.status, headers });
    }
    if (new URL(url).pathname.endsWith("/poll")) {
      const poll = new FakePoll(url, headers, signal);
      wire.polls.push(poll);
      return poll.response;
    }
    const stream = new FakeStream(url, signal);
    wire.streams.push(stream);
    return new Response(stream.body, { headers: { "Content-Type": "text/event-stream" } });
  };
  return wire;
}

/** A client on a fake wire, with the states it went through. */
export function connect(wire, options = {}) {
  const { WebSocket, fetch } = wire;
  const hub = new Hub("http://hub.test/base", { WebSocket, fetch, random: () => 0.5, ...options });
  const states = [];
  hub.on("state", (state) => states.push(state));
  return { hub, states };
}
