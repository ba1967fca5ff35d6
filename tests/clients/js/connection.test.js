import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { backoff } from "../../../clients/js/src/backoff.js";
import { connect, fakeWire, mockTime, pass, realTime, settle, WELCOME } from "./fakes.js";

/** @type {ReturnType<typeof mockTime>} */
let time;
beforeEach(() => (time = mockTime()));
afterEach(realTime);

const names = (states) => states.map(({ state, transport }) => `${state} ${transport}`);

test("back-off is random up to a ceiling that doubles to 30 s and starts over after a reset", () => {
  const pause = backoff(() => 1);
  assert.deepEqual(Array.from({ length: 7 }, pause.next), [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  pause.reset();
  assert.equal(pause.next(), 1000);
  assert.equal(backoff(() => 0.25).next(), 250);
});

for (const webSocket of ["throws", "refuses"]) {
  test(`SSE is tried at once when WebSocket ${webSocket}`, async () => {
    const wire = fakeWire(webSocket);
    const { hub, states } = connect(wire);
    hub.subscribe("a", () => {});
    await settle();
    wire.streams[0].push(WELCOME);
    await settle();
    assert.deepEqual(names(states), ["connecting websocket", "connecting sse", "connected sse"]);
    hub.close();
  });
}

test("a WebSocket that opens and brings no welcome is given up after the probe time", async () => {
  const wire = fakeWire("silent");
  const { hub } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  await pass(4999);
  assert.equal(wire.streams.length, 0);
  await pass(1);
  assert.equal(wire.streams.length, 1);
  assert.equal(wire.sockets[0].open, false);
  hub.close();
});

test("welcome and pong have the probe time each: a slow link is no blocked one", async () => {
  const wire = fakeWire("silent");
  const { hub } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  await pass(4000);
  wire.sockets[0].push(WELCOME);
  await pass(4000);
  wire.sockets[0].pong();
  assert.equal(hub.state, "connected");
  assert.equal(wire.streams.length, 0);
  hub.close();
});

test("a transport that worked is tried again before another one", async () => {
  const wire = fakeWire();
  const { hub, states } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  wire.webSocket = "refuses";
  wire.status = 0;
  wire.sockets[0].end(1012);
  await pass(500);
  assert.equal(states.at(-1).state, "waiting");
  assert.equal(states.at(-1).transport, "websocket");
  wire.webSocket = "welcomes";
  await pass(1000);
  assert.deepEqual(names(states).at(-1), "connected websocket");
  hub.close();
});

test("a silence of one and a half heartbeats is a lost connection", async () => {
  const wire = fakeWire();
  const { hub, states } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  await pass(20000);
  wire.sockets[0].push({ op: "heartbeat" });
  await pass(29999);
  assert.equal(hub.state, "connected");
  await pass(1);
  assert.equal(states.at(-1).reason, "no heartbeat");
  assert.equal(wire.sockets[0].open, false);
  hub.close();
});

test("a goodbye moves the client at a random moment of its window, not before", async () => {
  const wire = fakeWire();
  const { hub, states } = connect(wire);
  const seen = [];
  hub.subscribe("a", ({ offset }) => seen.push(offset));
  await settle();
  const [old] = wire.sockets;
  old.confirm("a", "e:0");
  old.push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 8000 });
  await pass(2000);
  old.message("a", 1);
  old.end(1012);
  assert.deepEqual(states.at(-1), { state: "waiting", transport: "websocket", code: 1012, reason: "", retryInMs: 2000 });
  await pass(1999);
  assert.equal(wire.sockets.length, 1);
  await pass(1);
  assert.equal(wire.sockets[1].asked("subscribe")[0].since, "e:1");
  assert.deepEqual(seen, [1]);
  hub.close();
});

test("a close code of the client's fault ends everything", async () => {
  const wire = fakeWire();
  const { hub, states } = connect(wire);
  const errors = [];
  hub.subscribe("a", () => {}, { onError: ({ message }) => errors.push(message) });
  await settle();
  wire.sockets[0].end(4403, "no grant");
  await pass(60000);
  assert.deepEqual(states.at(-1), { state: "closed", transport: "websocket", code: 4403, reason: "no grant" });
  assert.deepEqual(errors, ["no grant"]);
  assert.equal(wire.sockets.length, 1);
  await assert.rejects(hub.publish("a", 1), { code: "closed" });
});

