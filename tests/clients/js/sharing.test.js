/** Subscriptions of one channel share one on the wire: which go together, and which are refused. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { followPresence, followTable } from "../../../clients/js/src/feed.js";
import { connect, fakeWire, mockTime, pass, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const member = (id) => ({ id, connection: id });

/** A client whose first subscription a socket carries already. */
async function connected() {
  const wire = fakeWire();
  const { hub } = connect(wire);
  hub.subscribe("other", () => {});
  await settle();
  const [socket] = wire.sockets;
  const asked = () => socket.sent.filter(({ channel, op }) => channel === "a" && op !== "presence");
  return { wire, hub, socket, asked };
}

/** Who listens to presence alone, and what came of it. */
function present(hub, options) {
  const seen = { told: [], errors: [], started: 0 };
  seen.subscription = hub.subscribe("a", {
    onPresence: ({ op, member }) => seen.told.push([op, member?.id]),
    onSubscribed: () => (seen.started += 1),
    onError: ({ code }) => seen.errors.push(code),
    ...options,
  });
  return seen;
}

const WANTED = {
  filter: [{ filter: { desk: "fx" } }, { filter: { desk: "fx" } }],
  rows: [{ state: true, onState: () => {} }, { state: true }],
  interval: [{ everyMs: 500 }, { every_ms: 500 }],
};

for (const [name, [options, wire]] of Object.entries(WANTED)) {
  test(`presence goes along with a subscription that is there already, by ${name}`, async () => {
    const { hub, socket, asked } = await connected();
    hub.subscribe("a", () => {}, options);
    const seen = present(hub);
    await settle();
    assert.equal(asked().length, 1);
    socket.confirm("a", "e:40");
    socket.push({ op: "join", channel: "a", member: member("x") });
    await settle();
    assert.deepEqual([seen.told, seen.errors], [[["join", "x"]], []]);
    hub.close();
  });

  test(`presence that is there in the same turn asks for nothing of its own, by ${name}`, async () => {
    const { hub, socket, asked } = await connected();
    const seen = present(hub);
    hub.subscribe("a", () => {}, options);
    await settle();
    assert.deepEqual(asked().map(({ op, id, channel, ...wanted }) => [op, wanted]), [["subscribe", wire]]);
    socket.confirm("a", "e:40");
    socket.push({ op: "join", channel: "a", member: member("x") });
    assert.deepEqual([seen.told, seen.errors, seen.started], [[["join", "x"]], [], 1]);
    hub.close();
  });

  test(`presence that was there before gives way to what a later subscription asks for, by ${name}`, async () => {
    const { hub, socket, asked } = await connected();
    const seen = present(hub, { presence: { data: "Ann" } });
    await settle();
    socket.confirm("a", "e:40");
    const got = [];
    hub.subscribe("a", ({ offset }) => got.push(offset), options);
    await settle();
    assert.deepEqual(asked().map(({ op }) => op), ["subscribe", "unsubscribe", "subscribe"]);
    const { op, id, channel, ...wanted } = asked()[2];
    assert.deepEqual(wanted, { ...wire, presence: { data: "Ann" } });
    socket.message("a", 41); // of the former one
    socket.confirm("a", "e:41", name === "rows" ? { state: true } : {});
    if (name === "rows") socket.push({ op: "state", channel: "a", position: "e:41", rows: [], more: false });
    socket.message("a", 42);
    socket.push({ op: "join", channel: "a", member: member("x") });
    assert.deepEqual([got, seen.told, seen.errors, seen.started], [[42], [["join", "x"]], [], 2]);
    hub.close();
  });
}

test("presence costs a plain subscription nothing, whichever comes first", async () => {
  const { hub, socket, asked } = await connected();
  const before = present(hub);
  await settle();
  socket.confirm("a", "e:40");
  const got = [];
  hub.subscribe("a", ({ offset }) => got.push(offset));
  const after = present(hub);
  await settle();
  socket.message("a", 41);
  socket.push({ op: "leave", channel: "a", member: member("x") });
  assert.equal(asked().length, 1);
  assert.deepEqual([got, before.told, after.told], [[41], [["leave", "x"]], [["leave", "x"]]]);
  hub.close();
});

test("presence stays when what it went along with has left, and gives way again", async () => {
  const { wire, hub, socket, asked } = await connected();
  const filtered = hub.subscribe("a", () => {}, { filter: { desk: "fx" } });
  const seen = present(hub);
  await settle();
  socket.confirm("a", "e:40");
  filtered.unsubscribe();
  hub.subscribe("a", () => {}, { filter: { desk: "bonds" } });
  await settle();
  assert.deepEqual(asked().map(({ op, filter }) => [op, filter?.desk]), [["subscribe", "fx"], ["unsubscribe", undefined], ["subscribe", "bonds"]]);
  socket.end(1006);
  await pass(500);
  const next = wire.sockets.at(-1);
  assert.deepEqual(next.asked("subscribe").filter(({ channel }) => channel === "a").map(({ filter }) => filter.desk), ["bonds"]);
  assert.deepEqual(seen.errors, []);
  hub.close();
});

