/** How a connection ends for good, what is said about it, and how it begins again. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Hub, HubError, LoggedOutError } from "../../../clients/js/src/hub.js";
import { connect, fakeWire, mockTime, pass, realTime, settle, WELCOME } from "./fakes.js";

beforeEach(mockTime);
afterEach(realTime);

/** What is written to the console's errors. */
function console_() {
  const said = [];
  mock.method(console, "error", (text) => text.startsWith("broadcast hub") && said.push(text));
  return said;
}

const refusal = { code: "forbidden", message: "no grant for it", retryable: false };

test("a refused subscription without onError is said on the console, with the reason", async () => {
  const said = console_();
  const wire = fakeWire();
  const { hub } = connect(wire);
  const heard = [];
  hub.subscribe("quiet", () => {});
  hub.subscribe("told", () => {}, { onError: ({ code }) => heard.push(code) });
  await settle();
  const [socket] = wire.sockets;
  for (const { id } of socket.asked("subscribe")) socket.push({ op: "reply", id, error: refusal });
  assert.deepEqual(said, ['broadcast hub: no messages of "quiet" (forbidden): no grant for it']);
  assert.deepEqual(heard, ["forbidden"]);
  hub.close();
});

test("a connection that the hub refuses for good is said once, whatever listens", async () => {
  const said = console_();
  const wire = fakeWire("refuses");
  Object.assign(wire, { status: 401, problem: { code: "unauthorized", detail: "a token is required", retryable: false } });
  const { hub } = connect(wire);
  for (const name of ["a", "b"]) hub.subscribe(name, () => {});
  await settle();
  assert.equal(hub.state, "closed");
  assert.deepEqual(said, ["broadcast hub: http://hub.test/base/ refuses this client (4401): a token is required; give it one: new Hub(url, { token })"]);
});

test("a token that the hub refuses is said with the cure, by what the application gave", async () => {
  for (const [token, cure] of [["t", "a function would be asked for the next one"], [async () => {}, "see what its token function gives"]]) {
    const said = console_();
    const wire = fakeWire("refuses");
    Object.assign(wire, { status: 401, problem: { code: "unauthorized", detail: "no", retryable: false } });
    const { hub } = connect(wire, { token });
    hub.subscribe("a", () => {});
    await settle();
    assert.equal(hub.state, "closed");
    assert.deepEqual(said, [`broadcast hub: http://hub.test/base/ refuses this client (4401): no; ${cure}`]);
  }
});

test("a token function that fails is said each time, or the page would stay empty in silence", async () => {
  const said = console_();
  const wire = fakeWire();
  let asked = 0;
  const token = () => {
    asked += 1;
    if (asked < 3) throw new TypeError("no such page");
    return "t";
  };
  const { hub } = connect(wire, { token });
  hub.subscribe("a", () => {});
  await settle();
  for (let tries = 0; tries < 10 && hub.state !== "connected"; tries += 1) await pass(1000);
  assert.equal(hub.state, "connected");
  assert.deepEqual(said, Array(2).fill("broadcast hub: no token: TypeError: no such page"));
  hub.close();
});

test("closing says nothing", async () => {
  const said = console_();
  const { hub } = connect(fakeWire());
  hub.subscribe("a", () => {});
  await settle();
  hub.close();
  hub.subscribe("b", () => {});
  await settle();
  assert.deepEqual(said, []);
});

for (const [at, sockets] of [["connecting", 0], ["connected", 1]])
  test(`a page that closes when it hears "${at}" leaves nothing behind`, async () => {
    const wire = fakeWire();
    const { hub } = connect(wire);
    hub.on("state", ({ state }) => state === at && hub.close());
    hub.subscribe("a", () => {});
    await settle();
    assert.equal(hub.state, "closed");
    assert.equal(wire.sockets.length, sockets);
    for (const socket of wire.sockets) assert.deepEqual([socket.open, socket.sent], [false, []]);
  });

test("a token function that says logged out is asked once, and closes the hub", async () => {
  console_();
  const wire = fakeWire();
  let asked = 0;
  const token = async () => {
    asked += 1;
    throw new LoggedOutError("please log in");
  };
  const { hub, states } = connect(wire, { token });
  const errors = [];
  hub.subscribe("a", () => {}, { onError: (error) => errors.push(error.message) });
  await settle();
  await pass(600_000);
  assert.equal(asked, 1);
  assert.deepEqual(states.at(-1), { state: "closed", transport: "websocket", code: 4401, reason: "please log in" });
  assert.deepEqual(errors, ["please log in"]);
  assert.ok(new LoggedOutError() instanceof HubError);
});

