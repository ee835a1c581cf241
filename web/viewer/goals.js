/** The table of goals by step: one row per goal, one column per step. */

import { resultOf, stateOf, stepName } from "./card.js";
import { chip, el, fact, name, prose } from "./dom.js";
import { mark, t } from "./language.js";
import { thumb } from "./pictures.js";
import { region } from "./places.js";
import { handedOver, known, tally } from "./tree.js";
import { KINDS, WORDS, percent } from "./words.js";

/**
 * @typedef {import("./card.js").RunView} RunView
 * @typedef {import("./record.js").Verdict} Verdict
 * @typedef {import("./record.js").Goal} Goal
 */

/** Steps that the table shows; of a longer run the newest ones. */
const COLUMNS = 60;

const MEANINGS = {
  met: mark("the judge saw it"),
  unmet: mark("the judge did not see it"),
  missed: mark("the judge did not see it, and the brief counts as met without it"),
  broken: mark("held on the canvas this step started from, no longer after it"),
  pending: mark("left for a later step"),
  unsure: mark("the judge could not decide"),
  error: mark("the judge gave no usable answer; says nothing of the picture"),
};

/** @param {RunView} view @returns {HTMLElement[]} */
export function goalsOverRounds(view) {
  const { run, goals, changes, optional } = view;
  if (!goals.size) return [el("p", { class: "note" }, t("No goals were made."))];
  const final = known(run.steps, handedOver(run));
  const first = Math.max(0, run.steps.length - COLUMNS);
  const columns = run.steps.map((step, position) => ({ step, position })).slice(first);
  const whose = run.outcome ? t("Handed over") : t("Best so far");
  const heads = [el("th", { scope: "col" }, t("Goal")), el("th", { scope: "col", class: "final" }, whose)];
  heads.push(...columns.map(({ position }) => stepHead(view, position)));
  const words = columns.map(({ step }) => new Map(step.verdicts.map((verdict) => [verdict.goal, verdict])));
  const rows = [...goals.values()].map((goal) =>
    el("tr", {}, goalHead(goal), cell(final.get(goal.id), new Set(), optional, "final"), ...columns.map(({ position }, place) => cell(words[place].get(goal.id), changes[position].broken, optional))),
  );
  const tallies = [[...final.values()], ...columns.map(({ step }) => step.verdicts)].map((verdicts) => tally(verdicts.map((each) => each.goal), verdicts, optional));
  const feet = optional.size ? [foot(t("Must-have goals met"), tallies.map(({ must }) => must)), foot(t("Nice-to-have goals met"), tallies.map(({ nice }) => nice))] : [foot(t("Goals met"), tallies.map(({ must }) => must))];
  const table = el(
    "table",
    {},
    el("caption", { class: "unseen" }, t("What the judge said of each goal, one column a step")),
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...rows),
    el("tfoot", {}, ...feet),
  );
  return [
    el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": t("Goals by step; scrolls sideways") }, table),
    first > 0 ? el("p", { class: "note" }, t("The newest {shown} of {all} steps; the cards below hold the others.", { shown: COLUMNS, all: run.steps.length })) : null,
    legend(),
    plan(run.plan),
  ].filter((part) => part !== null);
}

/** @param {RunView} view @param {number} position */
function stepHead({ run, pictures }, position) {
  const step = run.steps[position];
  const [kind, words] = resultOf(run, step);
  const file = step.candidates.find(({ canvas }) => canvas === step.chosen)?.file ?? "";
  const small = step.chosen !== null && thumb(pictures(step.chosen, file), run.brief, t("Canvas {n}", { n: step.chosen }));
  return el("th", { scope: "col" }, small, el("a", { href: `#step-${position}` }, stepName(run, step)), el("small", { class: kind }, words));
}

/** @param {Goal} goal */
function goalHead(goal) {
  const conflicts = goal.conflicts_with.flatMap((id, place) => [place ? ", " : null, name(id, 60, "id")]);
  const facts = [
    fact(t("Question to the judge"), goal.check && prose(goal.check)),
    fact(t("Chance in one shot"), goal.feasibility < 1 && percent(goal.feasibility)),
    fact(t("Conflicts with"), conflicts.length > 0 && el("span", {}, ...conflicts)),
    fact(t("Area"), goal.area && region(goal.area)),
  ].filter((each) => each !== null);
  const kind = goal.text ? t(/** @type {Record<string, string>} */ (KINDS)[goal.kind] ?? goal.kind) : t("not among the goals of the run");
  return el(
    "th",
    { scope: "row" },
    goal.text ? prose(goal.text, 200) : null,
    el("p", { class: "note" }, name(goal.id, 60, "id"), " \u00b7 ", name(kind, 40), goal.need === "nice" && ` \u00b7 ${t("nice to have")}`),
    facts.length > 0 && el("details", {}, el("summary", {}, t("Details")), el("dl", { class: "facts" }, ...facts)),
  );
}

/** @param {Verdict | undefined} verdict @param {Set<string>} broken @param {Set<string>} optional @param {string} [style] */
function cell(verdict, broken, optional, style) {
  if (!verdict) return el("td", { class: style }, el("span", { "aria-hidden": "true" }, "\u2013"), el("span", { class: "unseen" }, t("not judged")));
  const state = stateOf(verdict, broken, optional);
  return el("td", { class: style }, chip(state, t(WORDS[state])));
}

/** A row of the foot: the first share is that of the canvas handed over. @param {string} words @param {{ met: number, all: number }[]} shares */
function foot(words, shares) {
  const cells = shares.map(({ met, all }, place) => el("td", { class: place ? null : "final" }, all ? t("{met} of {all}", { met, all }) : "\u2013"));
  return el("tr", {}, el("th", { scope: "row" }, words), ...cells);
}

function legend() {
  const items = Object.entries(MEANINGS).map(([state, meaning]) => el("li", {}, chip(state, t(WORDS[/** @type {keyof typeof WORDS} */ (state)])), ` ${t(meaning)}`));
  return el("details", { class: "fold" }, el("summary", {}, t("What the words mean")), el("ul", { class: "legend" }, ...items));
}

/** @param {string[][]} batches */
function plan(batches) {
  if (!batches.length) return null;
  const items = batches.map((batch) => el("li", {}, ...batch.flatMap((id, place) => [place ? ", " : null, name(id, 60, "id")])));
  const note = el("p", { class: "note" }, t("Goals in the order in which they are to be served."));
  return el("div", { class: "block" }, el("h3", {}, t("Plan")), note, el("ol", {}, ...items));
}
