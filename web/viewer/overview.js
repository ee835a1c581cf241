/** The top and the end of the page: brief, outcome and picture handed over; cost and the rest of the budget. */

import { link, parts } from "./card.js";
import { bar, chip, el, fact, name, prose } from "./dom.js";
import { many, t } from "./language.js";
import { image } from "./pictures.js";
import { said } from "./sentences.js";
import { draws, handedOver, known, numberOf, tally, total, wall } from "./tree.js";
import { ASPECTS, ROLES, metWords, ofStep, seconds, shorten, spoken, whole } from "./words.js";

/**
 * @typedef {import("./card.js").RunView} RunView
 * @typedef {import("./record.js").Run} Run
 */

const HERO = 480;
/** Characters of a brief that is shown whole in the heading. */
const TITLE = 280;

/** @param {Run} run @returns {[string, string]} */
export function ending(run) {
  if (!run.outcome) return ["pending", t("Not finished")];
  return run.outcome.met ? ["met", t("Brief met")] : ["unmet", t("Brief not met")];
}

/** @param {RunView} view */
export function hero(view) {
  const { run } = view;
  const { brief, outcome } = run;
  const [kind, words] = ending(run);
  const short = brief.prompt.length <= TITLE && !brief.prompt.trim().includes("\n");
  const facts = [
    fact(t("Why it stopped"), outcome?.reason && prose(spoken(outcome.ended, outcome.reason))),
    fact(outcome ? t("Handed over") : t("Best so far"), which(view)),
    fact(t("Goals"), scoreLine(view), "short"),
    fact(t("Strategy"), name(brief.strategy, 40), "short"),
    fact(t("References"), brief.references.length > 0 && el("ol", { class: "plainlist" }, ...brief.references.map((each) => el("li", {}, name(each.name, 40), ` \u00b7 ${t(ASPECTS[each.keeps] ?? each.keeps)}`))), "short"),
    fact(t("Size"), `${brief.width} \u00d7 ${brief.height}`, "short"),
    fact(t("Seed"), el("code", {}, brief.seed), "short"),
  ].filter((each) => each !== null);
  return el(
    "section",
    { class: "hero", "aria-label": t("Outcome") },
    plate(view),
    el(
      "div",
      { class: "words" },
      el("p", { class: "eyebrow" }, t("The brief")),
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
    const words = run.outcome ? t("This run hands over no canvas.") : t("Nothing has been drawn and judged yet.");
    const none = el("span", { class: "missing", role: "img", "aria-label": t("No picture") }, el("strong", {}, t("No picture")), words);
    return el("figure", {}, el("div", { class: "mat" }, none));
  }
  const position = owners.get(canvas);
  const file = position === undefined ? "" : (run.steps[position].candidates.find((one) => one.canvas === canvas)?.file ?? "");
  const about = { n: canvas, brief: shorten(run.brief.prompt, 200) };
  const alt = run.outcome ? t("The picture handed over: canvas {n}. The brief: {brief}", about) : t("The picture best so far: canvas {n}. The brief: {brief}", about);
  const caption = el("figcaption", {}, t("canvas {n}", about), file ? name(file, 120) : null);
  return el("figure", {}, el("div", { class: "mat" }, image(view.pictures(canvas, file), run.brief, HERO, alt, shorten(file, 120))), caption);
}

/** @param {RunView} view */
function which(view) {
  const { run, owners } = view;
  const canvas = handedOver(run);
  const choice = run.outcome?.choice ? prose(said(run.outcome.choice)) : null;
  if (canvas === null) return el("div", {}, t("No canvas"), choice);
  const position = owners.get(canvas);
  const number = position === undefined ? 0 : numberOf(run.steps, run.steps[position]);
  const origin = number ? t(", drawn in step {n}", { n: number }) : "";
  return el("div", {}, el("p", {}, link(view, canvas), origin), choice);
}

/** @param {RunView} view */
function scoreLine({ run, goals, optional }) {
  if (!goals.size || handedOver(run) === null) return null;
  const met = tally(goals.keys(), known(run.steps, handedOver(run)).values(), optional);
  return met.nice.all ? t("{tally}, by the judge's word", { tally: metWords(met) }) : t("{met} of {all} met by the judge's word", met.must);
}

/** @param {Run} run */
export function warnings({ warnings: found, steps }) {
  if (!found.length) return [];
  const items = found.map((warning) => el("li", {}, prose(ofStep(warning, (index) => numberOf(steps, { index })))));
  return [el("section", { class: "warnings", "aria-label": t("Warnings") }, el("h2", {}, many(found.length, "{n} warning", "{n} warnings")), el("ul", {}, ...items))];
}

/** The cost so far and the rest of the budget. @param {Run} run */
export function totals(run) {
  const cost = total([run.overhead, ...run.steps.map((step) => step.cost)]);
  const { budget } = run.brief;
  /** @type {[string, number, number | null, (value: number) => string][]} */
  const rows = [
    [t("Rounds"), run.steps.filter(draws).length, budget.rounds, whole],
    [t("Pictures"), cost.images, budget.images, whole],
    [t("Evaluations (NFE)"), cost.evaluations, budget.evaluations, whole],
    [t("VLM tokens"), cost.vlm_tokens, budget.vlm_tokens, whole],
    [t("Time"), wall(cost), budget.seconds, seconds],
    [t("VLM calls"), cost.vlm_calls, null, whole],
  ];
  const patience = many(
    budget.patience,
    "Gives up after {n} round without improvement. A total without a limit has none in the budget.",
    "Gives up after {n} rounds without improvement. A total without a limit has none in the budget.",
  );
  return [
    el("dl", { class: "tiles" }, ...rows.map((row) => tile(...row))),
    el("p", { class: "note" }, patience),
    Object.keys(cost.seconds).length ? el("div", { class: "block" }, el("h3", {}, t("Where the time went")), parts(cost.seconds)) : null,
    models(run),
  ].filter((part) => part !== null);
}

/** @param {string} term @param {number} used @param {number | null} limit @param {(value: number) => string} words */
function tile(term, used, limit, words) {
  if (limit === null) return el("div", {}, el("dt", {}, term), el("dd", {}, el("strong", {}, words(used))));
  const left = t("of {limit}, {left} left", { limit: words(limit), left: words(Math.max(0, limit - used)) });
  return el("div", {}, el("dt", {}, term), el("dd", {}, el("strong", {}, words(used)), el("span", { class: "limit" }, left), bar(limit > 0 ? used / limit : 1)));
}

/** @param {Run} run */
function models({ models: named }) {
  const rows = Object.entries(named).map(([role, model]) => el("div", {}, el("dt", {}, name(t(ROLES[role] ?? role), 60)), el("dd", {}, prose(model))));
  return rows.length ? el("div", { class: "block" }, el("h3", {}, t("Models")), el("dl", { class: "facts models" }, ...rows)) : null;
}
