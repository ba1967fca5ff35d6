/** From one connection to the next: transports, nodes and pages, without a moment in between. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle, subscribed, WELCOME } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

/** A client on SSE, because WebSocket is refused, with one channel at e:4. */
async function onSse(wire, options) {
  wire.webSocket = "refuses";
  const seen = [];
  const gaps = [];
  const { hub, states } = connect(wire, options);
  hub.subscribe("a", ({ offset, data }) => seen.push(offset ?? data), { onGap: (gap) => gaps.push(gap) });
  await settle();
  const [stream] = wire.streams;
  stream.push(WELCOME);
  await settle();
  stream.push(subscribed("a", "e:4"));
  await settle();
  return { hub, states, seen, gaps, stream, message: (offset) => stream.push({ op: "message", channel: "a", offset, data: offset }) };
}

test("a WebSocket that takes frames and brings none back is not used: nothing is sent on it", async () => {
  const wire = fakeWire("deaf");
  const { hub } = connect(wire);
  const published = hub.subscribe("a", () => {}).publish(1);
  await settle();
  await pass(5000);
  assert.deepEqual(wire.sockets[0].sent, []);
  assert.equal(wire.sockets[0].open, false);
  wire.streams[0].push(WELCOME);
  await settle();
  assert.equal((await published).done, "publish");
  assert.equal(hub.transport, "sse");
  hub.close();
});

test("a better transport takes over once it proved itself, and nothing is lost or repeated", async () => {
  const wire = fakeWire();
  const { hub, states, seen, message } = await onSse(wire);
  message(5);
  await settle();
  wire.webSocket = "silent";
  await pass(5000);
  const socket = wire.sockets.at(-1);
  assert.equal(wire.sockets.length, 2);
  assert.equal(hub.state, "connected");
  assert.equal(hub.transport, "sse");
  message(6);
  await settle();
  socket.push(WELCOME);
  socket.pong();
  await settle();
  assert.equal(hub.transport, "websocket");
  assert.equal(socket.asked("subscribe")[0].since, "e:6");
  message(7); // the old connection still brings what the new one does not carry yet
  await settle();
  socket.confirm("a", "e:6");
  socket.message("a", 7);
  socket.message("a", 8);
  message(8);
  await settle();
  assert.deepEqual(seen, [5, 6, 7, 8]);
  assert.deepEqual(states.map(({ state }) => state).filter((state) => state === "waiting"), []);
  await pass(2000);
  assert.equal(wire.streams[0].open, false);
  assert.equal(wire.sockets.length, 2);
  hub.close();
});

test("what has no offset comes from one connection only while there are two", async () => {
  const wire = fakeWire();
  const { hub, seen, stream } = await onSse(wire);
  wire.webSocket = "welcomes";
  await pass(5000);
  const socket = wire.sockets.at(-1);
  const raw = (data) => ({ op: "message", channel: "a", data });
  stream.push(raw("old"));
  await settle();
  socket.confirm("a", "e:4");
  socket.push(raw("new"));
  stream.push(raw("new"));
  await settle();
  assert.deepEqual(seen, ["old", "new"]);
  hub.close();
});

test("a reset that both connections bring counts once, one that came after a new epoch does not repeat it", async () => {
  const wire = fakeWire();
  const { hub, seen, gaps, stream, message } = await onSse(wire);
  wire.webSocket = "welcomes";
  await pass(5000);
  const socket = wire.sockets.at(-1);
  const reset = { op: "gap", channel: "a", epoch: "f", position: "f:0", reason: "reset" };
  stream.push(reset);
  message(1);
  message(2);
  await settle();
  socket.confirm("a", "f:0", { recovered: false });
  socket.push(reset);
  for (const offset of [1, 2, 3]) socket.message("a", offset);
  await settle();
  assert.deepEqual(seen, [1, 2, 3]);
  assert.deepEqual(gaps.map(({ reason }) => reason), ["reset"]);
  hub.close();
});

test("a better transport that fails is tried less and less often, and costs nothing", async () => {
  const wire = fakeWire();
  const { hub, states } = await onSse(wire, { betterMs: 1000 });
  const before = states.length;
  const tried = () => wire.sockets.length - 1;
  for (const [delay, times] of [[500, 1], [999, 1], [1, 2], [1999, 2], [1, 3]]) {
    await pass(delay);
    assert.equal(tried(), times);
  }
  assert.equal(states.length, before);
  assert.equal(hub.state, "connected");
  wire.webSocket = "welcomes";
  await pass(4000);
  assert.equal(hub.transport, "websocket");
  wire.webSocket = "refuses";
  wire.sockets.at(-1).end(1006);
  for (const delay of [500, 1000, 2000]) await pass(delay);
  wire.streams.at(-1).push(WELCOME);
  await settle();
  assert.equal(hub.transport, "sse");
  const after = tried();
  await pass(500); // as soon as at first
  assert.equal(tried(), after + 1);
  hub.close();
});