test("a token function is asked once more after a 4401, and before the token ends", async () => {
  const wire = fakeWire("silent");
  const tokens = ["t1", "t2", "t3", "t4"];
  const { hub } = connect(wire, { token: async () => tokens.shift() });
  hub.subscribe("a", () => {});
  await settle();
  wire.sockets[0].end(4401);
  await settle();
  assert.equal(wire.sockets[1].url.searchParams.get("token"), "t2");
  wire.sockets[1].push(WELCOME);
  wire.sockets[1].pong();
  wire.sockets[1].push({ op: "expiring", in_seconds: 60 });
  await settle();
  assert.equal(wire.sockets[1].asked("authenticate")[0].token, "t3");
  wire.sockets[1].end(4401);
  assert.equal(hub.state, "closed");
});

test("coming online ends a wait at once and asks a quiet connection for a pong", async () => {
  const target = new EventTarget();
  globalThis.addEventListener = target.addEventListener.bind(target);
  globalThis.removeEventListener = target.removeEventListener.bind(target);
  try {
    const wire = fakeWire();
    const { hub } = connect(wire);
    hub.subscribe("a", () => {});
    await settle();
    await pass(1000);
    wire.webSocket = "deaf";
    target.dispatchEvent(new Event("online"));
    assert.equal(wire.sockets[0].pings, 2); // the first proved the connection
    await pass(5000);
    assert.equal(hub.state, "waiting");
    wire.webSocket = "welcomes";
    target.dispatchEvent(new Event("online"));
    await settle();
    assert.equal(hub.state, "connected");
    hub.close();
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
});

test("who comes online after a long while and fails once more waits as after a first failure", async () => {
  const target = new EventTarget();
  globalThis.addEventListener = target.addEventListener.bind(target);
  try {
    const wire = fakeWire("refuses");
    const { hub, states } = connect(wire, { transports: ["websocket"] });
    hub.subscribe("a", () => {});
    await settle();
    for (const delay of [500, 1000, 2000]) await pass(delay);
    assert.equal(states.at(-1).retryInMs, 4000);
    target.dispatchEvent(new Event("online"));
    await settle();
    assert.equal(states.at(-1).retryInMs, 500);
    hub.close();
  } finally {
    delete globalThis.addEventListener;
  }
});

test("closing leaves no timer behind", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  hub.subscribe("a", () => {});
  hub.publish("a", 1).catch(() => {});
  await settle();
  hub.close();
  await pass(3600000);
  assert.equal(wire.sockets.length, 1);
  assert.equal(wire.streams.length, 0);
  assert.equal(hub.state, "closed");
});

test("commands wait for a connection, resolve with the reply, and fail when it breaks", async () => {
  const wire = fakeWire("silent");
  const { hub } = connect(wire);
  const published = hub.subscribe("a", () => {}).publish({ eur: 1 }, { key: "k", echo: false });
  const history = hub.history("a", { limit: 2 });
  await settle();
  const [socket] = wire.sockets;
  socket.push(WELCOME);
  assert.deepEqual(socket.sent, []);
  socket.pong();
  assert.deepEqual(socket.sent.map(({ op }) => op), ["subscribe", "publish", "history"]);
  const [publish] = socket.asked("publish");
  assert.deepEqual(publish, { op: "publish", channel: "a", data: { eur: 1 }, key: "k", echo: false, id: publish.id });
  socket.reply(publish, { offset: 1, epoch: "e" });
  assert.deepEqual(await published, { offset: 1, epoch: "e", position: "e:1" });
  socket.end(1006);
  await assert.rejects(history, { code: "disconnected", retryable: true });
  hub.close();
});

test("what JSON cannot say is rejected at once and holds up no other command", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const data = { eur: 1 };
  const broken = assert.rejects(hub.publish("a", 10n), TypeError);
  const published = hub.publish("a", data);
  data.eur = 2; // what was published is what it was then
  await settle();
  await broken;
  const [socket] = wire.sockets;
  assert.deepEqual(socket.asked("publish").map((command) => command.data), [{ eur: 1 }]);
  socket.reply(socket.asked("publish")[0], { offset: 1, epoch: "e" });
  assert.equal((await published).position, "e:1");
  hub.close();
});

for (const [what, clocks] of [["also where only the wall clock counts it", "wall"], ["", "both"]]) {
  test(`a machine that slept asks for a pong at the next look at the clock ${what}`, async () => {
    const wire = fakeWire();
    const { hub, states } = connect(wire);
    hub.subscribe("a", () => {});
    await settle();
    await pass(5000);
    wire.webSocket = "deaf";
    if (clocks === "wall") time.setWall(3600000);
    else time.sleep(3600000);
    await pass(5000);
    assert.equal(hub.state, "connected");
    await pass(5000);
    assert.deepEqual(states.at(-1).reason, "no answer");
    wire.webSocket = "welcomes";
    await pass(500);
    assert.equal(hub.state, "connected");
    assert.equal(wire.sockets.length, 2);
    hub.close();
  });
}