test("so does one that says it when the token is to be renewed", async () => {
  console_();
  const wire = fakeWire();
  const answers = [() => "t1", () => { throw new LoggedOutError(); }];
  const { hub, states } = connect(wire, { token: () => answers.shift()() });
  hub.subscribe("a", () => {});
  await settle();
  wire.sockets[0].push({ op: "expiring", expires_in_ms: 1000 });
  await settle();
  assert.equal(states.at(-1).code, 4401);
  assert.equal(wire.sockets[0].open, false);
});

test("a token function that fails is asked once per attempt, however many transports there are", async () => {
  const wire = fakeWire();
  let asked = 0;
  const { hub } = connect(wire, { token: async () => { asked += 1; throw new Error("offline"); } });
  hub.subscribe("a", () => {});
  await settle();
  assert.equal(asked, 1);
  await pass(499);
  assert.equal(asked, 1);
  await pass(1);
  assert.equal(asked, 2);
  hub.close();
});

test("after a close connect goes on: each subscription resumes where it was", async () => {
  const wire = fakeWire();
  const { hub } = connect(wire);
  const seen = [];
  hub.subscribe("a", ({ offset }) => seen.push(offset));
  const left = hub.subscribe("b", () => {});
  const loop = hub.subscribe("c");
  await settle();
  wire.sockets[0].confirm("a", "e:4");
  wire.sockets[0].message("a", 5);
  hub.close();
  assert.equal(hub.state, "closed");
  for await (const message of loop) assert.fail(message);
  left.unsubscribe();
  hub.subscribe("d", () => {});
  await assert.rejects(hub.publish("a", 1), { code: "closed" });
  hub.connect();
  await settle();
  const next = wire.sockets[1];
  assert.deepEqual(next.asked("subscribe").map(({ channel, since }) => [channel, since]), [["a", "e:5"], ["d", undefined]]);
  next.confirm("a", "e:5");
  next.message("a", 6);
  assert.deepEqual(seen, [5, 6]);
  assert.equal(hub.state, "connected");
  hub.connect(); // harmless
  await settle();
  assert.equal(wire.sockets.length, 2);
  hub.close();
});

test("a hub that was refused connects again with another token", async () => {
  console_();
  const wire = fakeWire();
  const tokens = ["old", "old", "new"];
  const { hub } = connect(wire, { token: () => tokens.shift() });
  const errors = [];
  hub.subscribe("a", () => {}, { onError: ({ code }) => errors.push(code) });
  await settle();
  for (const n of [0, 1]) {
    wire.sockets[n].end(4401, "token is over");
    await settle();
  }
  assert.equal(hub.state, "closed");
  assert.deepEqual(errors, ["closed"]);
  hub.connect();
  await settle();
  assert.equal(wire.sockets[2].url.searchParams.get("token"), "new");
  assert.equal(wire.sockets[2].asked("subscribe").length, 1);
  hub.close();
});

test("an option that does not exist is refused by its name", () => {
  const { hub } = connect(fakeWire());
  assert.throws(() => new Hub("http://h", { tokn: "x" }), /no option "tokn": there are token, /);
  assert.throws(() => hub.subscribe("a", () => {}, { lst: 1 }), /no option "lst"/);
  assert.rejects(hub.publish("a", 1, { idempotenceKey: "x" }), /no option "idempotenceKey"/);
  hub.close();
});

test("offline asks at once: without an answer in a second the connection is lost", async () => {
  const offline = new Set();
  globalThis.addEventListener = (name, listener) => name === "offline" && offline.add(listener);
  try {
    const wire = fakeWire("silent");
    const { hub } = connect(wire);
    hub.subscribe("a", () => {});
    await settle();
    wire.sockets[0].push(WELCOME);
    wire.sockets[0].pong();
    for (const listener of offline) listener();
    await pass(999);
    wire.sockets[0].pong(); // another network than the hub's
    await pass(1000);
    assert.equal(hub.state, "connected");
    for (const listener of offline) listener();
    await pass(999);
    assert.equal(hub.state, "connected");
    await pass(1);
    assert.equal(hub.state, "waiting");
    hub.close();
  } finally {
    delete globalThis.addEventListener;
  }
});
