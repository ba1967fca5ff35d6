import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { connect, fakeWire, pass, settle, WELCOME } from "./fakes.js";

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"] }));
afterEach(() => mock.timers.reset());

const SSE = { transports: ["sse"] };

async function open(wire, options = SSE, subscribe = () => {}) {
  const { hub, states } = connect(wire, options);
  subscribe(hub);
  await settle();
  wire.streams.at(-1)?.push(WELCOME);
  await settle();
  return { hub, states };
}

const subscribed = (channel, position) => ({ op: "subscribed", channel, position, recovered: true, replayed: 0 });

test("the URL carries token, channels and positions, and a cut stream resumes", async () => {
  const wire = fakeWire();
  const seen = [];
  const { hub } = await open(wire, { ...SSE, token: "t" }, (hub) => {
    hub.subscribe("a+b", ({ position }) => seen.push(position));
    hub.subscribe("c", () => {}, { since: "f:2" });
  });
  const [stream] = wire.streams;
  assert.equal(stream.url.pathname, "/base/sse");
  assert.equal(stream.url.search, "?token=t&channel=a%2Bb&channel=c&since=c%3Df%3A2");
  stream.push(subscribed("a+b", "e:0"));
  stream.push({ op: "message", channel: "a+b", offset: 1, data: 1 });
  await settle();
  stream.end();
  await settle();
  await pass(500);
  const since = wire.streams[1].url.searchParams.getAll("since");
  assert.deepEqual(since, ["a+b=e:1", "c=f:2"]);
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
  await settle();
  await settle();
  await settle();
  await settle();
  await settle();
  assert.deepEqual(seen, ["grün"]);
  await pass(20000);
  stream.raw(": heartbeat\n\n");
  await settle();
  await pass(20000);
  assert.equal(hub.state, "connected");
  hub.close();
});

test("commands are posted with the welcome's secret, one after the other", async () => {
  const wire = fakeWire();
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("a", () => {}));
  const answers = [hub.publish("a", 1), hub.publish("a", 2)];
  const later = hub.subscribe("b", () => {});
  assert.deepEqual(await Promise.all(answers), [{ done: "publish" }, { done: "publish" }]);
  later.unsubscribe();
  await settle();
  assert.deepEqual(wire.posts.map(({ command }) => command.op), ["publish", "publish", "subscribe", "unsubscribe"]);
  assert.equal(wire.posts[0].url.href, "http://hub.test/base/command?connection=c1");
  assert.equal(wire.posts[0].headers.Authorization, "Bearer s");
  hub.close();
});

test("a later subscription goes live by the push in the stream, not by the reply", async () => {
  const wire = fakeWire();
  const { hub } = await open(wire, SSE, (hub) => hub.subscribe("a", () => {}));
  const seen = [];
  hub.subscribe("b", ({ offset }) => seen.push(offset));
  await settle();
  const [stream] = wire.streams;
  stream.push({ op: "message", channel: "b", offset: 6, data: 0 });
  stream.push(subscribed("b", "e:6"));
  stream.push({ op: "message", channel: "b", offset: 7, data: 0 });
  await settle();
  assert.deepEqual(seen, [7]);
  hub.close();
});

test("more than 32 channels, or those with another start, are subscribed by command", async () => {
  const wire = fakeWire();
  const { hub } = await open(wire, SSE, (hub) => {
    for (let n = 0; n < 34; n += 1) hub.subscribe(`c${n}`, () => {}, n === 3 ? { last: 5 } : {});
  });
  const { url } = wire.streams[0];
  assert.equal(url.searchParams.getAll("channel").length, 32);
  assert.ok(url.href.length < 4096);
  assert.deepEqual(wire.posts.map(({ command }) => command.channel), ["c3", "c33"]);
  hub.close();
});

test("the hub's refusal is final, a proxy's error page is not", async () => {
  const refusing = fakeWire();
  Object.assign(refusing, { status: 403, problem: { code: "forbidden", detail: "no grant" } });
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
