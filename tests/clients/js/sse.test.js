import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle, subscribed, WELCOME } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const SSE = { transports: ["sse"] };

async function open(wire, options = SSE, subscribe = () => {}) {
  const { hub, states } = connect(wire, options);
  subscribe(hub);
  await settle();
  wire.streams.at(-1)?.push(WELCOME);
  await settle();
  return { hub, states };
}

test("a stream is opened with the token, subscribed by POST, and resumed after a cut", async () => {
  const wire = fakeWire();
  const seen = [];
  const { hub } = await open(wire, { ...SSE, token: "t" }, (hub) => {
    hub.subscribe("a+b", ({ position }) => seen.push(position));
    hub.subscribe("c", () => {}, { since: "f:2", fill: true });
  });
  const [stream] = wire.streams;
  assert.equal(stream.url.href, "http://hub.test/base/sse?session=true&token=t");
  const asked = () => wire.posts.map(({ command: { channel, since, fill } }) => [channel, since, fill]);
  assert.deepEqual(asked(), [["a+b", undefined, undefined], ["c", "f:2", true]]);
  stream.push(subscribed("a+b", "e:0"));
  stream.push({ op: "message", channel: "a+b", offset: 1, data: 1 });
  await settle();
  stream.end();
  await settle();
  await pass(500);
  wire.streams[1].push(WELCOME);
  await settle();
  assert.deepEqual(asked().slice(2), [["a+b", "e:1", undefined], ["c", "f:2", true]]);
  assert.deepEqual(seen, ["e:1"]);
  hub.close();
});

test("events are put together from pieces, and comments count as signs of life", async () => {
  const wire = fakeWire();
  const seen = [];
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("a", ({ data }) => seen.push(data)));
  const [stream] = wire.streams;
  stream.push(subscribed("a", "e:0"));
  const text = 'data: {"op":"message","channel":"a","offset":1,"data":"grün"}\n\nid: e:1\n\n';
  const bytes = new TextEncoder().encode(text);
  for (const byte of bytes) stream.controller.enqueue(Uint8Array.of(byte));
  for (let turn = 0; turn < 5; turn += 1) await settle();
  assert.deepEqual(seen, ["grün"]);
  await pass(20000);
  stream.raw(": heartbeat\n\n");
  await settle();
  await pass(20000);
  assert.equal(hub.state, "connected");
  hub.close();
});

test("a proxy that holds the stream back is found out: the welcome passed, the pong does not", async () => {
  const wire = fakeWire();
  wire.holdsBack = true;
  const { hub } = await open(wire, { transports: ["sse", "poll"] }, (hub) => hub.subscribe("a", () => {}));
  await pass(4999);
  assert.equal(hub.transport, "sse");
  assert.equal(hub.state, "connecting");
  await pass(1);
  assert.equal(hub.transport, "poll");
  assert.equal(wire.streams[0].open, false);
  assert.deepEqual(wire.posts, [], "no command was given to the stream that did not prove itself");
  hub.close();
});

test("commands are posted with the welcome's secret, one after the other within a channel", async () => {
  const wire = fakeWire();
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("a", () => {}));
  let release;
  wire.held = new Promise((resolve) => (release = resolve));
  const answers = [hub.publish("a", 1), hub.publish("a", 2)];
  await settle();
  assert.equal(wire.posts.at(-1).command.data, 1);
  release();
  const later = hub.subscribe("b", () => {});
  assert.deepEqual((await Promise.all(answers)).map(({ done }) => done), ["publish", "publish"]);
  later.unsubscribe();
  await settle();
  const of = (name) => wire.posts.filter(({ command }) => command.channel === name).map(({ command }) => command.op);
  assert.deepEqual(of("a"), ["subscribe", "publish", "publish"]);
  assert.deepEqual(of("b"), ["subscribe", "unsubscribe"]);
  assert.equal(wire.posts[0].url.href, "http://hub.test/base/command?connection=c1");
  assert.equal(wire.posts[0].headers.Authorization, "Bearer s");
  hub.close();
});

test("what is published by POST has a key, because a browser may send it twice; the page's own wins", async () => {
  const wire = fakeWire();
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("a", () => {}));
  await Promise.all([hub.publish("a", 1), hub.publish("a", 2), hub.publish("a", 3, { idempotency_key: "k" })]);
  const keys = wire.posts.map(({ command }) => command.idempotency_key);
  const [, first, second] = wire.posts.map(({ command }) => `c1:${command.id}`);
  assert.deepEqual(keys, [undefined, first, second, "k"]);
  hub.close();
});

