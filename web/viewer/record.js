/**
 * Reads trajectories. clvr_core/trajectory.schema.json describes them: the writer leaves out fields at their default, and a reader skips
 * fields that it does not know. `read` checks a record and fills in the defaults; `fold` makes a record from the lines of trajectory.jsonl.
 *
 * @typedef {[number, number, number, number]} Box left, top, right, bottom as fractions of the canvas
 * @typedef {{ id: string, text: string, kind: string, check: string, feasibility: number, area: Box | null, conflicts_with: string[],
 *   need: "must" | "nice", reference: string }} Goal the brief counts as met without a goal that is nice
 * @typedef {{ kind: "GENERATE" | "EDIT" | "VALIDATE" | "END" | "GIVEN", summary: string, scene_prompt: string, edit_prompt: string,
 *   references: number[], goals: string[], region: Box | null, strength: number | null, checks: string[] }} Action
 * @typedef {{ goal: string, state: "met" | "unmet" | "pending" | "unsure" | "error", evidence: string, confidence: number | null,
 *   witnesses: Finding[] }} Verdict
 * @typedef {{ witness: string, says: "yes" | "no", strength: number, words: string, boxes: Box[], fault: Box | null,
 *   reliability: number | null }} Finding
 * @typedef {{ canvas: number, file: string, seed: string, nfe: number }} Candidate
 * @typedef {{ seconds: Record<string, number>, vlm_tokens: number, vlm_calls: number, evaluations: number, images: number }} Cost
 * @typedef {{ outside: number, strength: number, colour: number[], uneven: number, offset: number[] | null, scale: number | null,
 *   sharpness: number, noise: number, meant: Box[] }} Change
 * @typedef {{ success: boolean | null, over_edit: number | null, evidence: string, change: Change | null, drift: Change | null,
 *   missed: string[], witnesses: Finding[] }} EditCheck
 * @typedef {{ index: number, action: Action, parent: number | null, candidates: Candidate[], chosen: number | null, verdicts: Verdict[],
 *   score: number | null, edit: EditCheck, accepted: boolean, reason: string, ruling: string, cost: Cost }} Step
 * @typedef {{ rounds: number, images: number | null, evaluations: number | null, seconds: number | null, vlm_tokens: number | null,
 *   patience: number, tolerance: number | null, depth: number | null }} Budget
 * @typedef {{ prompt: string, strategy: string, seed: string, width: number, height: number, budget: Budget, goals: Goal[],
 *   references: { name: string, keeps: string }[] }} Brief in the order in which models see them
 * @typedef {{ reason: string, canvas: number | null, met: boolean, choice: string, ended: string }} Outcome
 * @typedef {{ after: number, say: string, words: string, corrected: Record<string, string>, dropped: string[], back_to: number | null,
 *   mask: string }} Remark of the artist after the step with the index `after`
 * @typedef {{ action: Action | null, candidates: Candidate[] }} Doing the step in progress
 * @typedef {{ schema: number, brief: Brief, goals: Goal[], models: Record<string, string>, plan: string[][], gate: string, route: string, steps: Step[],
 *   current: number | null, best: number | null, outcome: Outcome | null, overhead: Cost, warnings: string[], remarks: Remark[],
 *   doing: Doing | null }} Run
 */

import { mark, t } from "./language.js";

export const SCHEMA = 1;
export const MOST_STEPS = 2000;

/** A record that cannot be shown. The message is a sentence for the artist. */
export class RunError extends Error {}

/** @typedef {(value: unknown, where: string) => any} Reader */

/** @param {string} where @param {string} wanted @param {unknown} value @returns {never} */
function wrong(where, wanted, value) {
  const found = typeof value === "string" ? `"${value.slice(0, 40)}"` : value === undefined ? t("nothing") : String(JSON.stringify(value)).slice(0, 40);
  throw new RunError(t("This trajectory is damaged: {where} should be {wanted}, found {found}.", { where, wanted: t(wanted), found }));
}

