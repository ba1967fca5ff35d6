/** Subscriptions by a pattern, as a script that both clients play (../patterns.json). */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle, WELCOME } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const scenarios = JSON.parse(readFileSync(new URL("../patterns.json", import.meta.url), "utf8"));

/** What each subscription of one scenario hears. */
async function play({ steps }) {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const told = {};
  const handles = {};
  let socket;
  let old;
  let seen = 0; // commands of the present connection
  let command;

  const listen = ({ pattern, channel, ...options }) => {
    const name = pattern ?? channel;
    const heard = (told[name] = []);
    const on = {
      ...options,
      onGap: ({ channel, from, to, reason }) => heard.push([channel, reason === "reset" ? "reset" : [from, to, reason]]),
      onError: ({ code }) => heard.push(code),
    };
    const onMessage = (message) => heard.push([message.channel, message.offset]);
    handles[name] = pattern ? hub.subscribePattern(pattern, onMessage, on) : hub.subscribe(channel, onMessage, on);
  };

  const next = async () => {
    await settle();
    [old, socket, seen] = [socket, wire.sockets.at(-1), 0];
  };

  for (const step of steps) {
    if (step.subscribe) listen(step.subscribe);
    else if (step.end) handles[step.end].unsubscribe();
    else if (step.cut) {
      socket.end(1011);
      await pass(500);
      await next();
    } else if (step.move) {
      socket.push({ op: "goodbye", code: 1012, reason: "draining", reconnect_within_ms: 2 });
      await pass(1);
      await next();
    } else {
      await settle();
      if (!socket) await next();
      const at = step.on === "old" ? old : socket;
      const wanted = step.asked ?? step.left;
      if (wanted) {
        const { id, op, ...asked } = (command = socket.sent[seen++]);
        assert.equal(op, step.asked ? "subscribe" : "unsubscribe");
        assert.deepEqual(asked, wanted);
      }
      const { channel, pattern } = command;
      if (step.error) at.push({ op: "reply", id: command.id, error: step.error });
      if (typeof step.ok === "string") at.reply(command, { channel, position: step.ok, recovered: true, replayed: 0 });
      else if (step.ok) at.reply(command, { pattern, channels: Object.keys(step.ok), positions: step.ok });
      if (step.message) at.message(...step.message);
      if (step.push) at.push(step.push);
    }
    await settle();
  }
  return { hub, told, handles, wire };
}

for (const scenario of scenarios) {
  test(`patterns: ${scenario.name}`, async (context) => {
    context.mock.method(console, "error", () => {}); // what a hub refuses
    const { hub, told, handles } = await play(scenario);
    assert.deepEqual(told, scenario.told);
    for (const [name, places] of Object.entries(scenario.positions ?? {})) assert.deepEqual(handles[name].positions, places);
    hub.close();
  });
}

test("a second subscription to a pattern shares its stream, and is told where it is", async () => {
  const { hub, wire, told } = await play({
    steps: [
      { subscribe: { pattern: "p:*" } },
      { asked: { pattern: "p:*" }, ok: { "p:a": "e:4" } },
      { message: ["p:a", 5] },
    ],
  });
  const began = [];
  const second = [];
  const handle = hub.subscribePattern("p:*", ({ offset }) => second.push(offset), {
    onSubscribed: (subscribed) => began.push(subscribed),
  });
  await settle();
  const [socket] = wire.sockets;
  assert.deepEqual(began, [{ pattern: "p:*", channels: ["p:a"], positions: { "p:a": "e:5" } }]);
  socket.message("p:a", 6);
  await settle();
  assert.deepEqual(second, [6]);
  assert.deepEqual(told["p:*"], [["p:a", 5], ["p:a", 6]]);
  assert.equal(socket.asked("subscribe").length, 1);
  const other = [];
  hub.subscribePattern("p:*", () => {}, { filter: { a: 1 }, onError: ({ code }) => other.push(code) });
  assert.deepEqual(other, ["conflict"]);
  handle.unsubscribe();
  await settle();
  assert.equal(socket.asked("unsubscribe").length, 0);
  hub.close();
});

test("a loop that is slower than its pattern loses the oldest of a channel, and is told the range", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const gaps = [];
  const subscription = hub.subscribePattern("p:*", { onGap: (gap) => gaps.push(gap) });
  await settle();
  const [socket] = wire.sockets;
  const [command] = socket.asked("subscribe");
  const positions = { "p:a": "e:0", "p:b": "f:0" };
  socket.reply(command, { pattern: "p:*", channels: ["p:a", "p:b"], positions });
  socket.message("p:b", 1);
  for (let offset = 1; offset <= 1001; offset += 1) socket.message("p:a", offset);
  await settle();
  const came = [];
  for await (const { channel, offset } of subscription) {
    came.push([channel, offset]);
    if (offset === 1001) break;
  }
  assert.deepEqual(came.slice(0, 2), [["p:b", 1], ["p:a", 4]]);
  assert.deepEqual(gaps.map(({ channel, from, to, reason }) => [channel, from, to, reason]), [["p:a", 1, 3, "client"]]);
  hub.close();
});

test("what belongs to one channel is no option of a pattern", () => {
  const { hub } = connect(fakeWire());
  for (const option of [{ state: true }, { presence: { data: 1 } }, { everyMs: 5 }, { getState: () => {} }])
    assert.throws(() => hub.subscribePattern("p:*", () => {}, option), TypeError);
});

test("over polling the pattern stands in the next poll for as long as it has no channel", async () => {
  const wire = fakeWire("refuses");
  const { hub } = connect(wire, { transports: ["poll"] });
  const heard = [];
  hub.subscribePattern("p:*", ({ channel, offset }) => heard.push([channel, offset]));
  await settle();
  wire.polls[0].answer([], {});
  await settle();
  wire.polls[1].answer([{ op: "reply", id: 0, ok: {} }], {});
  await settle();
  assert.equal(wire.posts[0].command.pattern, "p:*");
  wire.polls[2].answer([{ op: "subscribed", pattern: "p:*", channels: [], positions: {} }], { "p:*": "none:0" });
  await settle();
  assert.equal(wire.polls[3].url.searchParams.get("pattern"), "p:*");
  assert.equal(wire.polls[3].url.searchParams.get("since"), "p:*=none:0");
  const begins = { op: "subscribed", channel: "p:a", position: "e:0", recovered: true, replayed: 0 };
  wire.polls[3].answer([begins, { op: "message", channel: "p:a", offset: 1, data: 1 }], { "p:a": "e:1" }, WELCOME);
  await settle();
  assert.deepEqual(heard, [["p:a", 1]]);
  assert.equal(wire.polls[4].url.searchParams.get("channel"), "p:a");
  hub.close();
});
