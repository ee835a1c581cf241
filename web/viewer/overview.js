/** The top and the end of the page: brief, outcome and picture handed over; cost and the rest of the budget. */

import { link, parts } from "./card.js";
import { bar, chip, el, fact, name, prose } from "./dom.js";
import { image } from "./pictures.js";
import { draws, handedOver, known, tally, total, wall } from "./tree.js";
import { count, metWords, seconds, shorten, whole } from "./words.js";

/**
 * @typedef {import("./card.js").RunView} RunView
 * @typedef {import("./record.js").Run} Run
 */

const HERO = 480;
/** Characters of a brief that is shown whole in the heading. */
const TITLE = 280;

/** @param {Run} run @returns {[string, string]} */
export function ending(run) {
  if (!run.outcome) return ["pending", "Not finished"];
  return run.outcome.met ? ["met", "Brief met"] : ["unmet", "Brief not met"];
}

/** @param {RunView} view */
export function hero(view) {
  const { run } = view;
  const { brief, outcome } = run;
  const [kind, words] = ending(run);
  const short = brief.prompt.length <= TITLE && !brief.prompt.trim().includes("\n");
  const facts = [
    fact("Why it stopped", outcome?.reason && prose(outcome.reason)),
    fact(outcome ? "Handed over" : "Best so far", which(view)),
    fact("Goals", scoreLine(view), "short"),
    fact("Strategy", name(brief.strategy, 40), "short"),
    fact("Size", `${brief.width} \u00d7 ${brief.height}`, "short"),
    fact("Seed", el("code", {}, brief.seed), "short"),
  ].filter((each) => each !== null);
  return el(
    "section",
    { class: "hero", "aria-label": "Outcome" },
    plate(view),
    el(
      "div",
      { class: "words" },
      el("p", { class: "eyebrow" }, "The brief"),
      el("h1", { dir: "auto", class: brief.prompt.length > 90 ? "long" : null }, short ? brief.prompt.trim() : shorten(brief.prompt, TITLE / 2)),
      short ? null : prose(brief.prompt),
      el("p", { class: "verdict" }, chip(`big ${kind}`, words, kind)),
      el("dl", { class: "facts" }, ...facts),
    ),
  );
}

/** @param {RunView} view */
function plate(view) {
  const { run, owners } = view;
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
  return el("figure", {}, el("div", { class: "mat" }, image(view.pictures(canvas, file), run.brief, HERO, alt, shorten(file, 120))), caption);
}

/** @param {RunView} view */
function which(view) {
  const { run, owners } = view;
  const canvas = handedOver(run);
  const choice = run.outcome?.choice ? prose(run.outcome.choice) : null;
  if (canvas === null) return el("div", {}, "No canvas", choice);
  const position = owners.get(canvas);
  const origin = position === undefined ? "" : `, drawn in step ${run.steps[position].index}`;
  return el("div", {}, el("p", {}, link(view, canvas), origin), choice);
}

/** @param {RunView} view */
function scoreLine({ run, goals, optional }) {
  if (!goals.size || handedOver(run) === null) return null;
  const met = tally(goals.keys(), known(run.steps, handedOver(run)).values(), optional);
  return met.nice.all ? `${metWords(met)}, by the judge's word` : `${met.must.met} of ${met.must.all} met by the judge's word`;
}

/** @param {Run} run */
export function warnings({ warnings: found }) {
  if (!found.length) return [];
  const items = found.map((warning) => el("li", {}, prose(warning)));
  return [el("section", { class: "warnings", "aria-label": "Warnings" }, el("h2", {}, count(found.length, "warning")), el("ul", {}, ...items))];
}

/** The cost so far and the rest of the budget. @param {Run} run */
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
  const rows = Object.entries(named).map(([role, model]) => el("div", {}, el("dt", {}, name(role, 60)), el("dd", {}, prose(model))));
  return rows.length ? el("div", { class: "block" }, el("h3", {}, "Models"), el("dl", { class: "facts models" }, ...rows)) : null;
}
