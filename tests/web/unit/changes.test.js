/** Maps of two by two and four by one pixels, worked out by hand. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { THRESHOLD, changeMap, changeWords, intended } from "../../../web/viewer/changes.js";
import { read } from "../../../web/viewer/record.js";
import { allGoals, owners } from "../../../web/viewer/tree.js";
import { run } from "./runs.js";

const grey = (...values) => new Uint8ClampedArray(values.flatMap((value) => [value, value, value, 255]));
const colours = ({ pixels }) => Array.from({ length: pixels.length / 4 }, (_, at) => (pixels[4 * at] > 190 && pixels[4 * at + 1] < 60 ? "red" : pixels[4 * at] < 60 ? "blue" : "grey"));

test("what changed outside the edit is kept apart from what changed inside", () => {
  const map = changeMap(grey(0, 0, 0, 0), grey(99, 0, 99, 0), 2, 2, [[0, 0, 1, 0.5]]);
  assert.deepEqual(colours(map), ["blue", "grey", "red", "grey"]);
  assert.deepEqual([map.inside, map.outside], [0.5, 0.5]);
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

test("what was measured with is what is shown", () => {
  const record = run();
  record.steps[1].edit = { ...record.steps[1].edit, change: { meant: [[0.25, 0.25, 0.5, 0.5]] } };
  assert.deepEqual(intended(viewOf(record), 2, 4), [[0.25, 0.25, 0.5, 0.5]]);
  record.steps[1].edit.change.meant = [];
  assert.deepEqual(intended(viewOf(record), 2, 4), []);
});

test("the share of repainted pixels is that of Python", () => {
  const cases = JSON.parse(readFileSync(new URL("../../data/changes.json", import.meta.url), "utf8"));
  for (const { width, height, before, after, meant, outside } of cases) {
    const [one, other] = [before, after].map((hex) => Uint8ClampedArray.from(hex.match(/.{6}/g).flatMap((pixel) => [...pixel.match(/../g).map((pair) => parseInt(pair, 16)), 255])));
    assert.equal(Number(changeMap(one, other, width, height, meant).outside.toFixed(4)), outside);
  }
});

test("only what can be seen is put into words", () => {
  const still = { outside: 0, strength: 0, colour: [0, 0, 0], uneven: 0, offset: null, scale: null, sharpness: 1, noise: 0, meant: [] };
  assert.equal(changeWords(still), "");
  assert.equal(changeWords({ ...still, offset: [0.3, 0.1], colour: [0.2, 0.3, 0.1], sharpness: 0.99 }), "");
  assert.equal(changeWords({ ...still, outside: 0.08, offset: [0, -1.2], colour: [2.1, 0, 0] }), "8\u00a0% repainted, moved 1.2 px, lighter (+2.1 L)");
  assert.equal(changeWords({ ...still, scale: 0.98, colour: [-3, 2, -1], sharpness: 0.8, noise: -1 }), "shrunk by 2\u00a0%, darker (\u22123 L), tinted (+2 a, \u22121 b), softer (80\u00a0%), smoother (\u22121 levels)");
});
