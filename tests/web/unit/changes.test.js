/** Maps of two by two and four by one pixels, worked out by hand. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { THRESHOLD, changeMap, intended } from "../../../web/viewer/changes.js";
import { read } from "../../../web/viewer/record.js";
import { allGoals, owners } from "../../../web/viewer/tree.js";
import { run } from "./runs.js";

const grey = (...values) => new Uint8ClampedArray(values.flatMap((value) => [value, value, value, 255]));
const colours = ({ pixels }) => Array.from({ length: pixels.length / 4 }, (_, at) => (pixels[4 * at] > 190 && pixels[4 * at + 1] < 60 ? "red" : pixels[4 * at] < 60 ? "blue" : "grey"));

test("what changed outside the edit is kept apart from what changed inside", () => {
  const map = changeMap(grey(0, 0, 0, 0), grey(99, 0, 99, 0), 2, 2, [[0, 0, 1, 0.5]]);
  assert.deepEqual(colours(map), ["blue", "grey", "red", "grey"]);
  assert.deepEqual([map.inside, map.outside], [0.25, 0.25]);
});

test("below the threshold nothing has changed", () => {
  const map = changeMap(grey(0, 0), grey(THRESHOLD - 1, THRESHOLD), 2, 1, []);
  assert.deepEqual(colours(map), ["grey", "red"]);
});

test("one channel is enough, in either direction", () => {
  const before = new Uint8ClampedArray([9, 200, 9, 255]);
  assert.equal(changeMap(before, new Uint8ClampedArray([9, 100, 9, 255]), 1, 1, null).inside, 1);
  assert.equal(changeMap(new Uint8ClampedArray([9, 9, 9, 255]), new Uint8ClampedArray([9, 9, 90, 255]), 1, 1, null).inside, 1);
});

test("without boxes all change counts as meant", () => {
  const map = changeMap(grey(0, 0, 0, 0), grey(99, 0, 99, 0), 4, 1, null);
  assert.deepEqual([colours(map), map.inside, map.outside], [["blue", "grey", "blue", "grey"], 0.5, 0]);
});

test("no pixels are no division by nothing", () => assert.deepEqual(changeMap(grey(), grey(), 0, 0, null).outside, 0));

const viewOf = (record) => {
  const whole = read(record);
  return { run: whole, goals: new Map(allGoals(whole).map((goal) => [goal.id, goal])), owners: owners(whole.steps), changes: [], pictures: () => ({ missing: "" }) };
};

test("the edit is meant where its region is, else where the goals it serves are", () => {
  const record = run();
  assert.deepEqual(intended(viewOf(record), 2, 4), [[0.5, 0, 1, 0.5]]);
  record.steps[3].action.goals = ["g1"];
  assert.deepEqual(intended(viewOf(record), 4, 6), [[0, 0, 0.33, 0.33]]);
  assert.deepEqual(intended(viewOf(record), 2, 6), [[0, 0, 0.33, 0.33], [0.5, 0, 1, 0.5]]);
});

test("where a step does not say, or the steps do not lead there, nothing is known", () => {
  assert.equal(intended(viewOf(run()), 4, 6), null);
  assert.equal(intended(viewOf(run()), 6, 2), null);
  assert.equal(intended(viewOf(run()), 0, 99), null);
  const circle = run();
  circle.steps[1].parent = 6;
  circle.steps[3].action.region = [0, 0, 1, 1];
  assert.equal(intended(viewOf(circle), 2, 6), null);
});