test("a hook for who is there stands beside one for the table, in either order", async () => {
  for (const first of ["presence", "table"]) {
    const { hub, socket } = await connected();
    const shown = {};
    const follow = {
      presence: () => followPresence(hub, "a", (state) => (shown.presence = state)),
      table: () => followTable(hub, "a", {}, (state) => (shown.table = state)),
    };
    globalThis.requestAnimationFrame = queueMicrotask;
    follow[first]();
    follow[first === "table" ? "presence" : "table"]();
    await settle();
    socket.confirm("a", "e:4", { state: true });
    socket.push({ op: "state", channel: "a", position: "e:4", rows: [{ key: "k", offset: 4, time: 1, data: 1 }], more: false });
    for (const command of socket.asked("presence")) socket.reply(command, { channel: "a", members: [member("x")] });
    await settle();
    assert.deepEqual(shown.presence, { members: [member("x")], error: undefined });
    assert.deepEqual(shown.table.rows.map(({ key }) => key), ["k"]);
    delete globalThis.requestAnimationFrame;
    hub.close();
  }
});

test("a member says what its newest subscription says, also where another one was first", async () => {
  const { wire, hub, socket } = await connected();
  hub.subscribe("a", () => {});
  await settle();
  socket.confirm("a", "e:0");
  const seen = present(hub, { presence: { data: "Ann" } });
  await settle();
  const [said] = socket.asked("presence_update");
  assert.equal(said.data, "Ann");
  socket.push({ op: "reply", id: said.id, error: { code: "forbidden", message: "no", retryable: false } });
  await settle();
  assert.deepEqual(seen.errors, ["forbidden"]);
  socket.end(1006);
  await pass(500);
  const again = wire.sockets.at(-1).asked("subscribe").find(({ channel }) => channel === "a");
  assert.deepEqual(again.presence, { data: "Ann" });
  hub.close();
});

test("messages that two want in different ways are refused, with what to do about it", async () => {
  const { hub } = await connected();
  const errors = [];
  const onError = (error) => errors.push(error);
  hub.subscribe("a", () => {}, { filter: { desk: "fx" } });
  hub.subscribe("a", () => {}, { onError });
  hub.subscribe("a", () => {}, { onError, state: true, onState: () => {} });
  hub.subscribe("b", () => {}, { everyMs: 500 });
  hub.subscribe("b", () => {}, { onError }); // would get less than it asks for
  hub.subscribe("b", () => {}, { onError, everyMs: 1000 });
  assert.deepEqual(errors.map(({ code }) => code), ["conflict", "conflict", "conflict"]);
  for (const { message } of errors) assert.match(message, /new Hub/);
  hub.close();
});

test("a loop over messages that went along for presence alone is refused", async () => {
  const { hub } = await connected();
  hub.subscribe("a", () => {}, { filter: { desk: "fx" } });
  const seen = present(hub);
  await assert.rejects(seen.subscription[Symbol.asyncIterator]().next(), /new Hub/);
  const plain = present(hub, { onError: undefined });
  plain.subscription.unsubscribe();
  hub.close();
});

test("presence of a pattern stands beside a pattern with a filter", async () => {
  const { hub, socket } = await connected();
  const told = [];
  hub.subscribePattern("room:*", { onPresence: ({ op }) => told.push(op), onError: ({ code }) => told.push(code) });
  hub.subscribePattern("room:*", () => {}, { filter: { desk: "fx" } });
  await settle();
  const asked = socket.asked("subscribe").filter(({ pattern }) => pattern);
  assert.deepEqual(asked.map(({ filter }) => filter), [{ desk: "fx" }]);
  socket.reply(asked[0], { pattern: "room:*", channels: ["room:1"], positions: { "room:1": "e:0" } });
  socket.push({ op: "join", channel: "room:1", member: member("x") });
  assert.deepEqual(told, ["join"]);
  hub.close();
});

test("what is said of a member right behind its subscription comes behind it on the wire", async () => {
  const { hub, socket } = await connected();
  present(hub);
  hub.presenceUpdate("a", "Ann").catch(() => {});
  await settle();
  assert.deepEqual(socket.sent.filter(({ channel }) => channel === "a").map(({ op }) => op), ["subscribe", "presence_update"]);
  hub.close();
});
