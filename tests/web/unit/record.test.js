import assert from "node:assert/strict";
import { test } from "node:test";

import { RunError, fold, linesOf, parse, read } from "../../../web/viewer/record.js";
import { drawn, run } from "./runs.js";

const refused = (record, words) => assert.throws(() => read(record), (error) => error instanceof RunError && words.test(error.message));

test("fields that are left out have their defaults, unknown ones are skipped", () => {
  const found = read({ brief: { prompt: "x", later: 1 }, more: [], steps: [{ index: 0, action: { kind: "END" } }] });
  assert.deepEqual([found.brief.strategy, found.brief.width, found.brief.budget.rounds, found.best, found.outcome], ["clvr", 96, 8, null, null]);
  assert.equal("more" in found, false);
  assert.deepEqual(found.steps[0].edit, { success: null, over_edit: null, evidence: "", change: null, drift: null, missed: [], witnesses: [] });
});

test("a newer schema is refused by its number", () => refused({ ...run(), schema: 9 }, /schema version 9; this viewer reads up to 1\. Update CLVR/));

for (const [record, words] of [
  [null, /no trajectory/],
  [7, /no trajectory/],
  [[], /no trajectory/],
  [{}, /brief should be there/],
  [{ schema: "x" }, /schema should be a version/],
  [{ schema: 0 }, /schema should be a version/],
  [{ brief: {} }, /brief\.prompt should be there/],
  [{ brief: { prompt: 7 } }, /brief\.prompt should be a text, found 7/],
  [{ ...run(), steps: 4 }, /steps should be a list/],
  [{ ...run(), models: [1] }, /models should be an object/],
  [{ ...run(), steps: [{ index: 0, action: { kind: "HACK" } }] }, /steps\[0\]\.action\.kind should be one of GENERATE, EDIT, VALIDATE, END, GIVEN, found "HACK"/],
  [{ ...run(), steps: [{ index: 0, action: { kind: "END" }, verdicts: [{ goal: "a", state: "fine" }] }] }, /verdicts\[0\]\.state/],
  [{ ...run(), steps: [{ index: 0, action: { kind: "EDIT", region: [1, 2] } }] }, /region should be four numbers/],
  [{ ...run(), steps: Array(2001).fill(run().steps[4]) }, /2001 steps; the viewer shows up to 2000/],
]) {
  test(`a damaged record is a sentence: ${words.source}`, () => refused(record, words));
}

test("JSON that is none is a sentence", () => {
  for (const text of ["", "{", "nonsense"]) assert.throws(() => parse(text), RunError);
});

test("a name from Object's prototype is only a name", () => {
  const found = read(JSON.parse('{"brief": {"prompt": "x"}, "models": {"__proto__": "m", "constructor": "c"}, "overhead": {"seconds": {"__proto__": 1}}}'));
  assert.deepEqual(Object.entries(found.models), [["__proto__", "m"], ["constructor", "c"]]);
  assert.equal({}.polluted, undefined);
});

test("a seed of 63 bits keeps every digit", () => {
  const record = run();
  record.steps[0].candidates[0].seed = 0;
  const json = JSON.stringify(record).replace('"seed":0', '"seed":9223372036854775807').replace('"seed":42', '"seed": 9007199254740993');
  const found = read(parse(json));
  assert.deepEqual([found.steps[0].candidates[0].seed, found.brief.seed, found.steps[0].candidates[1].seed], ["9223372036854775807", "9007199254740993", "1001"]);
});

const { brief, models, goals, plan, gate, steps, outcome, overhead, warnings } = run();
const LINES = [
  { event: "start", schema: 1, brief, models },
  { event: "goals", result: { goals } },
  { event: "planned", goals, plan, gate, warnings: [], overhead },
  { event: "action", result: { action: steps[0].action } },
  { event: "drawn", result: { candidates: drawn(0, 1) } },
  { event: "judged", result: {} },
  { event: "step", steps: [steps[0]], current: 2, best: 2, warnings: [], overhead },
  { event: "action", result: { action: steps[1].action } },
  { event: "drawn", result: { candidates: drawn(4) } },
];

test("the lines of the journal make up the record, with what is under way", () => {
  const found = fold(LINES);
  assert.deepEqual([found.steps, found.best, found.goals, found.plan], [[steps[0]], 2, goals, plan]);
  assert.deepEqual(found.doing, { action: steps[1].action, candidates: drawn(4) });
  assert.equal(read(found).doing.candidates[0].canvas, 4);
  assert.deepEqual(fold(LINES.slice(0, 7)).doing, null);
});

test("a step that is written again takes the place of the old one", () => {
  const again = { ...steps[0], score: 0.9 };
  const found = fold([...LINES.slice(0, 7), { event: "step", steps: [again, steps[1]], current: 4, best: 4 }, { event: "end", steps: [], current: 4, best: 4, outcome, overhead, warnings }]);
  assert.deepEqual(found.steps, [again, steps[1]]);
  assert.deepEqual([found.outcome, found.warnings], [outcome, warnings]);
});

test("what the artist said is part of it, with the goals that it left", () => {
  const remarks = [{ after: 0, words: "a bird too", corrected: { g1: "unmet" } }];
  const found = fold([...LINES.slice(0, 7), { event: "remarked", goals: goals.slice(0, 1), remarks, steps: [{ ...steps[0], score: 0 }], current: 2, best: null }]);
  assert.deepEqual([found.goals, found.remarks, found.steps[0].score, found.best], [goals.slice(0, 1), remarks, 0, null]);
  assert.equal(read(found).remarks[0].say, "go on");
});

test("a rewind takes lines back and gives another budget", () => {
  const found = fold([...LINES, { event: "rewind", keep: 3, budget: { rounds: 12 } }]);
  assert.deepEqual([found.steps, found.doing, found.brief.budget.rounds], [[], null, 12]);
  assert.throws(() => fold([...LINES, { event: "rewind", keep: 99 }]), RunError);
  assert.throws(() => fold([]), RunError);
});

test("only whole lines are read", () => {
  assert.deepEqual(linesOf('{"event":"start"}\n{"event":"go'), [{ event: "start" }]);
  assert.throws(() => linesOf("[1]\n"), RunError);
  assert.throws(() => linesOf("{\n"), RunError);
});