/** @type {(value: unknown, where: string) => string} */
const text = (value, where) => (typeof value === "string" ? value : wrong(where, mark("a text"), value));
/** @type {(value: unknown, where: string) => boolean} */
const flag = (value, where) => (typeof value === "boolean" ? value : wrong(where, mark("true or false"), value));
/** @type {(value: unknown, where: string) => number} */
const number = (value, where) => (typeof value === "number" ? value : value === null ? NaN : wrong(where, mark("a number"), value));
/** @type {(value: unknown, where: string) => number} */
const index = (value, where) => (Number.isInteger(value) ? /** @type {number} */ (value) : wrong(where, mark("a whole number"), value));
/** Reads a seed as a string of digits: it has 63 bits, and a number of JavaScript keeps 53. @type {Reader} */
const digits = (value, where) => (typeof value === "string" && /^\d{1,20}$/.test(value) ? value : String(index(value, where)));

/** @param {...string} allowed @returns {Reader} */
const one =
  (...allowed) =>
  (value, where) =>
    allowed.includes(/** @type {string} */ (value)) ? value : wrong(where, t("one of {values}", { values: allowed.join(", ") }), value);

/** @param {Reader} read @returns {Reader} */
const maybe = (read) => (value, where) => (value === null ? null : read(value, where));

/** @param {Reader} read @returns {Reader} */
const list = (read) => (value, where) =>
  Array.isArray(value) ? value.map((item, place) => read(item, `${where}[${place}]`)) : wrong(where, mark("a list"), value);

/** @param {Reader} read @returns {Reader} */
const table = (read) => (value, where) => {
  const held = object(value, where);
  return Object.fromEntries(Object.entries(held).map(([key, item]) => [key, read(item, `${where}.${key.slice(0, 40)}`)]));
};

/** @param {unknown} value @param {string} where @returns {Record<string, unknown>} */
function object(value, where) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return wrong(where, mark("an object"), value);
  return /** @type {Record<string, unknown>} */ (value);
}

/** @param {Record<string, [Reader] | [Reader, unknown]>} fields each with its reader and, unless it must be there, its default @returns {Reader} */
const shape = (fields) => (value, where) => {
  const held = object(value, where);
  return Object.fromEntries(
    Object.entries(fields).map(([key, [read, ...rest]]) => {
      if (Object.hasOwn(held, key)) return [key, read(held[key], where ? `${where}.${key}` : key)];
      return [key, rest.length ? structuredClone(rest[0]) : wrong(where ? `${where}.${key}` : key, mark("there"), undefined)];
    }),
  );
};

/** @type {Reader} */
const box = (value, where) => {
  const edges = list(number)(value, where);
  return edges.length === 4 ? edges : wrong(where, mark("four numbers"), value);
};

