/** What the bindings for React and Vue share, without a framework. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { followChannel, followPresence, followTable } from "../../../clients/js/src/feed.js";
import { connect, fakeWire, mockTime, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

test("an option that a hook does not have is refused by its name, as the client's are", (context) => {
  const { hub } = connect(fakeWire());
  context.after(() => hub.close());
  const shown = () => assert.fail("nothing is shown");
  assert.throws(() => followChannel(hub, "a", { lats: 1 }, shown), /no option "lats"/);
  assert.throws(() => followChannel(hub, "a:*", { everyMs: 1 }, shown, "subscribePattern"), /no option "everyMs"/);
  assert.throws(() => followTable(hub, "a", { filter: {} }, shown), /no option "filter"/);
  assert.throws(() => followPresence(hub, "a", shown, { date: 1 }), /no option "date"/);
});

test("as many messages are kept as were asked for, and one at least", async (context) => {
  globalThis.requestAnimationFrame = queueMicrotask;
  context.after(() => delete globalThis.requestAnimationFrame);
  const wire = fakeWire();
  const { hub } = connect(wire);
  context.after(() => hub.close());
  for (const keep of [0, -1, NaN]) assert.throws(() => followChannel(hub, "a", { keep }, () => {}), /keep is/);
  let shown;
  const stop = followChannel(hub, "a", { keep: 2 }, (state) => (shown = state));
  await settle();
  wire.sockets[0].confirm("a", "e:0");
  for (const offset of [1, 2, 3]) wire.sockets[0].message("a", offset);
  await settle();
  assert.deepEqual(shown.messages.map(({ offset }) => offset), [2, 3]);
  assert.equal(shown.data, 3);
  stop();
});
