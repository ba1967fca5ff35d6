/** A further subscription to a channel begins as it asks to, whatever the first one asked for. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

/** A channel `a` that was subscribed to at `e:40` and is at 42 now. */
async function listening(options) {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const first = [];
  hub.subscribe("a", ({ offset }) => first.push(offset), options);
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:40");
  socket.message("a", 41);
  socket.message("a", 42);
  return { wire, hub, socket, first };
}

/** What a subscription hears, as offsets, and gaps as `[from, to, reason]` or `["reset", position]`. */
function listen(hub, options) {
  const heard = [];
  const onGap = ({ reason, from, to, position, ...more }) =>
    heard.push(reason === "reset" ? [reason, position] : [from, to, reason, ...Object.keys(more).filter((name) => name === "ask")]);
  hub.subscribe("a", ({ offset, position }) => heard.push(offset) && assert.equal(position, `e:${offset}`), { onGap, ...options });
  return heard;
}

/** Answer the newest question for history with `offsets`. */
async function answer(socket, offsets, position = `e:${offsets.at(-1) ?? 42}`) {
  const command = socket.asked("history").at(-1);
  const publications = offsets.map((offset) => ({ offset, data: offset, time: 1 }));
  socket.reply(command, { channel: "a", position, oldest: offsets[0] ?? 43, publications });
  await settle();
}

test("the newest n come from history, and then what follows, each once and in order", async () => {
  const { hub, socket, first } = await listening();
  const heard = listen(hub, { last: 3 });
  await settle();
  assert.equal(socket.asked("subscribe").length, 1);
  assert.equal(socket.asked("history")[0].since, "e:39");
  socket.message("a", 43);
  assert.deepEqual(heard, []);
  await answer(socket, [40, 41, 42]);
  socket.message("a", 44);
  assert.deepEqual(heard, [40, 41, 42, 43, 44]);
  assert.deepEqual(first, [41, 42, 43, 44]);
  hub.close();
});

test("fewer than the newest n are no gap", async () => {
  const { hub, socket } = await listening();
  const heard = listen(hub, { last: 1000 });
  await settle();
  assert.equal(socket.asked("history")[0].since, "e:0");
  await answer(socket, [41, 42]);
  const none = listen(hub, { last: 2 });
  await settle();
  await answer(socket, []);
  socket.message("a", 43);
  assert.deepEqual(heard, [41, 42, 43]);
  assert.deepEqual(none, [43]);
  hub.close();
});

test("a position resumes there; what history has no more is a gap", async () => {
  const { hub, socket } = await listening();
  const heard = listen(hub, { since: "e:30" });
  await settle();
  assert.equal(socket.asked("history")[0].since, "e:30");
  await answer(socket, [38, 39, 40, 41, 42]);
  assert.deepEqual(heard, [[31, 37, "expired"], 38, 39, 40, 41, 42]);
  hub.close();
});

test("a position of another epoch is a reset and all that history has of this one", async () => {
  const { hub, socket } = await listening();
  const heard = listen(hub, { since: "old:7" });
  await settle();
  assert.equal(socket.asked("history")[0].since, "e:0");
  await answer(socket, [41, 42]);
  assert.deepEqual(heard, [["reset", "e:0"], [1, 40, "expired"], 41, 42]);
  hub.close();
});

test("a position ahead of the stream gets what follows it", async () => {
  const { hub, socket } = await listening();
  const heard = listen(hub, { since: "e:44" });
  await settle();
  assert.equal(socket.asked("history").length, 0);
  for (const offset of [43, 44, 45]) socket.message("a", offset);
  assert.deepEqual(heard, [45]);
  hub.close();
});

test("both in the same turn: the second gets its own although the first asked for more", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const first = listen(hub, { last: 3 });
  const second = listen(hub, { last: 1 });
  const third = listen(hub, {});
  const told = [];
  hub.subscribe("a", { onSubscribed: ({ position }) => told.push(position) });
  await settle();
  const [socket] = wire.sockets;
  assert.deepEqual(socket.asked("subscribe").map(({ last }) => last), [3]);
  socket.confirm("a", "e:39", { replayed: 3 });
  for (const offset of [40, 41, 42, 43]) socket.message("a", offset);
  await settle();
  assert.deepEqual([first, second, third], [[40, 41, 42, 43], [42, 43], [43]]);
  assert.deepEqual(told, ["e:39"]);
  assert.equal(socket.asked("history").length, 0);
  hub.close();
});

