/** A subscription that is refused, as a script that both clients play (tests/golden/refusals.json). */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const cases = JSON.parse(readFileSync(new URL("../../golden/refusals.json", import.meta.url), "utf8"));

for (const { name, told, then, after_seconds: [soonest, latest] = [1, 3] } of cases) {
  test(`a subscription is refused ${name}`, async () => {
    const wire = fakeWire();
    const { hub } = connect(wire);
    const heard = [];
    const errors = [];
    hub.subscribe("a", ({ offset }) => heard.push(offset), { onError: (error) => errors.push(error.code) });
    hub.subscribe("b", () => {});
    const looped = [];
    const loop = (async () => {
      for await (const { offset } of hub.subscribe("a")) looped.push(offset);
    })();
    loop.catch(() => {});
    await settle();
    const [socket] = wire.sockets;
    socket.confirm("b", "e:0");
    const asked = () => socket.asked("subscribe").filter(({ channel }) => channel === "a");
    if (told.error) socket.push({ op: "reply", id: asked()[0].id, error: told.error });
    else {
      socket.confirm("a", "e:0");
      if (then === "completes") socket.message("a", 1);
      socket.push({ op: "unsubscribed", channel: "a", reason: told.unsubscribed });
    }
    await settle();
    await pass(soonest * 1000 - 1);
    assert.equal(asked().length, 1);
    await pass((latest - soonest) * 1000 + 1);
    if (then === "asks again") {
      assert.equal(asked().length, 2);
      socket.confirm("a", "e:0");
    } else if (then === "goes on") socket.push({ op: "subscribed", channel: "a", position: "e:0" });
    socket.message("a", then === "completes" ? 2 : 1);
    await settle();
    assert.deepEqual(heard, then === "ends" ? [] : [1]);
    assert.equal(errors.length, then === "ends" ? 1 : 0);
    assert.equal(wire.sockets.length, 1);
    if (then === "completes") {
      await loop;
      assert.deepEqual(looped, [1]);
    }
    hub.close();
  });
}
