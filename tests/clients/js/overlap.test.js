/** What must not go wrong while two connections, or two subscriptions, of a channel meet. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle, subscribed, WELCOME } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

/** A client with two sockets: the node of the first has said goodbye, the second took over. */
async function moved(options) {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const told = [];
  const onGap = ({ reason, from, to }) => told.push([reason, from, to]);
  hub.subscribe("a", ({ position }) => told.push(position), { onGap, ...options });
  await settle();
  const [old] = wire.sockets;
  old.confirm("a", "e:4");
  old.push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 2 });
  await pass(1);
  return { wire, hub, told, old, next: wire.sockets[1] };
}

test("a message of the epoch before is not taken for one of the new epoch", async () => {
  const { hub, told, old, next } = await moved();
  next.confirm("a", "f:0", { recovered: false });
  next.push({ op: "gap", channel: "a", epoch: "f", position: "f:0", reason: "reset" });
  old.message("a", 5);
  next.message("a", 1);
  assert.deepEqual(told, [["reset", undefined, undefined], "f:1"]);
  hub.close();
});

test("a gap names only what is missing here: the other connection brought the beginning", async () => {
  const { hub, told, old, next } = await moved();
  next.confirm("a", "e:4");
  old.message("a", 5);
  next.push({ op: "gap", channel: "a", epoch: "e", from: 5, to: 7, reason: "slow" });
  next.push({ op: "gap", channel: "a", epoch: "e", from: 5, to: 7, reason: "slow" });
  assert.deepEqual(told, ["e:5", ["slow", 6, 7]]);
  hub.close();
});

test("a reset within one epoch moves back: the hub has less than this client", async () => {
  const { hub, told, next } = await moved();
  next.confirm("a", "e:2", { recovered: false });
  next.push({ op: "gap", channel: "a", epoch: "e", position: "e:2", reason: "reset" });
  next.message("a", 3);
  assert.deepEqual(told, [["reset", undefined, undefined], "e:3"]);
  hub.close();
});

test("a subscription that was to be asked for again is not asked for on two connections", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const errors = [];
  hub.subscribe("a", () => {}, { onError: (error) => errors.push(error) });
  await settle();
  const [old] = wire.sockets;
  const [{ id }] = old.asked("subscribe");
  old.push({ op: "reply", id, error: { code: "unavailable", message: "", retryable: true } });
  await settle();
  old.push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 1800 });
  await pass(900);
  wire.sockets[1].confirm("a", "e:0");
  await pass(4000);
  assert.equal(wire.sockets[1].asked("subscribe").length, 1);
  assert.deepEqual(errors, []);
  hub.close();
});

test("a channel that is left and taken up again starts where the hub says, not before", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const seen = [];
  const first = hub.subscribe("a", () => {});
  hub.subscribe("b", () => {});
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:4");
  first.unsubscribe();
  hub.subscribe("a", ({ offset }) => seen.push(offset), { since: "e:2" });
  socket.message("a", 5); // owed to the first
  socket.confirm("a", "e:2");
  for (const offset of [3, 4, 5]) socket.message("a", offset);
  assert.deepEqual(seen, [3, 4, 5]);
  hub.close();
});

test("a reply that is lost does not end a subscription that the stream has confirmed", async () => {
  const wire = fakeWire();
  wire.losesReplies = true;
  const { hub } = connect(wire, { transports: ["sse"] });
  const errors = [];
  hub.subscribe("a", () => {}, { onError: (error) => errors.push(error) });
  await settle();
  wire.streams[0].push(WELCOME);
  wire.streams[0].push(subscribed("a", "e:4"));
  await settle();
  await pass(4000);
  assert.equal(wire.posts.length, 1);
  assert.deepEqual(errors, []);
  hub.close();
});

test("a page that becomes hidden asks for nothing", async () => {
  const target = new EventTarget();
  globalThis.addEventListener = target.addEventListener.bind(target);
  globalThis.document = { hidden: true };
  try {
    const wire = fakeWire();
    const { hub } = connect(wire);
    hub.subscribe("a", () => {});
    await settle();
    target.dispatchEvent(new Event("visibilitychange"));
    assert.equal(wire.sockets[0].pings, 1);
    globalThis.document.hidden = false;
    target.dispatchEvent(new Event("visibilitychange"));
    assert.equal(wire.sockets[0].pings, 2);
    hub.close();
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.document;
  }
});

test("a socket's error is its end: Node's own WebSocket tells of a refused handshake by nothing else", async () => {
  const wire = fakeWire("silent");
  const { hub, states } = connect(wire, { transports: ["websocket"] });
  hub.subscribe("a", () => {});
  await settle();
  wire.sockets[0].onerror({ message: "ECONNREFUSED" });
  assert.deepEqual(states.at(-1), { state: "waiting", transport: "websocket", code: 1006, reason: "ECONNREFUSED", retryInMs: 500 });
  wire.sockets[0].end(1006); // where it follows, it is the second to say so
  assert.equal(states.length, 2);
  hub.close();
});