for (const jump of [3600000, -3600000]) {
  test(`a wall clock that is set by ${jump} ms cuts nobody, and hides no silence`, async () => {
    const wire = fakeWire();
    const { hub, states } = connect(wire);
    hub.subscribe("a", () => {});
    await settle();
    await pass(5000);
    time.setWall(jump);
    await pass(5000);
    assert.equal(wire.sockets[0].pings, 2); // it may as well have slept
    await pass(20000);
    assert.deepEqual(names(states), ["connecting websocket", "connected websocket"]);
    wire.webSocket = "deaf";
    await pass(10000);
    assert.equal(states.at(-1).reason, "no heartbeat");
    hub.close();
  });
}

test("a token that takes long is no transport's fault, and is asked for once", async () => {
  const wire = fakeWire("silent");
  let asked = 0;
  let grant = () => {};
  const token = () => new Promise((resolve) => ((asked += 1), (grant = resolve)));
  const { hub, states } = connect(wire, { token });
  hub.subscribe("a", () => {});
  await settle();
  await pass(40000);
  assert.equal(asked, 1);
  assert.deepEqual(names(states), ["connecting websocket"]);
  grant("t1");
  await settle();
  await pass(4999);
  assert.equal(wire.streams.length, 0);
  await pass(1); // silent: the next transport has its turn, with the same token
  assert.equal(wire.streams[0].url.searchParams.get("token"), "t1");
  assert.equal(asked, 1);
  wire.streams[0].push(WELCOME);
  await settle();
  assert.equal(hub.transport, "sse");
  hub.close();
});

test("a token that does not come is asked for again after a pause, by the same transport", async () => {
  const wire = fakeWire();
  const answers = [() => new Promise(() => {}), () => Promise.reject(new Error("cold")), () => { throw new Error("no"); }, () => "t1"];
  const { hub, states } = connect(wire, { token: () => answers.shift()() });
  hub.subscribe("a", () => {});
  await settle();
  await pass(60000);
  assert.deepEqual(states.at(-1), { state: "waiting", transport: "websocket", code: 1006, reason: "no token", retryInMs: 500 });
  await pass(500);
  assert.equal(states.at(-1).reason, "Error: cold");
  await pass(1000);
  assert.equal(states.at(-1).reason, "Error: no");
  await pass(2000);
  assert.equal(hub.state, "connected");
  assert.deepEqual([...new Set(names(states))], ["connecting websocket", "waiting websocket", "connected websocket"]);
  assert.equal(wire.sockets.length, 1);
  hub.close();
});

test("a token that has not begun is tried again until it has", async () => {
  const wire = fakeWire("silent");
  const { hub, states } = connect(wire, { token: "early", transports: ["websocket"] });
  hub.subscribe("a", () => {});
  await settle();
  for (const delay of [500, 1000, 2000]) {
    wire.sockets.at(-1).push({ op: "goodbye", code: 1013, reason: "token is not valid for another 20 seconds" });
    wire.sockets.at(-1).end(1013, "token is not valid for another 20 seconds");
    assert.equal(states.at(-1).retryInMs, delay);
    await pass(delay);
  }
  wire.sockets.at(-1).push(WELCOME);
  wire.sockets.at(-1).pong();
  assert.equal(hub.state, "connected");
  hub.close();
});

test("a socket that tells of its end from within close ends one attempt, not two", async () => {
  const wire = fakeWire("silent");
  wire.WebSocket = class extends wire.WebSocket {
    close() {
      super.close();
      this.onerror?.({ message: "closed before it was open" }); // as in the npm package ws, and Node
      this.onclose?.({ code: 1006, reason: "" });
    }
  };
  const { hub, states } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  wire.sockets[0].onerror({ message: "Unexpected server response: 403" });
  await settle();
  assert.equal(wire.streams.length, 1);
  wire.streams[0].push(WELCOME);
  await settle();
  assert.deepEqual(names(states), ["connecting websocket", "connecting sse", "connected sse"]);
  await pass(20000); // and so beside a connection that works
  assert.equal(wire.streams.length, 1);
  assert.equal(wire.polls.length, 0);
  hub.close();
});

test("what is for ever is no timer that is due at once", async () => {
  const wire = fakeWire("refuses");
  const { hub } = connect(wire, { betterMs: Infinity });
  hub.subscribe("a", () => {});
  await settle();
  wire.streams[0].push(WELCOME);
  await settle();
  await pass(20000);
  assert.equal(wire.sockets.length, 1);
  wire.streams[0].push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 1e300 });
  await settle();
  await pass(20000);
  assert.equal(wire.streams.length, 1);
  hub.close();
});

