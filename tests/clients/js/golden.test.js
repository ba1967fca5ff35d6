/**
 * The browser client against the golden files: what it sends, and what it makes of what comes.
 *
 * The hub's own tests read the same files (tests/wire/test_golden.py), so neither side can change
 * a name alone. Only the public interface is used here.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Hub } from "../../../clients/js/src/hub.js";

const golden = (kind) => JSON.parse(readFileSync(new URL(`../../golden/${kind}.json`, import.meta.url)));
const named = (kind, name) => golden(kind).find((each) => each.name === name);
const wireOf = (kind, name) => named(kind, name).wire;
const WELCOME = wireOf("pushes", "welcome");
const OF_A_CHANNEL = ["message", "gap", "join", "leave", "update", "presence_reset"];
const PUSHES = golden("pushes").filter(({ wire }) => OF_A_CHANNEL.includes(wire.op));
const DEADLINE_MS = 10000;

/** The golden reply to a command, under its id. */
const replyTo = ({ op, id, channel, pattern }, name = pattern ? `${op}, a pattern` : op) => {
  const { ok, ...reply } = wireOf("replies", name);
  return { ...reply, id, ...(ok && { ok: op === "subscribe" && channel ? { ...ok, channel } : ok }) };
};

/** The hub's end: welcomes, and answers every command with the golden reply of `answer`. */
function fakeHub({ answer = () => undefined, onWelcome = () => {} } = {}) {
  const hub = { sent: [], sockets: [] };
  hub.WebSocket = class {
    constructor() {
      hub.sockets.push(this);
      queueMicrotask(() => {
        this.push(WELCOME);
        onWelcome(this);
      });
    }
    send(text) {
      const command = JSON.parse(text);
      hub.sent.push(command);
      queueMicrotask(() => this.push(replyTo(command, answer(command))));
    }
    push(push) {
      this.onmessage?.({ data: JSON.stringify(push) });
    }
    close() {}
  };
  return hub;
}

