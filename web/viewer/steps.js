/** The steps of a run as a tree of cards. While the run goes on, only new and changed cards are built. */

import { card, resultOf, unfold } from "./card.js";
import { chip, el, icon, place, prose } from "./dom.js";
import { many, t } from "./language.js";
import { image } from "./pictures.js";
import { draws, grow, numberOf } from "./tree.js";
import { ACTIONS, spoken } from "./words.js";

/**
 * @typedef {import("./card.js").RunView} RunView
 * @typedef {import("./tree.js").Twig} Twig
 * @typedef {{ item: HTMLLIElement, branches: HTMLElement, key: string }} Kept
 */

/** In runs of more than MANY steps, all cards but the newest OPEN ones are folded. */
const MANY = 80;
const OPEN = 10;

export class Steps {
  constructor() {
    this.list = el("ol", { class: "line", role: "list" });
    this.start = el("li", {});
    this.doing = el("li", { class: "doing" });
    /** @type {Map<number, Kept>} */
    this.kept = new Map();
    /** @type {Map<string, { box: HTMLElement, list: HTMLOListElement }>} */
    this.boxes = new Map();
    /** @type {RunView | null} */
    this.view = null;
  }

  /** @param {RunView} view */
  show(view) {
    this.view = view;
    const tree = grow(view.run);
    for (const position of this.kept.keys()) if (position >= view.run.steps.length) this.kept.delete(position);
    const begin = beginning(view);
    const branches = el("div", {});
    place(branches, tree.branches.map((branch) => this.branch(view, branch, null, "start")));
    this.start.replaceChildren(el("span", { class: "dot start" }, icon("start")), begin, branches);
    const items = tree.line.map((twig) => this.item(view, twig));
    const { doing, outcome } = view.run;
    if (doing && !outcome) this.doing.replaceChildren(...underway(view));
    place(this.list, [this.start, ...items, ...(doing && !outcome ? [this.doing] : [])]);
  }

  /** @param {RunView} view @param {Twig} twig @returns {HTMLLIElement} */
  item(view, { position, step, branches }) {
    const { run } = view;
    const folded = run.steps.length > MANY && position < run.steps.length - OPEN;
    const [kind] = resultOf(run, step);
    const served = step.verdicts.map(({ goal }) => [view.goals.get(goal)?.text, view.optional.has(goal)]);
    const key = JSON.stringify([step, kind, folded, run.outcome !== null, view.picks, served, [...view.changes[position].broken], run.remarks.filter(({ after }) => after === step.index)]);
    let kept = this.kept.get(position);
    if (!kept) {
      kept = { item: el("li", {}), branches: el("div", {}), key: "" };
      this.kept.set(position, kept);
    }
    if (kept.key !== key) {
      const sign = icon(draws(step) ? kind : step.action.kind);
      kept.item.replaceChildren(el("span", { class: `dot ${kind}` }, sign), card(view, position, folded), kept.branches);
      kept.item.className = kind === "back" ? "rolled" : "";
      kept.key = key;
    }
    place(kept.branches, branches.map((branch) => this.branch(view, branch, step, String(position))));
    return kept.item;
  }

  /** @param {RunView} view @param {Twig[]} twigs @param {import("./record.js").Step | null} origin null for the empty canvas @param {string} from */
  branch(view, twigs, origin, from) {
    const key = `${from}/${twigs[0].position}`;
    const kept = twigs.some(({ step }) => step.accepted);
    const number = origin ? numberOf(view.run.steps, origin) : 0;
    const step = { n: number };
    const words = origin && !number
      ? kept ? t("Also from the picture given") : t("Tried from the picture given")
      : origin
      ? kept ? t("Also from step {n}", step) : t("Tried from step {n}", step)
      : kept ? t("Also from the empty canvas") : t("Tried from the empty canvas");
    let held = this.boxes.get(key);
    if (!held) {
      const list = el("ol", { class: "line", role: "list" });
      held = { list, box: el("div", { class: "branch" }, el("p", { class: "note" }, words), list) };
      this.boxes.set(key, held);
    }
    held.list.setAttribute("aria-label", words);
    /** @type {Element} */ (held.box.firstElementChild).textContent = words;
    place(held.list, twigs.map((twig) => this.item(view, twig)));
    return held.box;
  }

  /** Unfolds the card of this step, or of the step that drew this canvas. @param {string} id */
  open(id) {
    const [, kind, number] = /^(canvas|step)-(\d+)$/.exec(id) ?? [];
    const position = kind === "canvas" ? this.view?.owners.get(Number(number)) : Number(number);
    const inside = position === undefined ? null : this.kept.get(position)?.item.querySelector(":scope > article > details.inside");
    if (inside && this.view) unfold(this.view, Number(position), /** @type {HTMLDetailsElement} */ (inside));
  }
}

/** @param {RunView} view */
function beginning({ run }) {
  const { width, height, seed } = run.brief;
  const words = el("p", { class: "from" }, t("Empty canvas, {width} \u00d7 {height}, seed {seed}", { width, height, seed }));
  return el("div", { class: "begin" }, el("h3", {}, t("Start")), words, run.gate ? el("div", { class: "reason" }, prose(spoken(run.route, run.gate))) : null);
}

/** The card of the step in progress. @param {RunView} view @returns {HTMLElement[]} */
function underway({ run, pictures }) {
  const { action, candidates } = /** @type {import("./record.js").Doing} */ (run.doing);
  const state = candidates.length ? many(candidates.length, "judging {n} picture", "judging {n} pictures") : t("drawing");
  const plates = candidates.map(({ canvas, file }) =>
    el("figure", {}, el("div", { class: "mat" }, image(pictures(canvas, file), run.brief, 192, t("Canvas {n}, not judged yet", { n: canvas }), file)), el("figcaption", {}, t("canvas {n}", { n: canvas }))),
  );
  const asked = action && (action.edit_prompt || action.scene_prompt || action.summary);
  return [
    el("span", { class: "dot start" }, icon(action?.kind ?? "pending")),
    el(
      "article",
      { class: "card", "aria-label": t("The step in progress") },
      el("header", { class: "head" }, el("h3", {}, t("Step {n}", { n: numberOf(run.steps, { index: run.steps.length }) })), action && el("span", { class: "chip plain" }, icon(action.kind), t(ACTIONS[action.kind])), chip("pending", state)),
      asked ? prose(asked) : null,
      plates.length > 0 && el("div", { class: "grid" }, ...plates),
    ),
  ];
}
