/** Builds the card of one step: its action, pictures, verdicts, cost, and whether it was kept. */

import { changeWords } from "./changes.js";
import { bar, chip, el, fact, icon, name, prose } from "./dom.js";
import { many, pieces, t } from "./language.js";
import { image, thumb } from "./pictures.js";
import { outlines, placeWords, placesOf, region, wrongPlaces } from "./places.js";
import { said } from "./sentences.js";
import { depthOf, draws, handedOver, numberOf, tally, wall } from "./tree.js";
import { ACTIONS, PARTS, WORDS, WORST_FIRST, capital, figure, metWords, percent, seconds, shorten, spoken, whole } from "./words.js";

/**
 * @typedef {import("./record.js").Run} Run
 * @typedef {import("./record.js").Step} Step
 * @typedef {import("./record.js").Action} Action
 * @typedef {import("./record.js").Verdict} Verdict
 * @typedef {import("./record.js").Cost} Cost
 * @typedef {{ run: Run, goals: Map<string, import("./record.js").Goal>, optional: Set<string>, owners: Map<number, number>,
 *   changes: { gained: Set<string>, broken: Set<string> }[], pictures: import("./pictures.js").Pictures, picks: boolean }} RunView a run and what is derived
 *   from it. `goals`: by id. `optional`: ids of the goals that the brief counts as met without. `owners`: canvas -> position of the step that
 *   drew it. `changes`: by position of the step, the goals that it met anew and that it broke. `picks`: whether a candidate can be picked.
 */

/** Longer side of a single picture and of one among several, CSS pixels. */
const SINGLE = 384;
const GRID = 192;
const VERDICTS_AT_ONCE = 8;
const CHIPS_AT_ONCE = 24;

/** Whether a step was kept: a kind for the style, and words. @param {Run} run @param {Step} step @returns {[string, string]} */
export function resultOf(run, step) {
  if (step.chosen !== null && step.chosen === handedOver(run)) return ["star", run.outcome ? t("handed over") : t("best so far")];
  if (!draws(step)) return ["start", step.action.kind === "VALIDATE" ? t("judged again") : step.action.kind === "GIVEN" ? t("given") : t("end")];
  if (step.accepted) return ["met", t("accepted")];
  return ["back", step.parent === null ? t("not kept") : t("rolled back")];
}

/**
 * The state to show: a goal that the step broke stands out, and a nice-to-have goal that is not met does not look like a failure.
 * @param {Pick<Verdict, "goal" | "state">} verdict @param {Set<string>} broken ids of the goals that the step broke @param {Set<string>} optional
 * @returns {keyof typeof WORDS}
 */
export function stateOf(verdict, broken, optional) {
  if (broken.has(verdict.goal)) return "broken";
  return verdict.state === "unmet" && optional.has(verdict.goal) ? "missed" : verdict.state;
}

/** What the step is called. @param {Run} run @param {Step} step */
export function stepName(run, step) {
  const number = numberOf(run.steps, step);
  return number ? t("Step {n}", { n: number }) : t("The picture given");
}

/** @param {RunView} view @param {number} position @param {boolean} folded whether the details are built only when the card is opened */
export function card(view, position, folded) {
  const step = view.run.steps[position];
  const [kind, words] = resultOf(view.run, step);
  const head = el(
    "header",
    { class: "head" },
    el("h3", { id: `step-${position}`, tabindex: "-1" }, stepName(view.run, step)),
    el("span", { class: "chip plain" }, icon(step.action.kind), t(ACTIONS[step.action.kind])),
    (draws(step) || kind === "star") && chip(kind, capital(words)),
    origin(view, step),
  );
  const article = el("article", { class: `card ${kind}`, "aria-labelledby": `step-${position}` }, head, goalChips(view, position));
  if (step.reason) article.append(el("div", { class: "reason" }, prose(spoken(step.ruling, step.reason))));
  if (folded) {
    const inside = el("details", { class: "inside" }, el("summary", {}, t("Show the pictures and what was said")));
    inside.addEventListener("toggle", () => unfold(view, position, inside), { once: true });
    article.append(inside);
  } else {
    article.append(...inner(view, position));
  }
  article.append(numbers(step), ...remarks(view, step.index));
  return article;
}