/** A value as soon as there is one. */
async function eventually(find) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const found = find();
    if (found) return found;
    assert.ok(Date.now() < deadline, `in time: ${find}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A client that is closed with the test. */
function open(context, options) {
  const hub = new Hub("http://hub.test", { random: () => 0.5, ...options });
  context.after(() => hub.close());
  return hub;
}

/** Listen to `prices` and note everything under the names of the wire. */
function listen(hub) {
  const came = [];
  hub.subscribe(
    "prices",
    ({ epoch, position, ...message }) => came.push({ op: "message", ...message }),
    {
      onGap: (gap) => came.push({ op: "gap", ...gap }),
      onPresence: (presence) => came.push(presence),
    },
  );
  return came;
}

test("golden pushes reach the application with every field", async (context) => {
  const fake = fakeHub();
  const came = listen(open(context, { WebSocket: fake.WebSocket, transports: ["websocket"] }));
  await eventually(() => fake.sent.find(({ op }) => op === "subscribe"));
  await new Promise((resolve) => setTimeout(resolve));
  for (const { wire } of PUSHES) fake.sockets[0].push(wire);
  await eventually(() => came.length >= PUSHES.length);
  assert.deepEqual(came, PUSHES.map(({ wire }) => wire));
});

const CALLS = {
  "subscribe, resuming and filling gaps": (hub) =>
    hub.subscribe("prices", () => {}, { since: "k3f9:41", fill: true }),
  "subscribe, the newest first": (hub) => hub.subscribe("chat:42", () => {}, { last: 50 }),
  "subscribe to what has some tags": (hub) =>
    hub.subscribe("games", () => {}, { filter: { league: "nba" } }),
  "subscribe, rows of a keyed channel first": (hub) =>
    hub.subscribe("prices", () => {}, { state: true, onState: () => {} }),
  "subscribe to a pattern": (hub) =>
    hub.subscribePattern("prices:*", () => {}, { last: 1, fill: true, filter: { league: "nba" } }),
  "subscribe to a pattern, resuming": (hub) =>
    hub.subscribePattern("prices:*", () => {}, { since: { "prices:eur": "k3f9:41" } }),
  "unsubscribe from a pattern": async (hub) => {
    await new Promise((onSubscribed) => {
      const subscription = hub.subscribePattern("prices:*", () => {}, {
        onSubscribed: () => onSubscribed(queueMicrotask(() => subscription.unsubscribe())),
      });
    });
  },
  unsubscribe: async (hub) => {
    await new Promise((onSubscribed) => {
      const subscription = hub.subscribe("prices", () => {}, {
        onSubscribed: () => onSubscribed(queueMicrotask(() => subscription.unsubscribe())),
      });
    });
  },
  "publish, not back to me": (hub) =>
    hub.publish("prices", { eur: 1.08 }, { key: "EURUSD", echo: false }),
  "publish with tags, the last of its channel, which takes a row away": (hub) =>
    hub.publish("prices", 1, { key: "EURUSD", tags: { desk: "fx" }, remove: true, end: true }),
  "publish what history holds for a minute, at most": (hub) => hub.publish("prices", 1, { ttlSeconds: 60 }),
  "publish what history does not hold": (hub) => hub.publish("prices", 1, { history: false }),
  history: (hub) => hub.history("prices", { since: "k3f9:40", limit: 2 }),
  "history, from a moment on": (hub) => hub.history("prices", { fromTime: 1764000000000 }),
  "history, backwards": (hub) => hub.history("prices", { fromTime: "2025-11-24T16:00:00Z", reverse: true, limit: 2 }),
  presence: (hub) => hub.presence("chat:42"),
  "presence, how many": (hub) => hub.presenceCount("chat:42"),
  "subscribe, saying something of oneself": (hub) =>
    hub.subscribe("chat:42", () => {}, { presence: { data: { mood: "fine" } } }),
  "subscribe, now and then": (hub) => hub.subscribe("prices", () => {}, { everyMs: 500 }),
  presence_update: (hub) => hub.presenceUpdate("chat:42", { mood: "busy" }),
  // By itself: it proves every connection.
  ping: (hub) => hub.subscribe("prices", () => {}),
};
const ELSEWHERE = {
  authenticate: "its test is below",
  "presence, the next page": "asked by itself, as often as the hub says that there is one",
  "publish, repeatable": "a page publishes once; backends repeat, and have the Python client",
};

test("each golden command is one that the client sends, or has a reason", () => {
  const names = golden("commands").map(({ name }) => name);
  assert.deepEqual([...Object.keys(CALLS), ...Object.keys(ELSEWHERE)].sort(), names.sort());
});

const withoutId = ({ id, ...wire }) => wire;

for (const [name, call] of Object.entries(CALLS)) {
  test(`a method sends the golden command: ${name}`, async (context) => {
    const fake = fakeHub();
    const expected = wireOf("commands", name);
    call(open(context, { WebSocket: fake.WebSocket, transports: ["websocket"] }));
    const sent = await eventually(() => fake.sent.find(({ op }) => op === expected.op));
    assert.deepEqual(withoutId(sent), withoutId(expected));
  });
}

test("at the golden warning it authenticates with the next token", async (context) => {
  const expected = wireOf("commands", "authenticate");
  const tokens = ["first", expected.token];
  const fake = fakeHub();
  listen(
    open(context, {
      WebSocket: fake.WebSocket,
      transports: ["websocket"],
      token: () => tokens.shift() ?? "none",
    }),
  );
  await eventually(() => fake.sent.find(({ op }) => op === "subscribe"));
  fake.sockets[0].push(wireOf("pushes", "expiring"));
  const sent = await eventually(() => fake.sent.find(({ op }) => op === expected.op));
  assert.deepEqual(withoutId(sent), withoutId(expected));
});

for (const name of ["publish", "publish, repeated", "history", "history, backwards", "presence"]) {
  test(`a golden reply is what the promise resolves with: ${name}`, async (context) => {
    const fake = fakeHub({ answer: ({ id }) => (id ? name : undefined) });
    const hub = open(context, { WebSocket: fake.WebSocket, transports: ["websocket"] });
    const call = name in CALLS ? name : "publish, not back to me";
    const { ok } = wireOf("replies", name);
    const position = call.startsWith("publish") ? { position: `${ok.epoch}:${ok.offset}` } : {};
    assert.deepEqual(await CALLS[call](hub), { ...ok, ...position });
  });
}

for (const name of ["refused", "refused for now"]) {
  test(`a golden error reply rejects with its code: ${name}`, async (context) => {
    const fake = fakeHub({ answer: ({ id }) => (id ? name : undefined) });
    const hub = open(context, { WebSocket: fake.WebSocket, transports: ["websocket"] });
    const { code, message, retryable } = wireOf("replies", name).error;
    await assert.rejects(hub.publish("news", 1), (error) => {
      assert.deepEqual([error.code, error.retryable], [code, retryable]);
      assert.ok(error.message.includes(message));
      return true;
    });
  });
}

/** A fetch that notes what is asked; `answer` says what a GET gets, otherwise it waits. */
function fakeFetch(answer) {
  const asked = [];
  const fetch = async (url, { method, headers, body, signal }) => {
    const command = method === "POST" ? JSON.parse(body) : undefined;
    asked.push({ url: new URL(url), headers: new Headers(headers), command });
    if (command) return Response.json(replyTo(command));
    const given = answer(asked.length);
    return given ?? new Promise((_, no) => signal.addEventListener("abort", () => no(signal.reason)));
  };
  return { asked, fetch };
}

test("golden blocks reach the application, and commands carry the golden secret", async (context) => {
  const text = new TextEncoder();
  let stream;
  const body = new ReadableStream({ start: (controller) => (stream = controller) });
  const tell = (block) => stream.enqueue(text.encode(block));
  const headers = { "Content-Type": "text/event-stream" };
  const { asked, fetch } = fakeFetch(() => new Response(body, { headers }));
  const told = PUSHES.filter(({ sse }) => sse);
  tell(named("pushes", "welcome").sse);
  const came = listen(open(context, { fetch, transports: ["sse"] }));
  // What a ping asks over SSE is whether the stream works: there it is answered.
  const ping = await eventually(() => asked.find(({ command }) => command?.op === "ping"));
  tell(`event: reply\ndata: ${JSON.stringify(replyTo(ping.command))}\n\n`);
  for (const { sse } of [named("pushes", "subscribed"), ...told]) tell(sse);
  await eventually(() => came.length >= told.length);
  assert.deepEqual(came, told.map(({ wire }) => wire));
  assert.equal(asked[0].url.pathname, "/sse");
  assert.equal(ping.url.searchParams.get("connection"), WELCOME.connection);
  assert.equal(ping.headers.get("authorization"), `Bearer ${WELCOME.secret}`);
});

test("a golden answer to a poll reaches the application, and the next poll goes on", async (context) => {
  const wire = wireOf("polls", "an answer of a session");
  const { asked, fetch } = fakeFetch((times) => (times === 1 ? Response.json(wire) : undefined));
  const came = [];
  open(context, { fetch, transports: ["poll"] }).subscribe(
    "prices",
    ({ offset }) => came.push(offset),
    { since: "k3f9:41", onGap: ({ from, to }) => came.push(`${from}-${to}`) },
  );
  const next = await eventually(() => asked.filter(({ command }) => !command)[1]);
  await eventually(() => came.length === 2);
  assert.deepEqual(came, [42, "45-57"]);
  const { searchParams } = next.url;
  assert.equal(next.url.pathname, "/poll");
  assert.equal(searchParams.get("since"), `prices=${wire.positions.prices}`);
  assert.equal(searchParams.get("connection"), wire.welcome.connection);
  assert.equal(next.headers.get("authorization"), `Bearer ${wire.welcome.secret}`);
});

for (const { code, reconnect } of golden("closes")) {
  test(`after close code ${code} the client ${reconnect ? "comes back" : "does not"}`, async (context) => {
    const fake = fakeHub();
    const hub = open(context, { WebSocket: fake.WebSocket, transports: ["websocket"] });
    const states = [];
    hub.on("state", (state) => states.push(state));
    listen(hub);
    await eventually(() => states.find(({ state }) => state === "connected"));
    fake.sockets[0].onclose({ code, reason: "" });
    const { state } = await eventually(() => states.find((each) => each.code === code));
    assert.equal(state, reconnect ? "waiting" : "closed");
  });
}

test("each golden push is one that the client understands", () => {
  const understood = [...OF_A_CHANNEL, "welcome", "subscribed", "state", "unsubscribed", "heartbeat", "expiring", "goodbye"];
  const ops = new Set(golden("pushes").map(({ wire }) => wire.op));
  assert.deepEqual([...ops].sort(), understood.sort());
});

test("the golden end of a subscription is told with its reason, and not asked for again", async (context) => {
  const { channel, reason, op } = wireOf("pushes", "unsubscribed");
  const fake = fakeHub();
  const hub = open(context, { WebSocket: fake.WebSocket, transports: ["websocket"] });
  const asked = () => fake.sent.filter((command) => command.op === "subscribe").length;
  const error = new Promise((onError) => hub.subscribe(channel, () => {}, { onError }));
  await eventually(asked);
  await new Promise((resolve) => setTimeout(resolve));
  fake.sockets[0].push({ op, channel, reason });
  const { code, retryable, message } = await error;
  assert.deepEqual([code, retryable], ["unsubscribed", false]);
  assert.ok(message.includes(reason));
  await hub.history(channel);
  assert.equal(asked(), 1);
});

test("what the application gives with its yes is handed on", async (context) => {
  const fake = fakeHub({ answer: ({ op }) => (op === "subscribe" ? "subscribe, with what the application gives" : undefined) });
  const push = fake.WebSocket.prototype.push;
  const welcome = wireOf("pushes", "welcome, with what the application gives");
  fake.WebSocket.prototype.push = function (said) {
    push.call(this, said.op === "welcome" ? welcome : said);
  };
  const hub = open(context, { WebSocket: fake.WebSocket, transports: ["websocket"] });
  const states = [];
  hub.on("state", (state) => states.push(state));
  const told = await new Promise((onSubscribed) => hub.subscribe("prices", () => {}, { onSubscribed }));
  assert.deepEqual(told.data, { title: "Prices" });
  const later = await new Promise((onSubscribed) => hub.subscribe("prices", () => {}, { onSubscribed }));
  assert.deepEqual(later.data, { title: "Prices" });
  assert.deepEqual(hub.data, { plan: "pro" });
  assert.deepEqual(states.find(({ state }) => state === "connected").data, { plan: "pro" });
});

test("the golden goodbye decides when to come back", async (context) => {
  const fake = fakeHub();
  const hub = open(context, { WebSocket: fake.WebSocket, transports: ["websocket"] });
  const states = [];
  hub.on("state", (state) => states.push(state));
  listen(hub);
  await eventually(() => states.find(({ state }) => state === "connected"));
  const goodbye = wireOf("pushes", "goodbye, come back");
  fake.sockets[0].push(goodbye);
  fake.sockets[0].onclose({ code: goodbye.code, reason: goodbye.reason });
  const { retryInMs } = await eventually(() => states.find(({ state }) => state === "waiting"));
  // Half of the window, by `random`; without it the first back-off would be below a second.
  assert.ok(retryInMs > 1500 && retryInMs <= goodbye.reconnect_within_ms / 2, retryInMs);
});

for (const name of ["unauthorized", "forbidden", "too_large"]) {
  test(`a golden problem ends the client with its close code: ${name}`, async (context) => {
    const { wire } = named("problems", name);
    const headers = { "Content-Type": "application/problem+json" };
    const refuse = async () => new Response(JSON.stringify(wire), { status: wire.status, headers });
    const hub = open(context, { fetch: refuse, transports: ["sse"] });
    const states = [];
    hub.on("state", (state) => states.push(state));
    listen(hub);
    const { code, reason } = await eventually(() => states.find(({ state }) => state === "closed"));
    const { code: expected } = golden("closes").find((close) => close.name === name);
    assert.deepEqual([code, reason], [expected, wire.detail]);
  });
}