test("a subscribe that a browser sent twice is no refusal: the stream says where it starts", async () => {
  const wire = fakeWire();
  const errors = [];
  const seen = [];
  Object.assign(wire, { postStatus: 409, postBody: { code: "conflict", detail: "already", retryable: false } });
  const { hub } = await open(wire, SSE, (hub) => {
    hub.subscribe("a", ({ offset }) => seen.push(offset), { onError: (error) => errors.push(error) });
  });
  wire.streams[0].push(subscribed("a", "e:4"));
  wire.streams[0].push({ op: "message", channel: "a", offset: 5, data: 5 });
  await settle();
  assert.deepEqual([errors, seen], [[], [5]]);
  hub.close();
});

test("a subscription goes live by the push in the stream, not by the reply", async () => {
  const wire = fakeWire();
  const seen = [];
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("b", ({ offset }) => seen.push(offset)));
  const [stream] = wire.streams;
  stream.push({ op: "message", channel: "b", offset: 6, data: 0 });
  stream.push(subscribed("b", "e:6"));
  stream.push({ op: "message", channel: "b", offset: 7, data: 0 });
  await settle();
  assert.deepEqual(seen, [7]);
  hub.close();
});

test("a command to a session that is gone ends the connection, not the subscription", async () => {
  const wire = fakeWire();
  const errors = [];
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("z", () => {}));
  wire.postStatus = 404;
  hub.subscribe("a", () => {}, { onError: (error) => errors.push(error) });
  await settle();
  assert.equal(hub.state, "waiting");
  wire.postStatus = 200;
  await pass(500);
  wire.streams[1].push(WELCOME);
  await settle();
  assert.deepEqual(errors, []);
  assert.equal(wire.posts.at(-1).command.op, "subscribe");
  hub.close();
});

test("a proxy's error, of whatever form, does not end a subscription; the hub's refusal does", async () => {
  const wire = fakeWire();
  const errors = [];
  const onError = ({ code, message }) => errors.push([code, message]);
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("a", () => {}));
  Object.assign(wire, { postStatus: 502, postBody: { message: "bad gateway" } });
  hub.subscribe("b", () => {}, { onError });
  await settle();
  await assert.rejects(hub.publish("a", 1), { code: "disconnected", retryable: true });
  assert.deepEqual(errors, []);
  assert.equal(hub.state, "connected");
  Object.assign(wire, { postStatus: 400, postBody: { code: "bad_request", detail: "no", retryable: false } });
  hub.subscribe("c", () => {}, { onError });
  await settle();
  assert.deepEqual(errors, [["bad_request", "no"]]);
  hub.close();
});

test("the hub's refusal is final, a proxy's error page is not", async () => {
  const refusing = fakeWire();
  Object.assign(refusing, { status: 403, problem: { code: "forbidden", detail: "no grant", retryable: false } });
  const refused = await open(refusing, SSE, (hub) => hub.subscribe("a", () => {}));
  assert.deepEqual(refused.states.at(-1), { state: "closed", transport: "sse", code: 4403, reason: "no grant" });

  const broken = fakeWire();
  broken.status = 403;
  const waiting = await open(broken, SSE, (hub) => hub.subscribe("a", () => {}));
  assert.equal(waiting.hub.state, "waiting");
  waiting.hub.close();
});

test("a goodbye's code stands for the close code that SSE does not have", async () => {
  const wire = fakeWire();
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("a", () => {}));
  wire.streams[0].push({ op: "goodbye", code: 4401, reason: "expired" });
  wire.streams[0].end();
  await settle();
  assert.equal(hub.state, "closed");
});

test("a line of 8,000,000 characters may still end, and one more ends the connection", async () => {
  const wire = fakeWire();
  const { hub, states } = await open(wire, SSE, (hub) => hub.subscribe("a", () => {}));
  const [stream] = wire.streams;
  stream.raw("x".repeat(8_000_000));
  for (let turn = 0; turn < 5; turn += 1) await settle();
  assert.equal(hub.state, "connected");
  stream.raw("x");
  for (let turn = 0; turn < 5; turn += 1) await settle();
  assert.equal(states.at(-1).reason, "too large");
  hub.close();
});
