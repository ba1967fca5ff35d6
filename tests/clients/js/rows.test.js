/** Rows of a keyed channel: a table, and what follows it. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const row = (key, offset) => ({ key, offset, time: 1, data: offset });
const rows = (position, list, more = false) => ({ op: "state", channel: "a", position, rows: list, more });

/** Keeps a table as an application does. */
function follow(hub, options) {
  const seen = { table: new Map(), pages: [], gaps: [], began: 0 };
  seen.subscription = hub.subscribe(
    "a",
    ({ key, data, remove }) => void (remove ? seen.table.delete(key) : seen.table.set(key, data)),
    {
      state: true,
      onState({ rows, begins, more, position, channel, epoch }) {
        seen.pages.push([position, begins, more]);
        if (begins) seen.table.clear();
        for (const { key, data } of rows) seen.table.set(key, data);
        seen.first ??= rows[0];
        assert.equal(channel, "a");
        assert.equal(epoch, undefined);
      },
      onGap: (gap) => seen.gaps.push(gap),
      ...options,
    },
  );
  return seen;
}

async function started() {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const seen = follow(hub);
  await settle();
  const [socket] = wire.sockets;
  return { wire, hub, seen, socket };
}

const change = (offset, key, more = {}) => ({ op: "message", channel: "a", offset, time: 1, key, data: offset, ...more });

test("rows come in pages as of one position, and then what follows it", async () => {
  const { hub, seen, socket } = await started();
  assert.equal(socket.asked("subscribe")[0].state, true);
  socket.confirm("a", "e:4", { state: true });
  socket.push(rows("e:4", [row("x", 2)], true));
  socket.push(rows("e:4", [row("y", 4)]));
  socket.push(change(5, "x"));
  socket.push(change(6, "y", { remove: true, data: null }));
  await settle();
  assert.deepEqual(seen.pages, [["e:4", true, true], ["e:4", false, false]]);
  assert.deepEqual([...seen.table], [["x", 5]]);
  assert.deepEqual(seen.first, { channel: "a", epoch: "e", ...row("x", 2), position: "e:2" });
  assert.deepEqual(seen.subscription.positions, { a: "e:6" });
  hub.close();
});

test("a cut in the middle of the pages begins anew, one behind them resumes", async () => {
  const { wire, hub, seen, socket } = await started();
  socket.confirm("a", "e:4", { state: true });
  socket.push(rows("e:4", [row("gone", 2)], true));
  socket.end(1006);
  await pass(500);
  const second = wire.sockets.at(-1);
  assert.equal(second.asked("subscribe")[0].since, undefined);
  second.confirm("a", "e:5", { state: true });
  second.push(rows("e:5", [row("x", 5)]));
  second.end(1006);
  await pass(1000);
  const third = wire.sockets.at(-1);
  assert.equal(third.asked("subscribe")[0].since, "e:5");
  third.confirm("a", "e:5");
  third.push(change(6, "x"));
  await settle();
  assert.deepEqual([...seen.table], [["x", 6]]);
  assert.deepEqual(seen.gaps, []);
  hub.close();
});

test("a resume that history cannot make whole, and a new epoch, bring the table anew", async () => {
  const { wire, hub, seen, socket } = await started();
  socket.confirm("a", "e:4", { state: true });
  socket.push(rows("e:4", [row("old", 4)]));
  socket.end(1006);
  await pass(500);
  const second = wire.sockets.at(-1);
  second.confirm("a", "f:9", { state: true, recovered: false });
  second.push(rows("f:9", [row("new", 9)]));
  second.push(change(10, "x"));
  second.push(rows("f:20", [row("newest", 20)])); // later on, in place of a gap
  second.push(change(21, "x"));
  await settle();
  assert.deepEqual([...seen.table], [["newest", 20], ["x", 21]]);
  assert.deepEqual(seen.gaps, []);
  hub.close();
});

test("a further subscription is given the table as it is, at any moment", async () => {
  const { wire, hub, seen, socket } = await started();
  socket.confirm("a", "e:4", { state: true });
  socket.push(rows("e:4", [row("x", 2)], true));
  const early = follow(hub);
  await settle();
  assert.deepEqual(early.pages, [["e:4", true, true]]);
  socket.push(rows("e:4", [row("y", 4)]));
  socket.push(change(5, "x"));
  socket.push(change(6, "y", { remove: true, data: null }));
  const late = follow(hub);
  await settle();
  assert.deepEqual(late.pages, [["e:6", true, false]]);
  socket.end(1006);
  const between = follow(hub); // without a connection
  await pass(500);
  const second = wire.sockets.at(-1);
  second.confirm("a", "e:6", { replayed: 1 });
  second.push(change(7, "z"));
  await settle();
  for (const each of [seen, early, late, between]) {
    assert.deepEqual([...each.table], [["x", 5], ["z", 7]]);
    assert.deepEqual(each.gaps, []);
  }
  hub.close();
});

test("one that is refused a table because the channel is followed without is told", async () => {
  const { hub } = await started();
  const codes = [];
  hub.subscribe("a", () => {}, { onError: ({ code }) => codes.push(code) });
  hub.subscribe("b", () => {});
  follow(hub, { onError: ({ code }) => codes.push(code) });
  assert.deepEqual(codes, ["conflict"]);
  for (const half of [{ state: true }, { onState: () => {} }])
    assert.throws(() => hub.subscribe("c", () => {}, half), /go together/);
  hub.close();
});

test("what the connection before still brings is in a table that begins on the next one", async () => {
  const { wire, hub, seen, socket } = await started();
  socket.confirm("a", "e:4", { state: true });
  socket.push(rows("e:4", [row("x", 4)]));
  socket.push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 2 });
  await pass(1);
  const next = wire.sockets.at(-1);
  next.confirm("a", "e:6", { state: true, recovered: false });
  next.push(rows("e:6", [row("x", 4), row("y", 6)]));
  socket.push(change(8, "z")); // that e:7 is missing here nobody would know
  next.push(change(7, "y"));
  next.push(change(8, "z"));
  await settle();
  assert.deepEqual([...seen.table], [["x", 4], ["y", 7], ["z", 8]]);
  hub.close();
});

test("a loop is given rows in their place", async () => {
  const { hub, socket } = await started();
  socket.confirm("a", "e:4", { state: true });
  const order = [];
  const { subscription } = follow(hub, { onState: ({ position }) => order.push(position) });
  const looped = hub.subscribe("a", { state: true, onState: ({ position }) => order.push(`loop ${position}`) });
  socket.push(rows("e:4", []));
  socket.push(change(5, "x"));
  await settle();
  for await (const { offset } of looped) {
    order.push(offset);
    break;
  }
  assert.deepEqual(order, ["e:4", "loop e:4", 5]);
  subscription.unsubscribe();
  hub.close();
});