test("a command without a reply fails in ten seconds", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const asked = hub.presence("a");
  let failed = false;
  asked.catch(() => (failed = true));
  await settle();
  wire.sockets[0].push({ op: "heartbeat" });
  await pass(9999);
  assert.equal(failed, false);
  await pass(1);
  await assert.rejects(asked, { code: "timeout", retryable: true });
  hub.close();
});

test("publications beyond 256 under way wait for their turn, in order, for as long as it takes", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  await settle();
  const published = Array.from({ length: 600 }, (_, n) => hub.publish("a", n));
  await settle();
  const [socket] = wire.sockets;
  const sent = () => socket.asked("publish");
  assert.equal(sent().length, 256);
  hub.subscribe("b", () => {});
  await settle();
  assert.equal(socket.asked("subscribe").length, 1, "a subscription does not wait behind them");
  socket.reply(sent()[0], { epoch: "e", offset: 1 });
  socket.confirm("b", "e:0");
  for (let at = 1; at < 600; at += 1) {
    if (at % 100 === 0) {
      await pass(2000);
      socket.push({ op: "heartbeat" });
    }
    socket.reply(sent()[at], { epoch: "e", offset: at + 1 });
  }
  assert.deepEqual((await Promise.all(published)).map(({ offset }) => offset), sent().map((_, at) => at + 1));
  assert.deepEqual(sent().map(({ data }) => data), published.map((_, n) => n));
  hub.close();
});

test("a command that stands behind others has its ten seconds from the reply before its own", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  await settle();
  const published = [0, 1, 2].map((n) => hub.publish("a", n));
  await settle();
  const [socket] = wire.sockets;
  for (const at of [0, 1, 2]) {
    await pass(9000);
    socket.push({ op: "heartbeat" });
    socket.reply(socket.asked("publish")[at], { epoch: "e", offset: at + 1 });
  }
  assert.deepEqual((await Promise.all(published)).map(({ offset }) => offset), [1, 2, 3]);
  const lost = hub.publish("a", 3);
  const later = hub.publish("a", 4);
  await settle();
  await pass(5000);
  socket.reply(socket.asked("publish")[4], { epoch: "e", offset: 5 });
  assert.equal((await later).offset, 5);
  const failed = assert.rejects(lost, { code: "timeout" });
  await pass(5000);
  await failed;
  hub.close();
});

test("what is subscribed to before many publications gets the first of them", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  for (const channel of ["a", "b"]) hub.subscribe(channel, () => {});
  for (let n = 0; n < 600; n += 1) hub.publish("a", n).catch(() => {});
  await settle();
  const ops = wire.sockets[0].sent.map(({ op }) => op);
  assert.deepEqual(ops.slice(0, 3), ["subscribe", "subscribe", "publish"]);
  hub.subscribe("c", () => {}).unsubscribe();
  hub.subscribe("d", () => {});
  wire.sockets[0].end(1006);
  await pass(500);
  const again = wire.sockets[1].sent.slice(0, 4).map(({ op, channel }) => [op, channel]);
  assert.deepEqual(again, [["subscribe", "a"], ["subscribe", "b"], ["subscribe", "d"], ["publish", "a"]]);
  hub.close();
});

// A page may be 1 MiB, and the hub closes a session that does not take its replies.
test("pages of history are asked for one after the other, and hold nothing else up", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  await settle();
  const pages = ["a", "b", "c"].map((channel) => hub.history(channel));
  const published = hub.publish("a", 1);
  await settle();
  const [socket] = wire.sockets;
  assert.deepEqual(socket.sent.map(({ op, channel }) => [op, channel]), [["history", "a"], ["publish", "a"]]);
  socket.reply(socket.asked("publish")[0], { epoch: "e", offset: 1 });
  await published;
  socket.reply(socket.asked("history")[0], { channel: "a" });
  assert.equal(socket.asked("history").length, 2);
  socket.end(1006);
  await assert.rejects(pages[1], { code: "disconnected" });
  await pass(500);
  const [last] = wire.sockets[1].asked("history");
  wire.sockets[1].reply(last, { channel: "c" });
  assert.deepEqual(await Promise.all([pages[0], pages[2]]), [{ channel: "a" }, { channel: "c" }]);
  hub.close();
});

test("what waits for its turn goes by the next connection, and is rejected when the hub is closed", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  await settle();
  const published = Array.from({ length: 600 }, (_, n) => hub.publish("a", n));
  published.forEach((each) => each.catch(() => {})); // each is looked at below
  await settle();
  wire.sockets[0].end(1006);
  await assert.rejects(published[0], { code: "disconnected" });
  await assert.rejects(published[255], { code: "disconnected" });
  await pass(500);
  assert.equal(wire.sockets[1].asked("publish")[0].data, 256);
  hub.close();
  await assert.rejects(published[256], { code: "closed" });
  await assert.rejects(published[599], { code: "closed" });
});
