/** Publications in several channels at once, and pages of history. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

async function started() {
  const wire = fakeWire();
  const { hub } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  return { hub, socket: wire.sockets[0] };
}

test("one payload goes to several channels, and each has its own result", async () => {
  const { hub, socket } = await started();
  const published = hub.publish(["a", "b", "c"], { eur: 1 }, { key: "k", ttlSeconds: 60, idempotencyKey: "i" });
  await settle();
  const asked = socket.asked("publish");
  const more = { op: "publish", data: { eur: 1 }, key: "k", ttl_seconds: 60, idempotency_key: "i" };
  assert.deepEqual(asked.map(({ id, ...command }) => command), ["a", "b", "c"].map((channel) => ({ ...more, channel })));
  socket.reply(asked[2], { channel: "c", epoch: "g", offset: 9, duplicate: true });
  socket.push({ op: "reply", id: asked[1].id, error: { code: "forbidden", message: "no", retryable: false } });
  socket.reply(asked[0], { channel: "a", epoch: "e", offset: 1 });
  const [a, b, c] = await published;
  assert.deepEqual(a, { channel: "a", epoch: "e", offset: 1, position: "e:1" });
  assert.deepEqual([b.name, b.code, b.retryable, b.message], ["HubError", "forbidden", false, "no"]);
  assert.deepEqual(c, { channel: "c", epoch: "g", offset: 9, position: "g:9", duplicate: true });
  hub.close();
});

test("a connection that is lost leaves each channel with its own outcome", async () => {
  const { hub, socket } = await started();
  const published = hub.publish(["a", "b"], 1);
  await settle();
  socket.reply(socket.asked("publish")[0], { channel: "a", epoch: "e", offset: 1 });
  socket.end(1006);
  const [a, b] = await published;
  assert.equal(a.position, "e:1");
  assert.equal(b.code, "disconnected");
  assert.deepEqual(await hub.publish([], 1), []);
  hub.close();
});

test("what cannot be asked for is refused before anything is published", async () => {
  const { hub, socket } = await started();
  await assert.rejects(hub.publish(["a", "b"], 1, { ttl: 5 }), /no option "ttl"/);
  await assert.rejects(hub.publish(["a", "b"], 10n), TypeError);
  await assert.rejects(hub.publish(["a", "b", "a"], 1), /named twice/);
  await assert.rejects(hub.history("a", { from_time: 1 }), /no option "from_time"/);
  await assert.rejects(hub.history("a", { fromTime: new Date("never") }), RangeError);
  assert.deepEqual(socket.sent.map(({ op }) => op), ["subscribe"]);
  hub.close();
});

// JSON says null for them, and the hub would take that for an option that is not there.
test("a number that JSON has not is refused wherever an option takes one", async () => {
  const { hub, socket } = await started();
  for (const none of [NaN, Infinity]) {
    await assert.rejects(hub.publish("a", 1, { ttlSeconds: none }), /ttlSeconds is/);
    await assert.rejects(hub.history("a", { limit: none }), /limit is/);
    await assert.rejects(hub.history("a", { fromTime: none }), /fromTime is/);
    assert.throws(() => hub.subscribe("b", () => {}, { last: none }), /last is/);
    assert.throws(() => hub.subscribe("b", () => {}, { everyMs: none }), /everyMs is/);
    assert.throws(() => hub.subscribePattern("b:*", () => {}, { last: none }), /last is/);
  }
  assert.deepEqual(socket.sent.map(({ op }) => op), ["subscribe"]);
  hub.close();
});

test("history begins at a moment, or with the newest", async () => {
  const { hub, socket } = await started();
  const moment = "2026-11-30T02:00:00.000Z";
  for (const fromTime of [new Date(moment), moment, Date.parse(moment)]) {
    const asked = hub.history("a", { fromTime, limit: 3 });
    await settle();
    socket.reply(socket.asked("history").at(-1), {});
    await asked;
  }
  const backwards = hub.history("a", { since: "e:9", reverse: true });
  await settle();
  const asked = socket.asked("history");
  assert.deepEqual(asked.map((command) => command.from_time), [moment, moment, Date.parse(moment), undefined]);
  const { id, ...last } = asked[3];
  assert.deepEqual(last, { op: "history", channel: "a", since: "e:9", reverse: true });
  const page = { channel: "a", position: "e:8", oldest: 1, publications: [], next: null, complete: true };
  socket.reply(asked[3], page);
  assert.deepEqual(await backwards, page);
  hub.close();
});
