/** The run at a glance: brief, outcome, the picture handed over, what was spent and what is left. */

import { link, parts } from "./card.js";
import { bar, chip, el, fact, name, said } from "./dom.js";
import { image } from "./pictures.js";
import { allGoals, draws, handedOver, known, total, wall } from "./tree.js";
import { count, seconds, shorten, whole } from "./words.js";

/**
 * @typedef {import("./card.js").Told} Told
 * @typedef {import("./record.js").Run} Run
 */

const HERO = 480;
/** A brief up to this length stands whole in the heading. */
const TITLE = 280;

/** @param {Run} run @returns {[string, string]} */
export function ending(run) {
  if (!run.outcome) return ["pending", "Not finished"];
  return run.outcome.met ? ["met", "Brief met"] : ["unmet", "Brief not met"];
}

/** @param {Told} told */
export function hero(told) {
  const { run } = told;
  const { brief, outcome } = run;
  const [kind, words] = ending(run);
  const short = brief.prompt.length <= TITLE && !brief.prompt.trim().includes("\n");
  const facts = [
    fact("Why it stopped", outcome?.reason && said(outcome.reason)),
    fact(outcome ? "Handed over" : "Best so far", which(told)),
    fact("Goals", scoreLine(run), "short"),
    fact("Strategy", name(brief.strategy, 40), "short"),
    fact("Size", `${brief.width} \u00d7 ${brief.height}`, "short"),
    fact("Seed", el("code", {}, brief.seed), "short"),
  ].filter((each) => each !== null);
  return el(
    "section",
    { class: "hero", "aria-label": "Outcome" },
    plate(told),
    el(
      "div",
      { class: "told" },
      el("p", { class: "eyebrow" }, "The brief"),
      el("h1", { dir: "auto", class: brief.prompt.length > 90 ? "long" : null }, short ? brief.prompt.trim() : shorten(brief.prompt, TITLE / 2)),
      short ? null : said(brief.prompt),
      el("p", { class: "verdict" }, chip(`big ${kind}`, words, kind)),
      el("dl", { class: "facts" }, ...facts),
    ),
  );
}

/** @param {Told} told */
function plate(told) {
  const { run, owners } = told;
  const canvas = handedOver(run);
  if (canvas === null) {
    const words = run.outcome ? "This run hands over no canvas." : "Nothing has been drawn and judged yet.";
    const none = el("span", { class: "missing", role: "img", "aria-label": "No picture" }, el("strong", {}, "No picture"), words);
    return el("figure", {}, el("div", { class: "mat" }, none));
  }
  const position = owners.get(canvas);
  const file = position === undefined ? "" : (run.steps[position].candidates.find((one) => one.canvas === canvas)?.file ?? "");
  const alt = `The picture ${run.outcome ? "handed over" : "best so far"}: canvas ${canvas}. The brief: ${shorten(run.brief.prompt, 200)}`;
  const caption = el("figcaption", {}, `canvas ${canvas}`, file ? name(file, 120) : null);
  return el("figure", {}, el("div", { class: "mat" }, image(told.pictures(canvas, file), run.brief, HERO, alt, shorten(file, 120))), caption);
}

/** @param {Told} told */
function which(told) {
  const { run, owners } = told;
  const canvas = handedOver(run);
  const choice = run.outcome?.choice ? said(run.outcome.choice) : null;
  if (canvas === null) return el("div", {}, "No canvas", choice);
  const position = owners.get(canvas);
  const origin = position === undefined ? "" : `, drawn in step ${run.steps[position].index}`;
  return el("div", {}, el("p", {}, link(told, canvas), origin), choice);
}

/** @param {Run} run */
function scoreLine(run) {
  const goals = allGoals(run);
  if (!goals.length || handedOver(run) === null) return null;
  const met = [...known(run.steps, handedOver(run)).values()].filter(({ state }) => state === "met").length;
  return `${met} of ${goals.length} met by the judge's word`;
}

/** @param {Run} run */
export function warnings({ warnings: said_ }) {
  if (!said_.length) return [];
  const items = said_.map((warning) => el("li", {}, said(warning)));
  return [el("section", { class: "warnings", "aria-label": "Warnings" }, el("h2", {}, count(said_.length, "warning")), el("ul", {}, ...items))];
}

/** What was spent so far, and what is left. @param {Run} run */
export function totals(run) {
  const cost = total([run.overhead, ...run.steps.map((step) => step.cost)]);
  const { budget } = run.brief;
  /** @type {[string, number, number | null, (value: number) => string][]} */
  const rows = [
    ["Rounds", run.steps.filter(draws).length, budget.rounds, whole],
    ["Pictures", cost.images, budget.images, whole],
    ["Evaluations (NFE)", cost.evaluations, budget.evaluations, whole],
    ["VLM tokens", cost.vlm_tokens, budget.vlm_tokens, whole],
    ["Time", wall(cost), budget.seconds, seconds],
    ["VLM calls", cost.vlm_calls, null, whole],
  ];
  const patience = `Gives up after ${count(budget.patience, "round")} without improvement. A total without a limit has none in the budget.`;
  return [
    el("dl", { class: "tiles" }, ...rows.map((row) => tile(...row))),
    el("p", { class: "note" }, patience),
    Object.keys(cost.seconds).length ? el("div", { class: "block" }, el("h3", {}, "Where the time went"), parts(cost.seconds)) : null,
    models(run),
  ].filter((part) => part !== null);
}

/** @param {string} term @param {number} used @param {number | null} limit @param {(value: number) => string} words */
function tile(term, used, limit, words) {
  if (limit === null) return el("div", {}, el("dt", {}, term), el("dd", {}, el("strong", {}, words(used))));
  const left = `of ${words(limit)}, ${words(Math.max(0, limit - used))} left`;
  return el("div", {}, el("dt", {}, term), el("dd", {}, el("strong", {}, words(used)), el("span", { class: "limit" }, left), bar(limit > 0 ? used / limit : 1)));
}

/** @param {Run} run */
function models({ models: named }) {
  const rows = Object.entries(named).map(([role, model]) => el("div", {}, el("dt", {}, name(role, 60)), el("dd", {}, said(model))));
  return rows.length ? el("div", { class: "block" }, el("h3", {}, "Models"), el("dl", { class: "facts models" }, ...rows)) : null;
}
