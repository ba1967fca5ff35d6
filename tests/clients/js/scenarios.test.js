/** The one rule of two connections, as a script that both clients play (../moving.json). */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle, subscribed, WELCOME } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const scenarios = JSON.parse(readFileSync(new URL("../moving.json", import.meta.url), "utf8"));
const push = (what) =>
  Array.isArray(what)
    ? { op: "gap", channel: "a", epoch: "e", from: what[0], to: what[1], reason: what[2] }
    : { op: "message", channel: "a", offset: what, time: 1, data: what };
const range = (first, last) => Array.from({ length: last - first + 1 }, (_, at) => first + at);

for (const { name, at, head, history, steps, told } of scenarios) {
  test(`moving: ${name}`, async () => {
    const wire = fakeWire("refuses");
    const { hub } = connect(wire);
    const heard = [];
    const onGap = ({ from, to, reason }) => heard.push([from, to, reason]);
    hub.subscribe("a", ({ offset }) => heard.push(offset), { onGap });
    await settle();
    const [old] = wire.streams;
    old.push(WELCOME);
    await settle();
    old.push(subscribed("a", `e:${at}`));
    await settle();
    wire.webSocket = "welcomes";
    await pass(5000);
    const next = wire.sockets.at(-1);
    const [{ since }] = next.asked("subscribe");
    // What the hub says to whoever asks for a position, or for what comes from now on.
    next.confirm("a", since ?? `e:${head}`, { recovered: history || !since });
    const lacking = since && head > at ? (history ? range(at + 1, head) : [[at + 1, head, "expired"]]) : [];
    lacking.forEach((what) => next.push(push(what)));
    for (const [who, what] of steps) {
      if (who === "old") old.push(push(what));
      else if (who === "new") next.push(push(what));
      else old.end();
      await settle();
    }
    await pass(2000);
    assert.equal(hub.transport, "websocket");
    if (told) assert.deepEqual(heard, told);
    const offsets = heard.flatMap((what) => (Array.isArray(what) ? range(what[0], what[1]) : [what]));
    assert.deepEqual(offsets, range(at + 1, offsets.at(-1)));
    for (const [who, what] of steps) if (who === "new" && !Array.isArray(what)) assert.ok(offsets.includes(what));
    hub.close();
  });
}
