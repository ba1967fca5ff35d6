/** What an application may write for the hub's address, and what it is told of anything else. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Hub } from "../../../clients/js/src/hub.js";
import { fakeWire, mockTime, realTime, settle } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

/** Where the first WebSocket and the first stream go to. */
async function asked(url) {
  const wire = fakeWire("refuses");
  const { WebSocket, fetch } = wire;
  const hub = new Hub(url, { WebSocket, fetch });
  hub.subscribe("a", () => {});
  await settle();
  hub.close();
  return [wire.sockets[0].url.href, wire.streams[0].url.href];
}

for (const [url, socket, stream] of [
  ["http://h:8000", "ws://h:8000/ws", "http://h:8000/sse"],
  ["https://h/", "wss://h/ws", "https://h/sse"],
  ["https://h/live", "wss://h/live/ws", "https://h/live/sse"],
  ["https://h/live/?page=2#top", "wss://h/live/ws", "https://h/live/sse"],
  ["ws://h:8000", "ws://h:8000/ws", "http://h:8000/sse"],
  ["wss://h/live/", "wss://h/live/ws", "https://h/live/sse"],
  [new URL("HTTPS://H"), "wss://h/ws", "https://h/sse"],
]) {
  test(`the hub at ${url} is asked below its path, by the scheme of each transport`, async () => {
    assert.deepEqual(await asked(url), [socket, `${stream}?session=true`]);
  });
}

for (const url of ["localhost:8000", "127.0.0.1:8000", "hub.example.com", "http://", "ftp://h"]) {
  test(`${JSON.stringify(url)} is refused at once where there is no page, with what to write`, () => {
    assert.throws(() => new Hub(url), { name: "TypeError", message: /write https:\/\/host, or \/path in a page$/ });
  });
}

for (const url of ["/live", "", undefined]) {
  test(`${JSON.stringify(url)} may be given where a server renders a page, and throws where it would be used`, async () => {
    const hub = new Hub(url);
    assert.equal(hub.state, "waiting");
    const refusal = { name: "TypeError", message: /write https:\/\/host, or \/path in a page$/ };
    assert.throws(() => hub.subscribe("a", () => {}), refusal);
    await assert.rejects(hub.publish("a", 1), refusal);
    hub.close();
  });
}

test("in a page an address that begins with a slash is of its origin, and one without a scheme is refused", async () => {
  globalThis.document = { baseURI: "https://h/shop/index.html" };
  try {
    assert.deepEqual(await asked("/live"), ["wss://h/live/ws", "https://h/live/sse?session=true"]);
    assert.deepEqual(await asked("//other/live"), ["wss://other/live/ws", "https://other/live/sse?session=true"]);
    for (const url of ["live", "localhost:8000", "127.0.0.1:8000"]) assert.throws(() => new Hub(url), TypeError);
  } finally {
    delete globalThis.document;
  }
});
