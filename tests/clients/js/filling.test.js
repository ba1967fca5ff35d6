/** Gaps that history fills, at their place, for who asked for that. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const slow = (from, to) => ({ op: "gap", channel: "a", epoch: "e", from, to, reason: "slow" });
const publication = (offset) => ({ offset, time: 1, data: offset });

/** A client with one subscription at e:0, and what it was told. */
async function subscribe(options) {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const told = [];
  hub.subscribe("a", ({ offset, position }) => told.push(position === `e:${offset}` ? offset : position), {
    onGap: ({ from, to, reason }) => told.push([from, to, reason]),
    ...options,
  });
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:0");
  return { hub, socket, told };
}

/** Answer the newest history command. */
async function history(socket, offsets, position = "e:99") {
  socket.reply(socket.asked("history").at(-1), { channel: "a", position, publications: offsets.map(publication) });
  await settle();
}

test("a gap is filled in order, and what came after it waits", async () => {
  const { hub, socket, told } = await subscribe({ fill: true });
  socket.message("a", 1);
  socket.push(slow(2, 4));
  socket.message("a", 5);
  assert.deepEqual(told, [1]);
  const [{ since, limit }] = socket.asked("history");
  assert.deepEqual([since, limit], ["e:1", 1000]);
  await history(socket, [2, 3, 4, 5]);
  socket.message("a", 6);
  assert.deepEqual(told, [1, 2, 3, 4, 5, 6]);
  hub.close();
});

test("without fill a gap is reported at once and history is not asked", async () => {
  const { hub, socket, told } = await subscribe({});
  socket.push(slow(1, 3));
  socket.message("a", 4);
  assert.deepEqual(told, [[1, 3, "slow"], 4]);
  assert.deepEqual(socket.asked("history"), []);
  hub.close();
});

test("what history cannot have is reported at once", async () => {
  const { hub, socket, told } = await subscribe({ fill: true });
  socket.push({ ...slow(1, 2), reason: "broker" });
  socket.push({ ...slow(3, 4), reason: "conflated" });
  socket.push({ op: "gap", channel: "a", epoch: "f", position: "f:0", reason: "reset" });
  assert.deepEqual(told.map(([, , reason]) => reason), ["broker", "conflated", "reset"]);
  assert.deepEqual(socket.asked("history"), []);
  hub.close();
});

test("what history does not have any more stays a gap with its exact range", async () => {
  const { hub, socket, told } = await subscribe({ fill: true });
  socket.push(slow(1, 9));
  socket.message("a", 10);
  await history(socket, [3, 4, 7]);
  await history(socket, [7]);
  await history(socket, []);
  assert.deepEqual(told, [[1, 2, "slow"], 3, 4, [5, 6, "slow"], 7, [8, 9, "slow"], 10]);
  hub.close();
});

for (const [why, answer] of [
  ["fails", (socket, command) => socket.push({ op: "reply", id: command.id, error: { code: "unavailable", message: "" } })],
  ["is of another epoch", (socket, command) => socket.reply(command, { position: "f:9", publications: [publication(1)] })],
]) {
  test(`a gap is reported, and nothing is held back for ever, when history ${why}`, async () => {
    const { hub, socket, told } = await subscribe({ fill: true });
    socket.push(slow(1, 2));
    socket.message("a", 3);
    answer(socket, socket.asked("history")[0]);
    await settle();
    assert.deepEqual(told, [[1, 2, "slow"], 3]);
    hub.close();
  });
}

test("at most 1,000 later messages are held back: then the gap is reported", async () => {
  const { hub, socket, told } = await subscribe({ fill: true });
  socket.push(slow(1, 2));
  for (let offset = 3; offset <= 1002; offset += 1) socket.message("a", offset);
  assert.deepEqual(told, []);
  socket.message("a", 1003);
  assert.deepEqual(told.slice(0, 3), [[1, 2, "slow"], 3, 4]);
  assert.equal(told.length, 1002);
  await history(socket, [1, 2]);
  socket.message("a", 1004);
  assert.equal(told.at(-1), 1004);
  assert.equal(told.length, 1003);
  hub.close();
});

test("each subscription of a channel decides for itself", async () => {
  const { hub, socket, told } = await subscribe({});
  const filled = [];
  hub.subscribe("a", ({ offset }) => filled.push(offset), { fill: true });
  socket.push(slow(1, 1));
  socket.message("a", 2);
  assert.deepEqual([told, filled], [[[1, 1, "slow"], 2], []]);
  await history(socket, [1]);
  assert.deepEqual(filled, [1, 2]);
  hub.close();
});

test("a loop that is slow gets what it was too slow for from history", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const gaps = [];
  const subscription = hub.subscribe("a", { fill: true, onGap: (gap) => gaps.push(gap) });
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:0");
  for (let offset = 1; offset <= 1500; offset += 1) socket.message("a", offset);
  const seen = [];
  const loop = (async () => {
    for await (const { offset } of subscription) if (seen.push(offset) === 1500) return;
  })();
  await settle();
  assert.equal(socket.asked("history")[0].since, "e:0");
  await history(socket, Array.from({ length: 501 }, (_, index) => index + 1));
  await loop;
  assert.deepEqual(seen, Array.from({ length: 1500 }, (_, index) => index + 1));
  assert.deepEqual(gaps, []);
  hub.close();
});

test("what a slow loop loses is one gap: messages, gaps and what has no offset", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const gaps = [];
  const subscription = hub.subscribe("a", { onGap: (gap) => gaps.push(gap) });
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:0");
  socket.push({ op: "message", channel: "a", data: "raw", from: "u" });
  socket.push(slow(1, 4));
  socket.push({ op: "message", channel: "a", offset: 5, data: 5, from: "u" });
  for (let offset = 6; offset <= 1005; offset += 1) socket.message("a", offset);
  const { value } = await subscription[Symbol.asyncIterator]().next();
  assert.equal(value.offset, 7);
  assert.deepEqual(gaps, [{ channel: "a", epoch: "e", from: 1, to: 6, unsequenced: 1, reason: "client" }]);
  hub.close();
});

test("a reset says of everything before it that it is gone", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const gaps = [];
  const subscription = hub.subscribe("a", { onGap: (gap) => gaps.push(gap.reason) });
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:0");
  for (let offset = 1; offset <= 3; offset += 1) socket.message("a", offset);
  socket.push({ op: "gap", channel: "a", epoch: "f", position: "f:0", reason: "reset" });
  for (let offset = 1; offset <= 1010; offset += 1) socket.message("a", offset);
  const { value } = await subscription[Symbol.asyncIterator]().next();
  assert.equal(value.position, "f:13");
  assert.deepEqual(gaps, ["reset", "client"]);
  hub.close();
});
