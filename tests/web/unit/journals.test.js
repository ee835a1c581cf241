/** The viewer's reader makes of stored journals what the Python reader made of them (tests/run/journals.py), and knows every field of the schema. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { fold, linesOf, parse, read } from "../../../web/viewer/record.js";

const DATA = new URL("../../data/trajectories/", import.meta.url);
const file = (name) => readFileSync(new URL(name, DATA), "utf8");
const SCHEMA = JSON.parse(readFileSync(new URL("../../../clvr_core/trajectory.schema.json", import.meta.url), "utf8"));

/** Fields that the viewer has no use for, by record. Whoever adds a field to a dataclass adds it to record.js or here. */
const UNUSED = {
  Brief: ["candidates", "final_ab", "conditioning", "judging", "evidence", "picture", "fused", "estimate", "guided", "rollback", "conversation"],
  Budget: ["met", "unmet"],
  Candidate: ["sha256", "latent"],
  Reference: ["sha256"],
  Remark: ["sha256"],
  Step: ["exchanges"],
  Trajectory: ["prompts"],
};

/** Codes that Python derives for journals from before they were recorded; the viewer shows their sentences. */
const DERIVED = ["ruling", "ended", "route"];

/** @param {any} schema @returns {any} the definition that it names, or the schema itself */
const resolved = (schema) => (schema.$ref ? SCHEMA.$defs[schema.$ref.replace("#/$defs/", "")] : schema);
const nameOf = (schema) => schema.$ref?.replace("#/$defs/", "");
const withoutNull = (schema) => schema.anyOf?.find((each) => each.type !== "null") ?? schema;

/** Raises where the viewer's value has another content than the expected one, or lacks a field that is not in UNUSED. */
function same(found, wanted, schema, where) {
  const plain = withoutNull(schema);
  const shape = resolved(plain);
  if (wanted === null || typeof wanted !== "object") {
    assert.equal(found, where.endsWith(".seed") ? String(wanted) : wanted, where);
  } else if (Array.isArray(wanted)) {
    assert.equal(found.length, wanted.length, where);
    wanted.forEach((item, place) => same(found[place], item, shape.items, `${where}[${place}]`));
  } else if (shape.properties) {
    const used = Object.keys(shape.properties).filter((key) => !UNUSED[nameOf(plain)]?.includes(key));
    assert.deepEqual(Object.keys(found).filter((key) => key !== "doing").sort(), used.sort(), `${where}: fields`);
    for (const key of used) if (found[key] || !DERIVED.includes(key)) same(found[key], wanted[key], shape.properties[key], `${where}.${key}`);
  } else {
    assert.deepEqual({ ...found }, wanted, where);
  }
}

const folders = readdirSync(DATA);
assert.ok(folders.length >= 7);

for (const name of folders) {
  const wanted = parse(file(`${name}/expected.json`));
  const journal = file(`${name}/trajectory.jsonl`);

  test(`the journal ${name} is the trajectory that Python reads`, () => {
    same(read(fold(linesOf(journal))), wanted, SCHEMA, name);
  });

  test(`the record ${name}, as a picture or a report carries it, is read the same`, () => {
    same(read(wanted), wanted, SCHEMA, name);
  });
}

test("what a killed run had begun is under way", () => {
  const { doing, steps } = read(fold(linesOf(file("unfinished/trajectory.jsonl"))));
  assert.deepEqual([steps.length, doing?.action?.kind, doing?.candidates.map(({ canvas }) => canvas)], [1, "EDIT", [1]]);
});

/** A value of this schema that is not the default. */
function sample(schema) {
  const shape = resolved(withoutNull(schema));
  if (shape.properties) return Object.fromEntries(Object.entries(shape.properties).map(([key, each]) => [key, sample(each)]));
  if (shape.enum) return shape.enum.find((value) => value !== schema.default);
  const type = [shape.type].flat()[0];
  if (type === "array") return Array.from({ length: shape.minItems ?? 1 }, () => sample(shape.items));
  if (type === "object") return { key: sample(shape.additionalProperties) };
  return { string: "words", boolean: schema.default !== true, integer: 1, number: 0.5 }[type];
}

test("every field of the schema is read", () => {
  const record = sample(SCHEMA);
  same(read(record), record, SCHEMA, "trajectory");
});

/** The record with the defaults of the schema in the place of what is left out. */
function filled(value, schema) {
  const shape = resolved(withoutNull(schema));
  if (value === null || value === undefined) return value;
  if (Array.isArray(value)) return value.map((item) => filled(item, shape.items));
  if (!shape.properties) return value;
  return Object.fromEntries(Object.entries(shape.properties).map(([key, each]) => [key, filled(key in value ? value[key] : each.default, each)]));
}

test("a field that is left out has the default of the schema", () => {
  const outcome = { reason: "x", canvas: null, met: false };
  const step = { index: 0, action: { kind: "END" }, verdicts: [{ goal: "g", state: "met" }], candidates: [{ canvas: 0, file: "f", seed: 1, sha256: "0" }] };
  const record = { brief: { prompt: "x", goals: [{ id: "g", text: "t" }] }, steps: [step], remarks: [{ after: 0 }], outcome };
  same(read(record), filled(record, SCHEMA), SCHEMA, "trajectory");
});

test("every value of a closed set is read", () => {
  const { Action, Verdict, Goal } = SCHEMA.$defs;
  for (const kind of Action.properties.kind.enum) read({ brief: { prompt: "x" }, steps: [{ index: 0, action: { kind } }] });
  for (const state of Verdict.properties.state.enum) read({ brief: { prompt: "x" }, steps: [{ index: 0, action: { kind: "END" }, verdicts: [{ goal: "g", state }] }] });
  for (const need of Goal.properties.need.enum) assert.equal(read({ brief: { prompt: "x" }, goals: [{ id: "g", text: "t", need }] }).goals[0].need, need);
});
