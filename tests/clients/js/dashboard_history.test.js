/** What the dashboard's charts are drawn from: figures that stand for a while, and holes. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { openHistory } from "../../../hub/dashboard/history.js";

/** What charts show of the seconds in which a node spoke, from the first of them on. */
function shown(...spoken) {
  const history = openHistory((known) => known.length);
  const first = 1000;
  for (const second of spoken) history.put(first + second, "node", {});
  return history.samples().slice(-(Math.max(...spoken) + 1));
}

test("figures that come each second are a line", () => {
  assert.deepEqual(shown(0, 1, 2, 3), [1, 1, 1, 1]);
});

test("figures that a page asks for every two or three seconds are a line as well", () => {
  assert.deepEqual(shown(0, 2, 5, 8), [1, 1, 1, 1, 1, 1, 1, 1, 1]);
});

test("a longer silence is a hole", () => {
  const hole = undefined;
  assert.deepEqual(shown(0, 1, 8, 9), [1, 1, hole, hole, hole, hole, hole, hole, 1, 1]);
});
