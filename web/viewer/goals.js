/** The table of goals by step: one row per goal, one column per step. */

import { resultOf, region, stateOf } from "./card.js";
import { chip, el, fact, name, prose } from "./dom.js";
import { thumb } from "./pictures.js";
import { handedOver, known, tally } from "./tree.js";
import { WORDS, percent } from "./words.js";

/**
 * @typedef {import("./card.js").RunView} RunView
 * @typedef {import("./record.js").Verdict} Verdict
 * @typedef {import("./record.js").Goal} Goal
 */

/** Steps that the table shows; of a longer run the newest ones. */
const COLUMNS = 60;

const MEANINGS = {
  met: "the judge saw it",
  unmet: "the judge did not see it",
  missed: "the judge did not see it, and the brief counts as met without it",
  broken: "held on the canvas this step started from, no longer after it",
  pending: "left for a later step",
  unsure: "the judge could not decide",
  error: "the judge gave no usable answer; says nothing of the picture",
};

/** @param {RunView} view @returns {HTMLElement[]} */
export function goalsOverRounds(view) {
  const { run, goals, changes, optional } = view;
  if (!goals.size) return [el("p", { class: "note" }, "No goals were made.")];
  const final = known(run.steps, handedOver(run));
  const first = Math.max(0, run.steps.length - COLUMNS);
  const columns = run.steps.map((step, position) => ({ step, position })).slice(first);
  const whose = run.outcome ? "Handed over" : "Best so far";
  const heads = [el("th", { scope: "col" }, "Goal"), el("th", { scope: "col", class: "final" }, whose)];
  heads.push(...columns.map(({ position }) => stepHead(view, position)));
  const words = columns.map(({ step }) => new Map(step.verdicts.map((verdict) => [verdict.goal, verdict])));
  const rows = [...goals.values()].map((goal) =>
    el("tr", {}, goalHead(goal), cell(final.get(goal.id), new Set(), optional, "final"), ...columns.map(({ position }, place) => cell(words[place].get(goal.id), changes[position].broken, optional))),
  );
  const tallies = [[...final.values()], ...columns.map(({ step }) => step.verdicts)].map((verdicts) => tally(verdicts.map((each) => each.goal), verdicts, optional));
  const feet = optional.size ? [foot("Must-have goals met", tallies.map(({ must }) => must)), foot("Nice-to-have goals met", tallies.map(({ nice }) => nice))] : [foot("Goals met", tallies.map(({ must }) => must))];
  const table = el(
    "table",
    {},
    el("caption", { class: "unseen" }, "What the judge said of each goal, one column a step"),
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...rows),
    el("tfoot", {}, ...feet),
  );
  return [
    el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Goals by step; scrolls sideways" }, table),
    first > 0 ? el("p", { class: "note" }, `The newest ${COLUMNS} of ${run.steps.length} steps; the cards below hold the others.`) : null,
    legend(),
    plan(run.plan),
  ].filter((part) => part !== null);
}

/** @param {RunView} view @param {number} position */
function stepHead({ run, pictures }, position) {
  const step = run.steps[position];
  const [kind, words] = resultOf(run, step);
  const file = step.candidates.find(({ canvas }) => canvas === step.chosen)?.file ?? "";
  const small = step.chosen !== null && thumb(pictures(step.chosen, file), run.brief, `Canvas ${step.chosen}`);
  return el("th", { scope: "col" }, small, el("a", { href: `#step-${position}` }, `Step ${step.index}`), el("small", { class: kind }, words));
}

/** @param {Goal} goal */
function goalHead(goal) {
  const conflicts = goal.conflicts_with.flatMap((id, place) => [place ? ", " : null, name(id, 60, "id")]);
  const facts = [
    fact("Question to the judge", goal.check && prose(goal.check)),
    fact("Chance in one shot", goal.feasibility < 1 && percent(goal.feasibility)),
    fact("Conflicts with", conflicts.length > 0 && el("span", {}, ...conflicts)),
    fact("Area", goal.area && region(goal.area)),
  ].filter((each) => each !== null);
  const kind = goal.text ? goal.kind : "not among the goals of the run";
  return el(
    "th",
    { scope: "row" },
    goal.text ? prose(goal.text, 200) : null,
    el("p", { class: "note" }, name(goal.id, 60, "id"), " \u00b7 ", name(kind, 40), goal.need === "nice" && " \u00b7 nice to have"),
    facts.length > 0 && el("details", {}, el("summary", {}, "Details"), el("dl", { class: "facts" }, ...facts)),
  );
}

/** @param {Verdict | undefined} verdict @param {Set<string>} broken @param {Set<string>} optional @param {string} [style] */
function cell(verdict, broken, optional, style) {
  if (!verdict) return el("td", { class: style }, el("span", { "aria-hidden": "true" }, "\u2013"), el("span", { class: "unseen" }, "not judged"));
  const state = stateOf(verdict, broken, optional);
  return el("td", { class: style }, chip(state, WORDS[state]));
}

/** A row of the foot: the first share is that of the canvas handed over. @param {string} words @param {{ met: number, all: number }[]} shares */
function foot(words, shares) {
  const cells = shares.map(({ met, all }, place) => el("td", { class: place ? null : "final" }, all ? `${met} of ${all}` : "\u2013"));
  return el("tr", {}, el("th", { scope: "row" }, words), ...cells);
}

function legend() {
  const items = Object.entries(MEANINGS).map(([state, meaning]) => el("li", {}, chip(state, WORDS[/** @type {keyof typeof WORDS} */ (state)]), ` ${meaning}`));
  return el("details", { class: "fold" }, el("summary", {}, "What the words mean"), el("ul", { class: "legend" }, ...items));
}

/** @param {string[][]} batches */
function plan(batches) {
  if (!batches.length) return null;
  const items = batches.map((batch) => el("li", {}, ...batch.flatMap((id, place) => [place ? ", " : null, name(id, 60, "id")])));
  const note = el("p", { class: "note" }, "Goals in the order in which they are to be served.");
  return el("div", { class: "block" }, el("h3", {}, "Plan"), note, el("ol", {}, ...items));
}