/** The remarks of the artist after this step. @param {RunView} view @param {number} index */
function remarks({ run, goals }, index) {
  const goal = (/** @type {string} */ id) => name(goals.get(id)?.text || id, 120);
  return run.remarks
    .filter(({ after }) => after === index)
    .map((remark) =>
      el(
        "section",
        { class: "remark", "aria-label": t("What the artist said") },
        el("h4", {}, t("The artist")),
        remark.say !== "go on" && el("p", {}, remark.say === "accept" ? t("accepted this canvas") : t("stopped the run")),
        remark.words ? prose(remark.words) : null,
        ...Object.entries(remark.corrected).map(([id, state]) => el("p", {}, ...pieces("said {state}: {goal}", { state: t(WORDS[/** @type {keyof typeof WORDS} */ (state)] ?? state), goal: goal(id) }))),
        ...remark.dropped.map((id) => el("p", {}, ...pieces("no longer wants: {goal}", { goal: goal(id) }))),
        remark.back_to !== null && el("p", {}, ...pieces("went back to {canvas}", { canvas: el("a", { href: `#canvas-${remark.back_to}` }, t("canvas {n}", { n: remark.back_to })) })),
        remark.mask !== "" && el("p", {}, t("painted where the next edit may change something")),
      ),
    );
}

/** Builds the details of a folded card and opens it. @param {RunView} view @param {number} position @param {HTMLDetailsElement} inside */
export function unfold(view, position, inside) {
  if (inside.childElementCount === 1) inside.append(...inner(view, position));
  inside.open = true;
}

/** @param {RunView} view @param {number} position @returns {HTMLElement[]} */
function inner(view, position) {
  const step = view.run.steps[position];
  const body = el("div", { class: "body" }, plates(view, step), el("div", { class: "words" }, ...wordsOf(view, step.action), check(view, step)));
  const judged = verdicts(view, position);
  return judged ? [body, judged] : [body];
}

/** @param {RunView} view @param {Step} step */
function origin(view, step) {
  if (step.parent === null) return draws(step) && el("span", { class: "from" }, t("from the empty canvas"));
  const canvas = link(view, step.parent);
  const { kind } = step.action;
  const words = kind === "GENERATE" ? pieces("drawn anew after {canvas}", { canvas }) : kind === "EDIT" ? pieces("from {canvas}", { canvas }) : pieces("looked at {canvas}", { canvas });
  return el("span", { class: "from" }, ...words);
}

/** @param {RunView} view @param {number} canvas */
export function link(view, canvas) {
  const drawn = view.owners.has(canvas);
  return drawn ? el("a", { href: `#canvas-${canvas}` }, t("canvas {n}", { n: canvas })) : el("span", {}, t("canvas {n} (never drawn)", { n: canvas }));
}

/** The goals as chips, and how many of them are met. @param {RunView} view @param {number} position */
function goalChips(view, position) {
  const step = view.run.steps[position];
  if (!step.verdicts.length && step.score === null) return null;
  const { gained, broken } = view.changes[position];
  const met = tally(step.verdicts.map(({ goal }) => goal), step.verdicts, view.optional);
  const line = el(
    "p",
    { class: "tally" },
    step.verdicts.length > 0 && el("strong", {}, metWords(met)),
    gained.size > 0 && chip("met", t("{n} newly met", { n: gained.size })),
    broken.size > 0 && chip("broken", t("{n} newly broken", { n: broken.size })),
    step.score !== null && el("span", {}, t("score {n}", { n: figure(step.score) })),
  );
  if (!step.verdicts.length) return line;
  const chips = step.verdicts.slice(0, CHIPS_AT_ONCE).map((verdict) => {
    const state = stateOf(verdict, broken, view.optional);
    const goal = view.goals.get(verdict.goal);
    const words = el("bdi", {}, shorten(goal?.text || verdict.goal, 48));
    return el("li", { class: `chip ${state}` }, icon(state), words, el("span", { class: "unseen" }, `: ${t(WORDS[state])}`));
  });
  const more = step.verdicts.length - chips.length;
  return el("div", { class: "goals" }, line, el("ul", { class: "chips", "aria-label": t("Goals after this step") }, ...chips), more > 0 && el("p", { class: "note" }, many(more, "and {n} more goal in the list of verdicts", "and {n} more goals in the list of verdicts")));
}

/** @param {RunView} view @param {Step} step */
function plates(view, step) {
  if (!step.candidates.length) return null;
  const alone = step.candidates.length === 1;
  const figures = step.candidates.map((candidate) => plate(view, step, candidate, alone ? SINGLE : GRID));
  const before = step.parent !== null && step.chosen !== null && step.parent !== step.chosen && view.owners.has(step.parent);
  const button = before && el("button", { type: "button", "data-before": step.parent, "data-after": step.chosen }, t("Compare with before"));
  return el("div", { class: alone ? "plates alone" : "plates" }, el("div", { class: alone ? "one" : "grid" }, ...figures), button);
}

