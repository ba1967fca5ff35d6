import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

test("all subscriptions share one connection below the base path", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire, { token: "t" });
  hub.subscribe("a", () => {});
  hub.subscribe("b", () => {}, { last: 3, fill: true });
  await settle();
  assert.equal(wire.sockets.length, 1);
  const [socket] = wire.sockets;
  assert.equal(socket.url.href, "ws://hub.test/base/ws?token=t");
  const asked = socket.asked("subscribe").map(({ id, op, ...command }) => command);
  assert.deepEqual(asked, [{ channel: "a" }, { channel: "b", last: 3, fill: true }]);
  hub.close();
});

test("a message carries its epoch and position, and a repeated offset is dropped", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const seen = [];
  hub.subscribe("a", (message) => seen.push(message));
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:4");
  for (const offset of [4, 5, 5, 6]) socket.message("a", offset);
  socket.push({ op: "message", channel: "a", data: "raw" });
  assert.deepEqual(
    seen.map(({ position, data }) => [position, data]),
    [["e:5", 5], ["e:6", 6], ["e:6", "raw"]],
  );
  assert.deepEqual(seen[0], { channel: "a", offset: 5, time: 1, data: 5, epoch: "e", position: "e:5" });
  hub.close();
});

test("after a cut each channel resumes after the last message or gap it saw", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const gaps = [];
  hub.subscribe("a", () => {}, { last: 9 });
  hub.subscribe("b", () => {}, { onGap: (gap) => gaps.push(gap) });
  await settle();
  wire.sockets[0].confirm("a", "e:0");
  wire.sockets[0].confirm("b", "f:7");
  wire.sockets[0].message("a", 1);
  wire.sockets[0].push({ op: "gap", channel: "b", epoch: "f", from: 8, to: 11, reason: "slow" });
  wire.sockets[0].end(1006);
  await pass(500);
  const asked = wire.sockets[1].asked("subscribe").map(({ channel, since }) => [channel, since]);
  assert.deepEqual(asked, [["a", "e:1"], ["b", "f:11"]]);
  assert.deepEqual(gaps, [{ channel: "b", epoch: "f", from: 8, to: 11, reason: "slow" }]);
  hub.close();
});

test("a reset forgets old offsets and continues at its position", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const seen = [];
  const gaps = [];
  hub.subscribe("a", ({ position }) => seen.push(position), { onGap: (gap) => gaps.push(gap) });
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "old:40");
  socket.push({ op: "gap", channel: "a", epoch: "new", position: "new:0", reason: "reset" });
  socket.message("a", 1);
  assert.deepEqual(seen, ["new:1"]);
  assert.deepEqual(gaps, [{ channel: "a", epoch: "new", position: "new:0", reason: "reset" }]);
  hub.close();
});

test("a reset that a cut hides is asked for again: the old position stays until it came", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  hub.subscribe("a", () => {}, { since: "old:40" });
  await settle();
  wire.sockets[0].confirm("a", "new:0");
  wire.sockets[0].end(1006);
  await pass(500);
  const [again] = wire.sockets[1].asked("subscribe");
  assert.equal(again.since, "old:40");
  hub.close();
});

test("what an unconfirmed subscription is sent is not delivered", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const seen = [];
  hub.subscribe("a", () => {}).unsubscribe();
  hub.subscribe("a", ({ offset }) => seen.push(offset));
  await settle();
  wire.sockets[0].message("a", 3);
  wire.sockets[0].confirm("a", "e:3");
  wire.sockets[0].message("a", 4);
  assert.deepEqual(seen, [4]);
  hub.close();
});

test("the last listener of a channel unsubscribes it, an earlier one does not", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const stop = new AbortController();
  const first = hub.subscribe("a", () => {}, { signal: stop.signal });
  const second = hub.subscribe("a", () => {});
  await settle();
  stop.abort();
  assert.equal(wire.sockets[0].asked("unsubscribe").length, 0);
  second.unsubscribe();
  assert.equal(wire.sockets[0].asked("unsubscribe").length, 1);
  first.unsubscribe(); // which the signal did already
  assert.equal(wire.sockets[0].asked("unsubscribe").length, 1);
  hub.close();
});

