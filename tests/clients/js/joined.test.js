/** `joined`: what a start or a resume replays, as one message; then each that comes. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { openSubscription } from "../../../clients/js/src/subscription.js";
import { connect, fakeWire, mockTime, pass, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const message = (offset, data = `${offset} `, more) => ({ channel: "a", epoch: "e", offset, data, position: `e:${offset}`, ...more });
const gap = (from, to, reason = "expired") => ({ channel: "a", epoch: "e", from, to, reason });

/** A subscription and what it told: a joined message as `[how many, data, position]`. */
function listen(options, request) {
  const told = [];
  const member = openSubscription({ leave() {}, request, conflict() {} }, "a", {
    joined: true,
    onMessage: ({ joined, data, position, end, state }) =>
      told.push(joined ? [joined, data, position] : state ? ["state", data] : end ? ["end", data] : data),
    onGap: ({ from, to, reason }) => told.push([from, to, reason]),
    ...options,
  });
  return { member, told };
}

const feed = (member, ...items) => items.forEach((item) => member.push(item.reason ? "gap" : "message", item));

test("what is replayed is one message, and what follows comes singly", () => {
  const { member, told } = listen();
  member.push("subscribed", { channel: "a", position: "e:4", replayed: 3 });
  feed(member, message(5), message(6));
  assert.deepEqual(told, []);
  feed(member, message(7), message(8));
  assert.deepEqual(told, [[3, "5 6 7 ", "e:7"], "8 "]);
  assert.deepEqual(member.subscription.positions, { a: "e:8" });
});

test("one that is replayed alone says so, and a resume is joined as the start was", () => {
  const { member, told } = listen();
  member.push("subscribed", { channel: "a", position: "e:0", replayed: 1 });
  feed(member, message(1), message(2));
  member.push("subscribed", { channel: "a", position: "e:2", replayed: 2 });
  feed(member, message(3), message(4), message(5));
  assert.deepEqual(told, [[1, "1 ", "e:1"], "2 ", [2, "3 4 ", "e:4"], "5 "]);
});

test("a gap in between splits", () => {
  const { member, told } = listen();
  member.push("subscribed", { channel: "a", position: "e:0", replayed: 6 });
  feed(member, message(1), message(2), gap(3, 4, "invalid"), message(5), message(6), message(7));
  assert.deepEqual(told, [[2, "1 2 ", "e:2"], [3, 4, "invalid"], [2, "5 6 ", "e:6"], "7 "]);
});

test("where history does not reach back, the gap that comes first says where the replay ends", () => {
  const { member, told } = listen();
  member.push("subscribed", { channel: "a", position: "e:5", recovered: false, replayed: 2 });
  feed(member, gap(6, 10), message(11), message(12), message(13));
  assert.deepEqual(told, [[6, 10, "expired"], [2, "11 12 ", "e:12"], "13 "]);
});

test("the end comes as ever, behind what was said", () => {
  const { member, told } = listen();
  member.push("subscribed", { channel: "a", position: "e:0", replayed: 3 });
  feed(member, message(1), message(2), message(3, "", { end: true }));
  assert.deepEqual(told, [[2, "1 2 ", "e:2"], ["end", ""]]);
});

test("where one is no text all come singly", () => {
  const { member, told } = listen();
  member.push("subscribed", { channel: "a", position: "e:0", replayed: 4 });
  feed(member, message(1), message(2, { a: 1 }), message(3), message(4));
  assert.deepEqual(told, ["1 ", { a: 1 }, "3 ", "4 "]);
});

test("a replay that does not go on is told as far as it came, and the rest comes singly", async () => {
  const { member, told } = listen();
  member.push("subscribed", { channel: "a", position: "e:0", replayed: 4 });
  feed(member, message(1), message(2));
  await pass(1000);
  feed(member, message(3), message(4));
  assert.deepEqual(told, [[2, "1 2 ", "e:2"], "3 ", "4 "]);
});

test("a subscription that is ended tells what it has; one that is left does not", async () => {
  const [ended, left] = [listen(), listen()];
  for (const { member } of [ended, left]) {
    member.push("subscribed", { channel: "a", position: "e:0", replayed: 4 });
    feed(member, message(1), message(2));
  }
  ended.member.end(1);
  left.member.subscription.unsubscribe();
  await pass(1000);
  assert.deepEqual(ended.told, [[2, "1 2 ", "e:2"]]);
  assert.deepEqual(left.told, []);
});

test("what the application's state has is not joined to what follows it", async () => {
  const { member, told } = listen({ getState: async () => ({ data: "1 2 ", position: "e:2" }) });
  member.push("subscribed", { channel: "a", position: "e:0", replayed: 4 });
  feed(member, message(1), message(2), message(3), message(4));
  await settle();
  feed(member, message(5));
  assert.deepEqual(told, [["state", "1 2 "], [2, "3 4 ", "e:4"], "5 "]);
});

test("a loop that is too slow loses all of what was joined, by its range", async () => {
  const told = [];
  const { member } = listen({ onMessage: undefined, onGap: ({ from, to }) => told.push([from, to]) });
  const loop = member.subscription[Symbol.asyncIterator]();
  member.push("subscribed", { channel: "a", position: "e:0", replayed: 3 });
  for (let offset = 1; offset <= 1003; offset++) feed(member, message(offset));
  const first = await loop.next();
  assert.deepEqual(told, [[1, 4]]);
  assert.equal(first.value.offset, 5);
});

test("a later subscription gets from history what was before it, joined", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  hub.subscribe("a", () => {});
  await settle();
  const [socket] = wire.sockets;
  socket.confirm("a", "e:40");
  socket.message("a", 41, "x");
  const heard = [];
  hub.subscribe("a", ({ joined, data, position }) => heard.push([joined, data, position]), { last: 2, joined: true });
  await settle();
  const publications = [40, 41].map((offset) => ({ offset, data: `${offset} `, time: 1 }));
  socket.reply(socket.asked("history")[0], { channel: "a", position: "e:41", oldest: 1, publications });
  await settle();
  socket.message("a", 42, "y");
  assert.deepEqual(heard, [[2, "40 41 ", "e:41"], [undefined, "y", "e:42"]]);
  hub.close();
});

test("the last one may be left out by a filter, and rows are no text", () => {
  const { hub } = connect(fakeWire());
  assert.throws(() => hub.subscribe("a", () => {}, { joined: true, filter: { a: 1 } }), /joined goes without/);
  assert.throws(() => hub.subscribe("a", () => {}, { joined: true, state: true, onState() {} }), /joined goes without/);
  hub.close();
});