/** @param {RunView} view @param {Step} step @param {import("./record.js").Candidate} candidate @param {number} room */
function plate(view, step, candidate, room) {
  const several = step.candidates.length > 1;
  const chosen = several && candidate.canvas === step.chosen;
  const wish = shorten(step.action.scene_prompt || step.action.edit_prompt || step.action.summary, 120);
  const about = { n: candidate.canvas, step: numberOf(view.run.steps, step), all: step.candidates.length };
  const drawn = step.action.kind === "GIVEN" ? t("Canvas {n}, given", about) : t("Canvas {n}, drawn in step {step}", about);
  const among = !several ? "" : chosen ? t(", chosen among {all} candidates", about) : t(", not chosen among {all} candidates", about);
  const alt = `${drawn}${among}.${wish ? ` ${t("Asked for: {words}", { words: wish })}` : ""}`;
  const shown = image(view.pictures(candidate.canvas, candidate.file), view.run.brief, room, alt, shorten(candidate.file, 120));
  const places = candidate.canvas === step.chosen && shown.localName === "img" ? placesOf(step) : new Map();
  const picture = places.size ? el("span", { class: "spot" }, shown, outlines(places)) : shown;
  const caption = el("figcaption", {}, t("canvas {n}", about), chosen && chip("chosen", t("chosen"), "met"));
  const pick = view.picks && several && !chosen && el("button", { type: "button", "data-pick": candidate.canvas, title: t("The run is kept, and a copy of it goes on from this canvas.") }, t("Go on from this one"));
  return el("figure", { id: `canvas-${candidate.canvas}`, class: chosen ? "chosen" : null, tabindex: "-1" }, el("div", { class: "mat" }, picture), caption, pick);
}

/** The texts and parameters of an action. @param {RunView} view @param {Action} action */
function wordsOf(view, action) {
  const prompts = [fact(t("Scene prompt"), action.scene_prompt && prose(action.scene_prompt)), fact(t("Edit prompt"), action.edit_prompt && prose(action.edit_prompt))];
  if (action.kind === "EDIT") prompts.reverse();
  const served = action.goals.map((id) => el("li", {}, ...goalWords(view, id)));
  const references = action.references.map((canvas) => reference(view, canvas));
  const facts = [
    ...prompts,
    fact(t("Goals served"), served.length > 0 && el("ul", { class: "plainlist" }, ...served)),
    fact(t("References"), references.length > 0 && el("span", { class: "row" }, ...references), "short"),
    fact(t("Region"), action.region && region(action.region), "short"),
    fact(t("Strength"), action.strength !== null && el("span", {}, figure(action.strength)), "short"),
  ].filter((each) => each !== null);
  return [
    action.summary ? el("div", { class: "summary" }, el("span", { class: "unseen" }, `${t("The controller said:")} `), prose(action.summary)) : null,
    facts.length ? el("dl", { class: "facts" }, ...facts) : null,
  ];
}

/** @param {RunView} view @param {number} canvas */
function reference(view, canvas) {
  const position = view.owners.get(canvas);
  if (position === undefined) return link(view, canvas);
  const file = view.run.steps[position].candidates.find((candidate) => candidate.canvas === canvas)?.file ?? "";
  return el("a", { href: `#canvas-${canvas}`, class: "reference" }, thumb(view.pictures(canvas, file), view.run.brief, ""), t("canvas {n}", { n: canvas }));
}

/** The id of a goal and its text, in one line. @param {RunView} view @param {string} id */
function goalWords(view, id) {
  return [name(id, 40, "id"), " ", name(view.goals.get(id)?.text ?? "", 160)];
}

/** @param {RunView} view @param {number} position */
function verdicts(view, position) {
  const step = view.run.steps[position];
  if (!step.verdicts.length) return null;
  const { broken } = view.changes[position];
  const rank = (/** @type {Verdict} */ verdict) => WORST_FIRST.indexOf(stateOf(verdict, broken, view.optional));
  const ranked = [...step.verdicts].sort((one, other) => rank(one) - rank(other));
  const places = placesOf(step);
  const list = el("ul", { class: "verdicts" });
  const rows = ranked.map((verdict) => {
    const state = stateOf(verdict, broken, view.optional);
    const sure = verdict.confidence !== null && el("span", { class: "note" }, t("{share} sure", { share: percent(verdict.confidence) }));
    const boxes = places.get(verdict.goal);
    const where = boxes ? placeWords(boxes, verdict.goal, () => list.closest(".card")) : null;
    const words = el("div", {}, el("p", {}, ...goalWords(view, verdict.goal)), verdict.evidence ? prose(said(verdict.evidence), 300) : null, where);
    return el("li", {}, chip(state, t(WORDS[state])), words, sure);
  });
  const urgent = step.verdicts.filter(({ state }) => state !== "met").length;
  const cut = rows.length <= VERDICTS_AT_ONCE ? rows.length : Math.min(Math.max(urgent, 1), 2 * VERDICTS_AT_ONCE);
  const rest = rows.slice(cut);
  list.append(...rows.slice(0, cut));
  return el(
    "section",
    { class: "judged", "aria-label": t("Verdicts") },
    el("h4", {}, t("Verdicts")),
    list,
    rest.length > 0 && el("details", { class: "fold" }, el("summary", {}, many(rest.length, "Show {n} more verdict", "Show {n} more verdicts")), el("ul", { class: "verdicts" }, ...rest)),
  );
}

