/** `getState`: the application's own state, and then what follows its position. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { openSubscription } from "../../../clients/js/src/subscription.js";

const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
const message = (offset, epoch = "e") => ({ channel: "a", epoch, offset, data: offset, position: `${epoch}:${offset}` });

/** A subscription whose state stands at each of these positions in turn; what it told. */
function listen(states, publications = []) {
  const told = [];
  const asked = [];
  const request = async (command) => {
    asked.push(command);
    const from = Number(command.since.split(":")[1]);
    return { position: "e:99", publications: publications.filter(({ offset }) => offset > from) };
  };
  const member = openSubscription({ leave() {}, request, conflict() {} }, "a", {
    getState: async () => ({ data: "rows", position: states.shift() }),
    onMessage: ({ state, offset, position }) => told.push(state ? `state ${position}` : offset),
    onGap: ({ reason }) => told.push(reason),
  });
  return { member, told, asked };
}

test("state comes first, and then what it does not have", async () => {
  const { member, told, asked } = listen(["e:5"]);
  member.push("subscribed", { position: "e:3" });
  for (const offset of [4, 5, 6]) member.push("message", message(offset));
  await turn();
  member.push("message", message(7));
  assert.deepEqual(told, ["state e:5", 6, 7]);
  assert.deepEqual(asked, []);
});

test("what the state has and comes later than it is not told twice", async () => {
  const { member, told } = listen(["e:5", "e:9"]);
  member.push("subscribed", { position: "e:3" });
  await turn();
  for (const offset of [4, 5, 6]) member.push("message", message(offset));
  member.push("gap", { channel: "a", epoch: "e", from: 7, to: 8, reason: "slow" });
  await turn();
  for (const offset of [9, 10]) member.push("message", message(offset));
  assert.deepEqual(told, ["state e:5", 6, "slow", "state e:9", 10]);
});

test("of a gap that the state covers in part the rest is missing", async () => {
  const gaps = [];
  const states = ["e:5", "e:8"];
  const member = openSubscription({ leave() {}, request: async () => assert.fail(), conflict() {} }, "a", {
    getState: async () => ({ data: "rows", position: states.shift() }),
    onMessage: () => {},
    onGap: ({ from, to }) => gaps.push([from, to]),
  });
  member.push("subscribed", { position: "e:3" });
  member.push("gap", { channel: "a", epoch: "e", from: 4, to: 7, reason: "slow" });
  await turn();
  assert.deepEqual(gaps, [[6, 7]]);
});

test("what lies between an older state and the stream comes from history", async () => {
  const { member, told } = listen(["e:1"], [message(2), message(3), message(4)]);
  member.push("subscribed", { position: "e:3" });
  member.push("message", message(4));
  await turn();
  await turn();
  assert.deepEqual(told, ["state e:1", 2, 3, 4]);
});

test("what history lacks behind a state that stays as old is a gap", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const { member, told } = listen(["e:1", "e:1"], [message(2), message(4)]);
  member.push("subscribed", { position: "e:4" });
  member.push("message", message(5));
  await settled();
  mock.timers.tick(3000);
  await settled();
  member.push("message", message(6));
  assert.deepEqual(told, ["state e:1", 2, "expired", 4, 5, 6]);
});

test("after a gap state is asked for again, and what is conflated is none", async () => {
  const { member, told } = listen(["e:3", "e:9"]);
  member.push("subscribed", { position: "e:3" });
  await turn();
  member.push("gap", { channel: "a", epoch: "e", from: 4, to: 5, reason: "conflated" });
  member.push("message", message(6));
  member.push("gap", { channel: "a", epoch: "e", from: 7, to: 8, reason: "expired" });
  for (const offset of [9, 10]) member.push("message", message(offset));
  await turn();
  assert.deepEqual(told, ["state e:3", "conflated", 6, "expired", "state e:9", 10]);
});

test("an answer that is no state is said, and asked for again", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const said = mock.method(console, "error", () => {});
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const { member, told } = listen([undefined, "e:3"]);
  member.push("subscribed", { position: "e:3" });
  await settled();
  assert.match(said.mock.calls[0].arguments.join(" "), /getState must answer \{ data, position \}/);
  mock.timers.tick(3000);
  await settled();
  assert.deepEqual(told, ["state e:3"]);
});

test("after a reset state of the new epoch is told", async () => {
  const { member, told } = listen(["e:3", "f:2"]);
  member.push("subscribed", { position: "e:3" });
  await turn();
  member.push("gap", { channel: "a", epoch: "f", position: "f:1", reason: "reset" });
  for (const offset of [2, 3]) member.push("message", message(offset, "f"));
  await turn();
  assert.deepEqual(told, ["state e:3", "reset", "state f:2", 3]);
});
