/**
 * Relations between the steps of a run: their tree by parent canvas, and the goals that each step met or broke.
 *
 * @typedef {import("./record.js").Run} Run
 * @typedef {import("./record.js").Step} Step
 * @typedef {import("./record.js").Goal} Goal
 * @typedef {import("./record.js").Verdict} Verdict
 * @typedef {{ position: number, step: Step, branches: Twig[][] }} Twig a step, its position in the run, and the branches that start from its canvas
 * @typedef {{ line: Twig[], branches: Twig[][] }} Tree `line` leads to the canvas handed over; `branches` are the other ones that start from the empty canvas
 */

/** Depth of nesting; deeper branches follow one another on the same level. */
const DEEPEST = 8;

/** @param {{ action: import("./record.js").Action }} step */
export function draws(step) {
  return step.action.kind === "GENERATE" || step.action.kind === "EDIT";
}

/** The number of a step for a person, from 1 on as rounds are counted; 0 for the picture that the run was given. @param {Step[]} steps @param {{ index: number }} step */
export function numberOf(steps, { index }) {
  return index + (steps[0]?.action.kind === "GIVEN" ? 0 : 1);
}

/** The canvas of the outcome, or the best so far while there is no outcome. @param {Run} run */
export function handedOver(run) {
  return run.outcome ? run.outcome.canvas : run.best;
}

/** Maps each canvas to the position of the step that drew it. @param {Step[]} steps @returns {Map<number, number>} */
export function owners(steps) {
  /** @type {Map<number, number>} */
  const found = new Map();
  steps.forEach((step, position) => {
    for (const { canvas } of step.candidates) if (!found.has(canvas)) found.set(canvas, position);
  });
  return found;
}

/** How many edits lie between a canvas and one that was drawn from words alone or given. @param {Step[]} steps @param {Map<number, number>} drew as `owners` gives it @param {number} canvas */
export function depthOf(steps, drew, canvas) {
  const seen = new Set();
  for (let at = canvas; ; ) {
    const position = drew.get(at);
    const step = position === undefined || seen.has(at) ? null : steps[position];
    if (!step || step.action.kind !== "EDIT" || !step.action.references.length) return seen.size;
    seen.add(at);
    at = step.action.references[0];
  }
}

/** Arranges the steps as a tree that holds each of them once. A parent that no earlier step drew is ignored. @param {Run} run @returns {Tree} */
export function grow(run) {
  const { steps } = run;
  const parents = parentsOf(steps);
  /** @type {Map<number | null, number[]>} */
  const children = new Map();
  parents.forEach((parent, position) => children.set(parent, [...(children.get(parent) ?? []), position]));
  /** @type {Set<number>} */
  const path = new Set();
  const final = handedOver(run);
  /** @type {number | null | undefined} */
  let ahead = final === null ? null : owners(steps).get(final);
  while (ahead !== null && ahead !== undefined) {
    path.add(ahead);
    ahead = parents[ahead];
  }

  /** The step among `kids` that continues the line, or null. @param {number[]} kids @param {boolean} kept whether their parent was kept */
  function continuation(kids, kept) {
    const tests = [(/** @type {number} */ kid) => path.has(kid), (/** @type {number} */ kid) => steps[kid].accepted, () => !kept];
    for (const test of tests) {
      const fitting = kids.filter(test);
      if (fitting.length) return fitting[fitting.length - 1];
    }
    return null;
  }

  /** Whether the step draws nothing and no step starts from it. @param {number} position */
  const isLeaf = (position) => !draws(steps[position]) && !children.has(position);

  /** @param {number} first @param {number} depth @returns {Twig[]} */
  function line(first, depth) {
    /** @type {Twig[]} */
    const twigs = [];
    const waiting = [first];
    for (let position = waiting.pop(); position !== undefined; position = waiting.pop()) {
      const all = children.get(position) ?? [];
      const leaves = all.filter(isLeaf);
      const kids = all.filter((kid) => !isLeaf(kid));
      const next = continuation(kids, steps[position].accepted);
      const others = kids.filter((kid) => kid !== next);
      const deep = depth >= DEEPEST;
      twigs.push({ position, step: steps[position], branches: deep ? [] : others.map((kid) => line(kid, depth + 1)) });
      twigs.push(...leaves.map((kid) => ({ position: kid, step: steps[kid], branches: [] })));
      if (next !== null) waiting.push(next);
      if (deep) waiting.push(...others.reverse());
    }
    return twigs;
  }

  const roots = children.get(null) ?? [];
  const leaves = roots.filter(isLeaf);
  const begun = roots.filter((root) => !isLeaf(root));
  const next = continuation(begun, true);
  const last = leaves.map((root) => ({ position: root, step: steps[root], branches: [] }));
  return {
    line: [...(next === null ? [] : line(next, 0)), ...last],
    branches: begun.filter((root) => root !== next).map((root) => line(root, 1)),
  };
}