/** @param {RunView} view @param {Step} step */
function check(view, step) {
  const { edit } = step;
  const measured = edit.change && step.chosen !== null ? el("p", { class: "measured" }, measuredWords(edit, depthOf(view.run.steps, view.owners, step.chosen))) : null;
  if (edit.success === null && edit.over_edit === null && !edit.evidence) return measured && el("div", { class: "check" }, measured);
  const [kind, words] = edit.success === null ? ["unsure", t("edit not judged")] : edit.success ? ["met", t("edit carried out")] : ["unmet", t("edit not carried out")];
  const over = edit.over_edit !== null && el("span", {}, t("over-edit {share}", { share: percent(edit.over_edit) }));
  const elsewhere = wrongPlaces(edit.witnesses);
  const where = elsewhere.length > 0 ? placeWords(elsewhere, "", () => line.closest(".card")) : null;
  const missed = edit.missed.length > 0 ? prose(edit.missed.map((question) => `\u2717 ${question}`).join(" "), 300) : null;
  const line = el("p", { class: "row" }, chip(kind, words), over);
  return el("div", { class: "check" }, line, missed, edit.evidence ? prose(said(edit.evidence), 300) : null, measured, where);
}

/** @param {Step["edit"]} edit @param {number} depth */
function measuredWords({ change, drift }, depth) {
  const rest = change && changeWords(change);
  const since = drift && changeWords(drift);
  const parts = [
    t("Edit {n} since the source", { n: depth }),
    t("the rest of the picture: {change}", { change: rest || t("as before") }),
    drift && t("against the source: {change}", { change: since || t("as it was") }),
  ];
  return `${parts.filter(Boolean).join("; ")}.`;
}

/** @param {Step} step */
function numbers({ cost, candidates }) {
  const files = candidates.map(({ canvas, seed, nfe, file }) =>
    el("li", {}, ...pieces("canvas {canvas}: seed {seed}, {nfe} NFE", { canvas: String(canvas), seed: el("code", {}, seed), nfe: String(nfe) }), file && ", ", name(file, 120)),
  );
  const facts = [
    fact(t("Time by part"), Object.keys(cost.seconds).length > 0 && parts(cost.seconds)),
    fact(t("Tokens"), cost.vlm_calls > 0 && many(cost.vlm_calls, "{tokens} in {n} call", "{tokens} in {n} calls", { tokens: whole(cost.vlm_tokens) })),
    fact(t("Pictures"), files.length > 0 && el("ul", { class: "plainlist" }, ...files)),
  ].filter((each) => each !== null);
  const line = spent(cost).join(" \u00b7 ");
  if (!facts.length) return el("p", { class: "numbers" }, line);
  return el("details", { class: "numbers" }, el("summary", {}, line || t("Numbers")), el("dl", { class: "facts" }, ...facts));
}

/** @param {Cost} cost */
export function spent(cost) {
  return [
    Object.keys(cost.seconds).length > 0 && seconds(wall(cost)),
    cost.images > 0 && many(cost.images, "{n} picture", "{n} pictures"),
    cost.evaluations > 0 && t("{n} NFE", { n: whole(cost.evaluations) }),
    cost.vlm_tokens > 0 && t("{n} tokens", { n: whole(cost.vlm_tokens) }),
  ].filter((words) => words !== false);
}

/** A list of seconds by part of the work, the longest first, each with a bar for its share. @param {Record<string, number>} byPart */
export function parts(byPart) {
  const held = Object.entries(byPart)
    .filter(([, value]) => Number.isFinite(value))
    .sort(([, one], [, other]) => other - one);
  const all = held.reduce((sum, [, value]) => sum + value, 0) || 1;
  return el("ul", { class: "parts" }, ...held.map(([part, value]) => el("li", {}, name(t(PARTS[part] ?? part), 40), bar(value / all), el("span", { class: "amount" }, seconds(value)))));
}