const goal = shape({
  id: [text],
  text: [text],
  kind: [text, "local"],
  check: [text, ""],
  feasibility: [number, 1],
  area: [maybe(box), null],
  conflicts_with: [list(text), []],
  need: [one("must", "nice"), "must"],
  reference: [text, ""],
});
const NO_COST = { seconds: {}, vlm_tokens: 0, vlm_calls: 0, evaluations: 0, images: 0 };
const cost = shape({
  seconds: [table(number), {}],
  vlm_tokens: [number, 0],
  vlm_calls: [number, 0],
  evaluations: [number, 0],
  images: [number, 0],
});
const action = shape({
  kind: [one("GENERATE", "EDIT", "VALIDATE", "END", "GIVEN")],
  summary: [text, ""],
  scene_prompt: [text, ""],
  edit_prompt: [text, ""],
  references: [list(index), []],
  goals: [list(text), []],
  region: [maybe(box), null],
  strength: [maybe(number), null],
  checks: [list(text), []],
});
const candidate = shape({ canvas: [index], file: [text, ""], seed: [digits, "0"], nfe: [number, 0] });
const finding = shape({
  witness: [text],
  says: [one("yes", "no")],
  strength: [number, 1],
  words: [text, ""],
  boxes: [list(box), []],
  fault: [maybe(box), null],
  reliability: [maybe(number), null],
});
const verdict = shape({
  goal: [text],
  state: [one("met", "unmet", "pending", "unsure", "error")],
  evidence: [text, ""],
  confidence: [maybe(number), null],
  witnesses: [list(finding), []],
});
const change = shape({
  outside: [number, 0],
  strength: [number, 0],
  colour: [list(number), [0, 0, 0]],
  uneven: [number, 0],
  offset: [maybe(list(number)), null],
  scale: [maybe(number), null],
  sharpness: [number, 1],
  noise: [number, 0],
  meant: [list(box), []],
});
const UNCHECKED = { success: null, over_edit: null, evidence: "", change: null, drift: null, missed: [], witnesses: [] };
const edit = shape({
  success: [maybe(flag), null],
  over_edit: [maybe(number), null],
  evidence: [text, ""],
  change: [maybe(change), null],
  drift: [maybe(change), null],
  missed: [list(text), []],
  witnesses: [list(finding), []],
});
const step = shape({
  index: [index],
  action: [action],
  parent: [maybe(index), null],
  candidates: [list(candidate), []],
  chosen: [maybe(index), null],
  verdicts: [list(verdict), []],
  score: [maybe(number), null],
  edit: [edit, UNCHECKED],
  accepted: [flag, false],
  reason: [text, ""],
  ruling: [text, ""],
  cost: [cost, NO_COST],
});
const BUDGET = { rounds: 8, images: null, evaluations: null, seconds: null, vlm_tokens: null, patience: 3, tolerance: 1, depth: null };
const brief = shape({
  prompt: [text],
  strategy: [text, "clvr"],
  seed: [digits, "0"],
  width: [number, 96],
  height: [number, 96],
  budget: [
    shape({
      rounds: [number, BUDGET.rounds],
      images: [maybe(number), null],
      evaluations: [maybe(number), null],
      seconds: [maybe(number), null],
      vlm_tokens: [maybe(number), null],
      patience: [number, BUDGET.patience],
      tolerance: [maybe(number), BUDGET.tolerance],
      depth: [maybe(number), null],
    }),
    BUDGET,
  ],
  goals: [list(goal), []],
  references: [list(shape({ name: [text], keeps: [text, "subject"] })), []],
});
const outcome = shape({ reason: [text], canvas: [maybe(index)], met: [flag], choice: [text, ""], ended: [text, ""] });
const remark = shape({
  after: [index],
  say: [text, "go on"],
  words: [text, ""],
  corrected: [table(text), {}],
  dropped: [list(text), []],
  back_to: [maybe(index), null],
  mask: [text, ""],
});
const run = shape({
  schema: [index, SCHEMA],
  brief: [brief],
  goals: [list(goal), []],
  models: [table(text), {}],
  plan: [list(list(text)), []],
  gate: [text, ""],
  route: [text, ""],
  steps: [list(step), []],
  current: [maybe(index), null],
  best: [maybe(index), null],
  outcome: [maybe(outcome), null],
  overhead: [cost, NO_COST],
  warnings: [list(text), []],
  remarks: [list(remark), []],
  doing: [maybe(shape({ action: [maybe(action), null], candidates: [list(candidate), []] })), null],
});

/** Raises RunError with a sentence that names the field and the value found. @param {unknown} record parsed JSON @returns {Run} */
export function read(record) {
  if (typeof record !== "object" || record === null || Array.isArray(record)) throw new RunError(t("This is no trajectory of CLVR."));
  const { schema = SCHEMA } = /** @type {{ schema?: unknown }} */ (record);
  if (!Number.isInteger(schema) || Number(schema) < 1) wrong("schema", mark("a version"), schema);
  if (Number(schema) > SCHEMA) {
    throw new RunError(t("This trajectory has schema version {found}; this viewer reads up to {known}. Update CLVR.", { found: Number(schema), known: SCHEMA }));
  }
  const { steps } = /** @type {{ steps?: unknown }} */ (record);
  if (Array.isArray(steps) && steps.length > MOST_STEPS) {
    throw new RunError(t("This trajectory has {n} steps; the viewer shows up to {most}.", { n: steps.length, most: MOST_STEPS }));
  }
  return run(record, "");
}

