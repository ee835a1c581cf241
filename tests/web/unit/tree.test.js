/** Trees are written as nested lists: a step's index, then a list for each branch that hangs on it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { read } from "../../../web/viewer/record.js";
import { allGoals, changes, depthOf, grow, known, optional, owners, tally } from "../../../web/viewer/tree.js";
import { drawn, step } from "./runs.js";

const run = (steps, more = {}) => read({ brief: { prompt: "x" }, steps, ...more });
const shape = (twigs) => twigs.flatMap(({ step: { index }, branches }) => [index, ...branches.map(shape)]);
const flat = (nested) => nested.flat(Infinity).sort((one, other) => one - other);
const range = (count) => [...Array(count).keys()];
const no = { accepted: false };

test("a run without rollbacks is one line", () => {
  const tree = grow(run([step(0, null), step(1, 0), step(2, 1)]));
  assert.deepEqual(shape(tree.line), [0, 1, 2]);
  assert.deepEqual(tree.branches, []);
});

test("a rolled-back branch hangs on the step it started from", () => {
  const tree = grow(run([step(0, null), step(1, 0), step(2, 1, no), step(3, 2, no), step(4, 1)], { best: 4 }));
  assert.deepEqual(shape(tree.line), [0, 1, [2, 3], 4]);
});

test("a branch at the end is no continuation", () => {
  assert.deepEqual(shape(grow(run([step(0, null), step(1, 0, no), step(2, 0, no)])).line), [0, [1], [2]]);
});

test("the line leads to what was handed over", () => {
  const steps = [step(0, null), step(1, 0), step(2, 1), step(3, 0), step(4, 3)];
  assert.deepEqual(shape(grow(run(steps, { best: 2 })).line), [0, [3, 4], 1, 2]);
  assert.deepEqual(shape(grow(run(steps, { best: 4 })).line), [0, [1, 2], 3, 4]);
  const outcome = { reason: "budget", canvas: 2, met: false };
  assert.deepEqual(shape(grow(run(steps, { best: 4, outcome })).line), [0, [3, 4], 1, 2]);
});

test("a step that only judges stands in the line", () => {
  const steps = [step(0, null), step(1, 0, { draws: false }), step(2, 0, no), step(3, 0), step(4, 3, { draws: false })];
  assert.deepEqual(shape(grow(run(steps, { best: 3 })).line), [0, [2], 1, 3, 4]);
});

test("first tries that were not kept hang on the start", () => {
  const tree = grow(run([step(0, null, no), step(1, null), step(2, null, no)], { best: 1 }));
  assert.deepEqual(shape(tree.line), [1]);
  assert.deepEqual(tree.branches.map(shape), [[0], [2]]);
});

test("a parent may be a candidate that was not chosen", () => {
  const first = { ...step(0, null), candidates: drawn(0, 1, 2) };
  assert.deepEqual(shape(grow(run([first, { ...step(3, 2), index: 1 }])).line), [0, 1]);
});

test("parents that make no tree count as none", () => {
  const tree = grow(run([step(0, 1), step(1, 0), step(2, 2), step(3, 77)]));
  assert.deepEqual(flat([...shape(tree.line), ...tree.branches.map(shape)]), range(4));
});

test("however deep, no step is lost", () => {
  const comb = range(601).map((index) => (index ? step(index, index - 1 - (index % 2 === 0), { accepted: index % 2 === 1 }) : step(0, null)));
  assert.deepEqual(flat(shape(grow(run(comb)).line)), range(601));
  const zigzag = range(1200).map((index) => step(index, index ? Math.floor((index - 1) / 2) : null));
  assert.deepEqual(flat(shape(grow(run(zigzag)).line)), range(1200));
});

test("changes are against the canvas a step started from", () => {
  const found = changes(
    run([
      step(0, null, { a: "met", b: "unmet", c: "met", d: "met" }),
      step(1, 0, { accepted: false, a: "unmet", b: "met", c: "error", d: "pending" }),
      step(2, 0, { a: "met", b: "met", c: "met", d: "met" }),
    ]),
  );
  assert.deepEqual(found, [
    { gained: new Set(), broken: new Set() },
    { gained: new Set(["b"]), broken: new Set(["a"]) },
    { gained: new Set(["b"]), broken: new Set() },
  ]);
});

test("a step that only judges breaks nothing", () => {
  const { steps, ...rest } = run([step(0, null, { a: "met" }), { ...step(1, 0, { draws: false, a: "unmet" }), chosen: 0 }]);
  assert.deepEqual(changes({ steps, ...rest })[1], { gained: new Set(), broken: new Set() });
  assert.equal(known(steps, 0).get("a").state, "unmet");
});

test("goals that only a verdict names come last", () => {
  const goals = allGoals(run([step(0, null, { b: "met", a: "met" })], { goals: [{ id: "a", text: "first" }] }));
  assert.deepEqual(goals.map(({ id }) => id), ["a", "b"]);
});

test("nice goals are optional unless there are no others", () => {
  const goals = (...needs) => needs.map((need, place) => ({ id: `g${place}`, need }));
  assert.deepEqual([...optional(goals("must", "nice", "nice"))], ["g1", "g2"]);
  for (const needs of [[], ["must"], ["nice"], ["nice", "nice"]]) assert.equal(optional(goals(...needs)).size, 0);
});

test("must-have and nice-to-have goals are counted apart, and only those that are asked for", () => {
  const verdicts = [{ goal: "a", state: "met" }, { goal: "b", state: "unsure" }, { goal: "c", state: "met" }, { goal: "gone", state: "met" }];
  assert.deepEqual(tally(["a", "b", "c", "d"], verdicts, new Set(["c", "d"])), { must: { met: 1, all: 2 }, nice: { met: 1, all: 2 } });
});

test("the depth of a canvas is the number of edits since one that was drawn from words", () => {
  const edit = (index, reference) => ({ ...step(index, reference), action: { kind: "EDIT", references: [reference] } });
  const { steps } = run([step(0, null), edit(1, 0), edit(2, 1), step(3, null), edit(4, 3), edit(5, 5)]);
  assert.deepEqual([0, 1, 2, 3, 4, 5, 99].map((canvas) => depthOf(steps, owners(steps), canvas)), [0, 1, 2, 0, 1, 1, 0]);
});
