import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, fakeWire, mockTime, pass, realTime, settle, subscribed, WELCOME } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

const PONG = { op: "reply", id: 0, ok: {} };
const message = (channel, offset) => ({ op: "message", channel, offset, time: 1, data: offset });

/** A client that polls, its first two polls answered: the welcome, and proof that it works. */
async function polling(wire, subscribe = () => {}) {
  const { hub, states } = connect(wire, { transports: ["poll"], token: "t" });
  subscribe(hub);
  await settle();
  wire.polls[0].answer([], {});
  await settle();
  wire.polls[1].answer([PONG], {});
  await settle();
  return { hub, states };
}

test("the first poll returns at once, later ones wait and go on with the session", async () => {
  const wire = fakeWire();
  const seen = [];
  const { hub } = await polling(wire, (hub) => hub.subscribe("a+b", ({ offset }) => seen.push(offset)));
  const [first, second, third] = wire.polls;
  assert.equal(first.url.search, "?session=true&wait=0&connection=&token=t");
  assert.equal(first.headers, undefined);
  assert.equal(second.url.search, "?session=true&wait=20&connection=c1");
  assert.equal(second.headers.Authorization, "Bearer s");
  assert.equal(hub.state, "connected");
  third.answer([subscribed("a+b", "e:4"), message("a+b", 5)], { "a+b": "e:5" });
  await settle();
  assert.deepEqual(seen, [5]);
  assert.equal(wire.polls[3].url.search, "?session=true&wait=20&connection=c1&channel=a%2Bb&since=a%2Bb=e:5");
  hub.close();
});

test("a poll that fails begins a session anew, from the last message seen", async () => {
  const wire = fakeWire();
  const { hub } = await polling(wire, (hub) => hub.subscribe("a", () => {}));
  wire.polls[2].answer([subscribed("a", "e:4"), message("a", 5)], { a: "e:5" });
  await settle();
  wire.polls[3].fail();
  await settle();
  assert.equal(hub.state, "waiting");
  await pass(500);
  assert.equal(wire.polls[4].url.searchParams.get("connection"), "");
  wire.polls[4].answer([], {});
  await settle();
  wire.polls[5].answer([PONG], {});
  await settle();
  assert.equal(wire.posts.at(-1).command.since, "e:5");
  hub.close();
});

test("a session that the hub goes on with under a new name lost an answer: only a new one has it all", async () => {
  const wire = fakeWire();
  const seen = [];
  const { hub, states } = await polling(wire, (hub) => hub.subscribe("a", ({ offset }) => seen.push(offset)));
  wire.polls[2].answer([subscribed("a", "e:4")], { a: "e:4" });
  await settle();
  const elsewhere = { ...WELCOME, connection: "c2", secret: "s2" };
  wire.polls[3].answer([subscribed("a", "e:6"), message("a", 7)], { a: "e:7" }, elsewhere);
  await settle();
  assert.equal(states.at(-1).reason, "an answer was lost");
  assert.deepEqual(seen, []);
  await pass(500);
  wire.polls[4].answer([], {}, elsewhere);
  await settle();
  wire.polls[5].answer([PONG], {}, elsewhere);
  await settle();
  assert.equal(wire.posts.at(-1).command.since, "e:4");
  assert.equal(wire.posts.at(-1).headers.Authorization, "Bearer s2");
  hub.close();
});

test("of several channels the newest stands first in a poll: its start is what the hub asks after", async () => {
  const wire = fakeWire();
  const { hub } = await polling(wire, (hub) => hub.subscribe("a", () => {}));
  wire.polls[2].answer([], { a: "e:1", b: "e:2" });
  await settle();
  assert.deepEqual(wire.polls[3].url.searchParams.getAll("channel"), ["b", "a"]);
  hub.close();
});

test("an answer without a push is a sign of life", async () => {
  const wire = fakeWire();
  const { hub } = await polling(wire, (hub) => hub.subscribe("a", () => {}));
  for (let turn = 0; turn < 5; turn += 1) {
    await pass(20000);
    wire.polls.at(-1).answer([], {});
    await settle();
    assert.equal(hub.state, "connected");
  }
  await pass(30000);
  assert.notEqual(hub.state, "connected");
  hub.close();
});

test("a refusal in the middle of a session is not final: the next session finds out", async () => {
  const wire = fakeWire();
  const { hub } = await polling(wire, (hub) => hub.subscribe("a", () => {}));
  Object.assign(wire, { status: 401, problem: { code: "unauthorized", detail: "?", retryable: false } });
  wire.polls[2].answer([], {});
  await settle();
  assert.equal(hub.state, "waiting");
  await pass(500);
  assert.equal(hub.state, "closed");
});

test("many long names do not make a URL that proxies refuse", async () => {
  const wire = fakeWire();
  const { hub } = await polling(wire, (hub) => hub.subscribe("a", () => {}));
  const names = Array.from({ length: 32 }, (_, index) => `${"long".repeat(45)}${index}`);
  wire.polls[2].answer([], Object.fromEntries(names.map((name) => [name, "e:1"])));
  await settle();
  const { href } = wire.polls[3].url;
  assert.ok(href.length > 6000 && href.length < 7000, `${href.length} characters`);
  hub.close();
});

test("no address is asked twice in a row, because a service worker may answer with what it keeps of it", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire, { transports: ["poll"] });
  hub.subscribe("a", () => {});
  await settle();
  for (let polls = 0; polls < 4; polls += 1) {
    wire.polls.at(-1).answer([], { a: "e:0" });
    await settle();
  }
  const asked = wire.polls.slice(2).map(({ url }) => url.href);
  assert.equal(asked.length, 3);
  assert.equal(new Set(asked).size, 3);
  hub.close();
});

test("a poll waits for 25 seconds at most, whatever the hub's heartbeat is", async () => {
  const wire = fakeWire();
  const { hub } = await polling(wire, (hub) => hub.subscribe("a", () => {}));
  wire.polls[2].answer([], {}, { ...WELCOME, heartbeat_seconds: 25 });
  await settle();
  assert.equal(wire.polls[3].url.searchParams.get("wait"), "25");
  wire.polls[3].answer([], {}, { ...WELCOME, heartbeat_seconds: 26 });
  await settle();
  assert.equal(wire.polls[4].url.searchParams.get("wait"), "25");
  hub.close();
});

test("positions of a poll take 6,000 characters, and those of one channel more", async () => {
  const wire = fakeWire();
  const { hub } = await polling(wire, (hub) => hub.subscribe("a", () => {}));
  // `&channel=name&since=name=e:1` is twice the name and 20: 15 of 380, and one that makes 6,000.
  const names = Array.from({ length: 15 }, (_, n) => `${n}`.padStart(180, "a"));
  for (const [position, sent] of [["e:1", 17], ["e:10", 16]]) {
    const newest = [...names, "b".repeat(140), "next", "left-out"];
    const positions = newest.map((name, n) => [name, n === 15 ? position : "e:1"]).reverse();
    wire.polls.at(-1).answer([], Object.fromEntries(positions));
    await settle();
    assert.equal(wire.polls.at(-1).url.searchParams.getAll("channel").length, sent);
  }
  hub.close();
});