/** Parses JSON and keeps seeds of more than 15 digits as strings. @param {string} json @returns {any} */
export function parse(json) {
  try {
    return JSON.parse(json.replace(/("(?:seed)":\s*)(\d{16,20})(?=\s*[,}])/g, '$1"$2"'));
  } catch (error) {
    throw new RunError(t("This trajectory is damaged: {why}.", { why: /** @type {Error} */ (error).message }));
  }
}

/** @typedef {{ event: string, [field: string]: any }} Line */

const DECISIONS = ["planned", "step", "remarked", "end"];

/**
 * Makes a record from the lines of trajectory.jsonl, as `trajectory_from` in clvr_core/run/run_folder.py does, and adds the step in progress.
 * @param {Line[]} lines @returns {Record<string, unknown>}
 */
export function fold(lines) {
  const standing = afterRewinds(lines);
  const [first, ...rest] = standing;
  if (first?.event !== "start") throw new RunError(t("This run has no first line, so there is nothing to show yet."));
  /** @type {Record<string, any>} */
  const record = { schema: first.schema ?? SCHEMA, brief: first.brief, models: first.models ?? {}, steps: [], doing: null };
  /** @type {Map<unknown, unknown>} */
  const steps = new Map();
  for (const line of rest) {
    if (DECISIONS.includes(line.event)) {
      record.overhead = line.overhead ?? NO_COST;
      record.warnings = line.warnings ?? [];
      record.doing = null;
    }
    if (line.event === "planned") Object.assign(record, { goals: line.goals ?? [], plan: line.plan ?? [], gate: line.gate ?? "", route: line.route ?? "" });
    if (line.event === "remarked") Object.assign(record, { goals: line.goals ?? [], remarks: line.remarks ?? [] });
    if (line.event === "step" && line.goals) record.goals = line.goals;
    if (DECISIONS.includes(line.event) && line.event !== "planned") {
      for (const each of Array.isArray(line.steps) ? line.steps : []) steps.set(each?.index, each);
      Object.assign(record, { current: line.current ?? null, best: line.best ?? null, outcome: line.outcome ?? null });
    }
    if (line.event === "action") record.doing = { action: line.result?.action ?? null, candidates: [] };
    if (line.event === "drawn") record.doing = { action: record.doing?.action ?? null, candidates: line.result?.candidates ?? [] };
  }
  record.steps = [...steps.values()];
  return record;
}

/** Drops the lines that a later rewind took back. @param {Line[]} lines @returns {Line[]} */
function afterRewinds(lines) {
  /** @type {Line[]} */
  const standing = [];
  for (const line of lines) {
    if (line.event !== "rewind") {
      standing.push(line);
      continue;
    }
    if (!Number.isInteger(line.keep) || line.keep < 1 || line.keep > standing.length) wrong("rewind", t("1 to {n} lines", { n: standing.length }), line.keep);
    standing.length = line.keep;
    if (line.budget) standing[0] = { ...standing[0], brief: { ...standing[0].brief, budget: line.budget } };
  }
  return standing;
}

/** Parses a piece of trajectory.jsonl and leaves out a last line without its end. @param {string} raw @returns {Line[]} */
export function linesOf(raw) {
  return raw
    .slice(0, raw.lastIndexOf("\n") + 1)
    .split("\n")
    .filter(Boolean)
    .map((line) => {
      const value = parse(line);
      return typeof value?.event === "string" ? value : wrong(t("a line"), mark("an event"), value);
    });
}