test("a goodbye's window moves the client before the hub closes, without a moment between", async () => {
  const wire = fakeWire();
  const { hub, states } = connect(wire);
  const seen = [];
  hub.subscribe("a", ({ offset }) => seen.push(offset));
  await settle();
  const [old] = wire.sockets;
  old.confirm("a", "e:0");
  old.push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 8000 });
  await pass(4000);
  const next = wire.sockets[1];
  assert.equal(old.open, true);
  old.message("a", 1);
  next.confirm("a", "e:0");
  next.message("a", 1);
  next.message("a", 2);
  await pass(2000);
  assert.equal(old.open, false);
  old.message("a", 3); // the connection before is over
  old.end(1012);
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "connected", "connected"]);
  hub.close();
});

test("a node that refuses the move leaves the client where it is until it closes", async () => {
  const wire = fakeWire();
  const { hub, states } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  const [old] = wire.sockets;
  wire.webSocket = "refuses";
  old.push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 1000 });
  await pass(500);
  assert.equal(wire.sockets.length, 2);
  assert.equal(hub.state, "connected");
  wire.webSocket = "welcomes";
  await pass(500);
  assert.equal(wire.sockets.length, 3);
  assert.equal(states.at(-1).state, "connected");
  assert.equal(wire.streams.length, 0);
  hub.close();
});

test("a transport that worked is tried three times before the next one", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  wire.webSocket = "refuses";
  wire.sockets[0].end(1006);
  for (const delay of [500, 1000]) {
    await pass(delay);
    assert.equal(wire.streams.length, 0);
    assert.equal(hub.state, "waiting");
  }
  await pass(2000);
  assert.equal(wire.streams.length, 1);
  hub.close();
});

test("from polling SSE is taken where WebSocket stays blocked", async () => {
  const wire = fakeWire("refuses");
  wire.status = 0;
  const { hub } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  assert.equal(hub.state, "waiting");
  wire.status = 200;
  wire.holdsBack = true;
  await pass(500);
  wire.streams[0].push(WELCOME);
  await settle();
  await pass(5000);
  wire.polls[0].answer([], {});
  await settle();
  wire.polls[1].answer([{ op: "reply", id: 0, ok: {} }], {});
  await settle();
  assert.equal(hub.transport, "poll");
  wire.holdsBack = false;
  await pass(5000);
  wire.streams[1].push(WELCOME);
  await settle();
  assert.equal(hub.transport, "sse");
  assert.equal(hub.state, "connected");
  hub.close();
});

/** What `localStorage` is to a page. */
function fakeStorage() {
  const items = new Map();
  return { items, getItem: (key) => items.get(key) ?? null, setItem: (key, text) => void items.set(key, text) };
}

test("the next page begins with the transport that worked, for an hour", async () => {
  const storage = fakeStorage();
  const first = await onSse(fakeWire(), { storage });
  first.hub.close();
  const wire = fakeWire("refuses");
  const second = connect(wire, { storage });
  second.hub.subscribe("a", () => {});
  await settle();
  assert.equal(wire.sockets.length, 0);
  assert.equal(wire.streams.length, 1);
  second.hub.close();
  await pass(3600000);
  const later = fakeWire();
  const third = connect(later, { storage });
  third.hub.subscribe("a", () => {});
  await settle();
  assert.equal(later.sockets.length, 1);
  third.hub.close();
});

test("a transport that is remembered for longer than an hour is not: the clock was set since", async () => {
  const { WebSocket, fetch } = fakeWire();
  const storage = { ...fakeStorage(), getItem: () => `sse ${Date.now() + 7200000}` };
  const { hub } = connect({ WebSocket, fetch }, { storage });
  hub.subscribe("a", () => {});
  await settle();
  assert.equal(hub.transport, "websocket");
  hub.close();
});

test("a storage that is forbidden, or holds something else, is no obstacle", async () => {
  const forbidden = { getItem: () => assert.fail("forbidden"), setItem: () => assert.fail("forbidden") };
  for (const storage of [forbidden, { ...fakeStorage(), getItem: () => "nonsense 9999999999999" }]) {
    const wire = fakeWire();
    const { hub } = connect(wire, { storage });
    hub.subscribe("a", () => {});
    await settle();
    assert.equal(hub.transport, "websocket");
    assert.equal(hub.state, "connected");
    hub.close();
  }
});