/** @param {Step[]} steps @returns {(number | null)[]} */
function parentsOf(steps) {
  /** @type {Map<number, number>} */
  const drawn = new Map();
  return steps.map((step, position) => {
    const parent = step.parent === null ? null : (drawn.get(step.parent) ?? null);
    for (const { canvas } of step.candidates) if (!drawn.has(canvas)) drawn.set(canvas, position);
    return parent;
  });
}

/** The latest verdict on each goal for this canvas. @param {Step[]} steps @param {number | null} canvas @returns {Map<string, Verdict>} */
export function known(steps, canvas) {
  /** @type {Map<string, Verdict>} */
  const verdicts = new Map();
  for (const step of steps) {
    if (canvas !== null && step.chosen === canvas) for (const verdict of step.verdicts) verdicts.set(verdict.goal, verdict);
  }
  return verdicts;
}

/**
 * The goals that each step met anew and those that it broke, compared with the canvas it started from. Both are empty for steps that do not draw.
 * @param {Run} run @returns {{ gained: Set<string>, broken: Set<string> }[]}
 */
export function changes(run) {
  /** @type {Map<number, Map<string, Verdict>>} */
  const words = new Map();
  return run.steps.map((step) => {
    const before = (step.parent !== null && words.get(step.parent)) || new Map();
    if (step.chosen !== null) {
      const held = words.get(step.chosen) ?? new Map();
      words.set(step.chosen, new Map([...held, ...step.verdicts.map((verdict) => /** @type {const} */ ([verdict.goal, verdict]))]));
    }
    const met = [...before.values()].filter(({ state }) => state === "met").map(({ goal }) => goal);
    const after = new Map(step.verdicts.map(({ goal, state }) => [goal, state]));
    if (!draws(step)) return { gained: new Set(), broken: new Set() };
    const gained = before.size ? step.verdicts.filter(({ goal, state }) => state === "met" && !met.includes(goal)) : [];
    return { gained: new Set(gained.map(({ goal }) => goal)), broken: new Set(met.filter((goal) => after.get(goal) === "unmet")) };
  });
}

/** The goals of the run, followed by those that only a verdict or an action names. @param {Run} run @returns {Goal[]} */
export function allGoals(run) {
  const goals = [...(run.goals.length ? run.goals : run.brief.goals)];
  const seen = new Set(goals.map(({ id }) => id));
  for (const step of run.steps) {
    for (const id of [...step.verdicts.map(({ goal }) => goal), ...step.action.goals]) {
      if (seen.has(id)) continue;
      seen.add(id);
      goals.push({ id, text: "", kind: "", check: "", feasibility: 1, area: null, conflicts_with: [], need: "must", reference: "" });
    }
  }
  return goals;
}

/**
 * The goals without which the brief still counts as met: the nice ones, unless the run has no others (`musts` in clvr_core/policy/rules.py).
 * @param {{ id: string, need: string }[]} goals @returns {Set<string>} ids
 */
export function optional(goals) {
  const nice = goals.filter(({ need }) => need === "nice");
  return new Set(nice.length < goals.length ? nice.map(({ id }) => id) : []);
}

/**
 * Counts the goals and those that are met, must-have and nice-to-have ones apart.
 * @param {Iterable<string>} goals ids @param {Iterable<Verdict>} verdicts @param {Set<string>} optional ids of the nice ones
 * @returns {{ must: { met: number, all: number }, nice: { met: number, all: number } }}
 */
export function tally(goals, verdicts, optional) {
  const met = new Set([...verdicts].filter(({ state }) => state === "met").map(({ goal }) => goal));
  const share = (/** @type {string[]} */ ids) => ({ met: ids.filter((id) => met.has(id)).length, all: ids.length });
  const ids = [...goals];
  return { must: share(ids.filter((id) => !optional.has(id))), nice: share(ids.filter((id) => optional.has(id))) };
}

/** @param {import("./record.js").Cost[]} costs @returns {import("./record.js").Cost} */
export function total(costs) {
  /** @type {Record<string, number>} */
  const seconds = {};
  const sum = { vlm_tokens: 0, vlm_calls: 0, evaluations: 0, images: 0 };
  for (const cost of costs) {
    for (const [part, value] of Object.entries(cost.seconds)) seconds[part] = (seconds[part] ?? 0) + value;
    for (const key of /** @type {(keyof typeof sum)[]} */ (Object.keys(sum))) sum[key] += cost[key];
  }
  return { seconds, ...sum };
}

/** @param {import("./record.js").Cost} cost */
export function wall(cost) {
  return Object.values(cost.seconds).reduce((sum, value) => sum + value, 0);
}