test("both in the same turn: the second asks history for what the first did not", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const first = listen(hub, { last: 1 });
  const second = listen(hub, { last: 3 });
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:41", { replayed: 1 });
  socket.message("a", 42);
  await settle();
  assert.equal(socket.asked("history")[0].since, "e:39");
  await answer(socket, [40, 41, 42]);
  assert.deepEqual([first, second], [[42], [40, 41, 42]]);
  hub.close();
});

test("one that comes while there is no connection begins with the next", async () => {
  const { wire, hub, socket } = await listening();
  socket.end(1006);
  const heard = listen(hub, { last: 2 });
  await pass(500);
  const [, next] = wire.sockets;
  assert.equal(next.asked("subscribe")[0].since, "e:42");
  next.confirm("a", "e:42", { replayed: 1 });
  next.message("a", 43);
  await settle();
  assert.equal(next.asked("history")[0].since, "e:41");
  await answer(next, [42, 43]);
  assert.deepEqual(heard, [42, 43]);
  hub.close();
});

test("a connection that breaks while history is asked costs nothing: the next is asked again", async () => {
  const { wire, hub, socket } = await listening();
  const heard = listen(hub, { since: "e:40" });
  await settle();
  socket.end(1006);
  await pass(500);
  const [, next] = wire.sockets;
  next.confirm("a", "e:42");
  await settle();
  await answer(next, [41, 42]);
  assert.deepEqual(heard, [41, 42]);
  hub.close();
});

test("a loop gets its own start too, and a later subscription is told where it stands", async () => {
  const { hub, socket } = await listening();
  const told = [];
  const loop = hub.subscribe("a", { last: 1, onSubscribed: (subscribed) => told.push(subscribed) });
  const next = loop[Symbol.asyncIterator]().next();
  await settle();
  await answer(socket, [42]);
  assert.equal((await next).value.offset, 42);
  assert.deepEqual(told, [{ channel: "a", position: "e:42", recovered: true, replayed: 0 }]);
  hub.close();
});

test("one that leaves before it began is forgotten", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const first = listen(hub, {});
  const seen = [];
  hub.subscribe("a", ({ offset }) => seen.push(offset), { last: 5 }).unsubscribe();
  await settle();
  wire.sockets[0].confirm("a", "e:41");
  wire.sockets[0].message("a", 42);
  await settle();
  assert.deepEqual([first, seen], [[42], []]);
  assert.equal(wire.sockets[0].asked("history").length, 0);
  hub.close();
});

/** Two in one turn, of which the first resumes at `e:10` in a channel that holds 50 to 60. */
async function resuming(options) {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const first = listen(hub, { since: "e:10" });
  const second = listen(hub, options);
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:10", { recovered: false, replayed: 11 });
  socket.push({ op: "gap", channel: "a", epoch: "e", from: 11, to: 49, reason: "expired" });
  for (let offset = 50; offset <= 60; offset += 1) socket.message("a", offset);
  socket.message("a", 61);
  await settle();
  assert.deepEqual(first, [[11, 49, "expired"], 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61]);
  return { hub, socket, second };
}

test("where history does not reach back to the first one's position, the newest n are still the newest", async () => {
  const { hub, second } = await resuming({ last: 3 });
  assert.deepEqual(second, [58, 59, 60, 61]);
  hub.close();
});

test("where history does not reach back, one that asks for nothing gets what comes later alone", async () => {
  const { hub, second } = await resuming({});
  assert.deepEqual(second, [61]);
  hub.close();
});

test("where history does not reach back, a position of one's own is told its own gap", async () => {
  const { hub, socket, second } = await resuming({ since: "e:40" });
  assert.equal(socket.asked("history")[0].since, "e:40");
  await answer(socket, [], "e:61");
  assert.deepEqual(second, [[41, 49, "expired"], 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61]);
  hub.close();
});

test("one that begins while the client moves gets nothing twice of what the old connection brings", async () => {
  const { wire, hub, socket } = await listening();
  socket.push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 2 });
  await pass(1);
  const next = wire.sockets.at(-1);
  assert.notEqual(next, socket);
  const heard = listen(hub, { last: 2 });
  socket.message("a", 43); // the new connection has not answered yet
  next.confirm("a", "e:42", { replayed: 1 });
  next.message("a", 43);
  await settle();
  await answer(next, [42, 43], "e:43");
  next.message("a", 44);
  await settle();
  assert.deepEqual(heard, [42, 43, 44]);
  hub.close();
});