test("a refusal for good ends the subscription, one for now is asked again", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const errors = [];
  hub.subscribe("secret", () => {}, { onError: ({ code }) => errors.push(code) });
  hub.subscribe("later", () => {}, { onError: ({ code }) => errors.push(code) });
  await settle();
  const [socket] = wire.sockets;
  const [secret, later] = socket.asked("subscribe");
  socket.push({ op: "reply", id: secret.id, error: { code: "forbidden", message: "", retryable: false } });
  socket.push({ op: "reply", id: later.id, error: { code: "unavailable", message: "", retryable: true } });
  await settle();
  await pass(3000);
  assert.deepEqual(errors, ["forbidden"]);
  assert.deepEqual(socket.asked("subscribe").map(({ channel }) => channel), ["secret", "later", "later"]);
  hub.close();
});

test("a loop gets the messages in order and ends when the hub is closed", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const subscription = hub.subscribe("a");
  await settle();
  wire.sockets[0].confirm("a", "e:0");
  for (const offset of [1, 2]) wire.sockets[0].message("a", offset);
  const seen = [];
  const loop = (async () => {
    for await (const { offset } of subscription) seen.push(offset);
  })();
  await settle();
  wire.sockets[0].message("a", 3);
  await settle();
  hub.close();
  await loop;
  assert.deepEqual(seen, [1, 2, 3]);
});

test("a loop that is left unsubscribes", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const subscription = hub.subscribe("a");
  await settle();
  wire.sockets[0].confirm("a", "e:0");
  wire.sockets[0].message("a", 1);
  for await (const { offset } of subscription) if (offset === 1) break;
  assert.equal(wire.sockets[0].asked("unsubscribe").length, 1);
  hub.close();
});

test("a signal ends a loop that waits, and one that is aborted already begins none", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const stop = new AbortController();
  const subscription = hub.subscribe("a", { signal: stop.signal });
  await settle();
  wire.sockets[0].confirm("a", "e:0");
  const loop = subscription[Symbol.asyncIterator]().next();
  await settle();
  stop.abort();
  assert.deepEqual(await loop, { value: undefined, done: true });
  assert.equal(wire.sockets[0].asked("unsubscribe").length, 1);
  for await (const message of hub.subscribe("b", { signal: stop.signal })) assert.fail(message);
  assert.equal(wire.sockets[0].asked("subscribe").length, 1);
  hub.close();
});

test("what waits for a loop is not given to one that was unsubscribed, but comes before a refusal", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const left = hub.subscribe("a");
  const refused = hub.subscribe("b");
  await settle();
  const [socket] = wire.sockets;
  for (const channel of ["a", "b"]) {
    socket.confirm(channel, "e:0");
    socket.message(channel, 1);
    socket.message(channel, 2);
  }
  const [seen, last] = [[], []];
  for await (const { offset } of left) {
    seen.push(offset);
    left.unsubscribe();
  }
  socket.end(4403, "no grant");
  await assert.rejects(async () => {
    for await (const { offset } of refused) last.push(offset);
  }, { message: "no grant" });
  assert.deepEqual([seen, last], [[1], [1, 2]]);
});

test("a slow loop loses the oldest of 1,000 messages and is told which, at their place", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const gaps = [];
  const subscription = hub.subscribe("a", { onGap: ({ from, to, reason }) => gaps.push([from, to, reason]) });
  await settle();
  wire.sockets[0].confirm("a", "e:0");
  for (let offset = 1; offset <= 1002; offset += 1) wire.sockets[0].message("a", offset);
  assert.deepEqual(gaps, []);
  const { value } = await subscription[Symbol.asyncIterator]().next();
  assert.deepEqual(gaps, [[1, 3, "client"]]);
  assert.equal(value.offset, 4);
  hub.close();
});

test("joins, leaves and presence resets reach onPresence", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const seen = [];
  hub.subscribe("a", () => {}, { onPresence: ({ op }) => seen.push(op) });
  await settle();
  wire.sockets[0].confirm("a", "e:0");
  wire.sockets[0].push({ op: "join", channel: "a", member: { id: "u" } });
  wire.sockets[0].push({ op: "leave", channel: "a", member: { id: "u" } });
  wire.sockets[0].push({ op: "presence_reset", channel: "a" });
  assert.deepEqual(seen, ["join", "leave", "presence_reset"]);
  hub.close();
});

test("a callback that throws does not keep the message from the others", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const seen = [];
  hub.subscribe("a", () => {
    throw new Error("mine");
  });
  hub.subscribe("a", ({ offset }) => seen.push(offset));
  await settle();
  wire.sockets[0].confirm("a", "e:0");
  // The test runner would take the uncaught error for its own.
  const reports = mock.method(globalThis, "queueMicrotask", () => {});
  wire.sockets[0].message("a", 1);
  reports.mock.restore();
  assert.throws(reports.mock.calls[0].arguments[0], /mine/);
  assert.deepEqual(seen, [1]);
  hub.close();
});
