/** The panel of one review: the picture, the verdicts of the judge, and the fields for the remark of the artist. */

import { chip, el, name } from "../viewer/dom.js";
import { stateOf } from "../viewer/card.js";
import { mark, t } from "../viewer/language.js";
import { outlines, placeWords } from "../viewer/places.js";
import { optional } from "../viewer/tree.js";
import { WORDS, spoken } from "../viewer/words.js";
import { WAYS, ways } from "../comfy/again.js";
import { Mask } from "./mask.js";

/**
 * @typedef {object} Review
 * @property {string} id
 * @property {string} prompt
 * @property {number} width
 * @property {number} height
 * @property {string} subfolder
 * @property {number} first number of the first step: 0 if it is the picture that the run was given, else 1
 * @property {number | null} current
 * @property {{ canvas: number, file: string, step: number, accepted: boolean }[]} canvases
 * @property {{ canvas: number, file: string, chosen: boolean }[]} [candidates] of the last step
 * @property {{ id: string, text: string, state: import("../viewer/record.js").Verdict["state"], need: string,
 *   places?: import("../viewer/record.js").Box[] }[]} goals `places`: where witnesses found what is wrong with it
 * @property {{ index: number, kind: string, summary: string, reason: string, ruling?: string }} step
 * @property {number} seconds until the run goes on without an answer
 * @property {string} otherwise what it does then
 */

const CHOICES = [
  ["", mark("as judged")],
  ["met", mark("it holds")],
  ["unmet", mark("it does not hold")],
  ["dropped", mark("not wanted")],
];
/** What the run does without an answer, as the node has it. @type {Record<string, string>} */
const OTHERWISE = { "go on": mark("go on"), accept: mark("accept"), stop: mark("stop") };
const STAY_EVERY = 5000;

export class Panel {
  /**
   * @param {Review} review
   * @param {(path: string, body?: unknown) => Promise<any>} ask
   * @param {(file: string) => string} address
   * @param {() => void} gone
   * @param {(way: import("../comfy/again.js").Way) => void} leave cancels the run that waits, and sets it aside
   */
  constructor(review, ask, address, gone, leave) {
    this.review = review;
    this.ask = ask;
    this.gone = gone;
    this.leave = leave;
    this.until = Date.now() + 1000 * review.seconds;
    this.stayed = 0;
    /** @type {Map<string, HTMLSelectElement>} */
    this.marks = new Map();
    this.error = el("p", { class: "wrong", role: "alert" });
    this.left = el("span", { class: "left", role: "timer" });
    this.words = el("textarea", { rows: 3, maxlength: 2000, dir: "auto", "aria-label": t("Your wish for the next round") });
    this.words.placeholder = t("What should change? It becomes a goal of this run.");
    const current = review.canvases.find((each) => each.canvas === review.current);
    this.mask = new Mask(review.width, review.height, current ? address(current.file) : "");
    this.back = el("select", { "aria-label": t("Go on from") }, ...this.canvases());
    this.element = el(
      "section",
      { class: "review card", tabindex: "-1", "aria-label": t("Review of step {n}", { n: review.step.index + review.first }) },
      el("header", {}, el("h2", {}, review.step.index + review.first ? t("Step {n}: your word?", { n: review.step.index + review.first }) : t("The picture given: your word?")), this.left),
      this.grid(address),
      this.mask.element,
      el("p", { class: "note" }, name(spoken(review.step.ruling ?? "", review.step.reason), 300)),
      this.goals(),
      el("label", { class: "field" }, t("Wish"), this.words),
      el("label", { class: "field" }, t("Go on from"), this.back),
      this.error,
      this.buttons(),
      this.others(),
    );
    const wrong = new Map(review.goals.flatMap(({ id, places = [] }) => (places.length ? [[id, places]] : [])));
    this.faults = wrong.size ? outlines(wrong) : null;
    if (this.faults) this.mask.paper.append(this.faults);
    this.back.addEventListener("change", () => this.showCanvas(address));
    this.element.addEventListener("input", () => this.stay());
    this.element.addEventListener("pointerdown", () => this.stay());
    this.element.addEventListener("keydown", () => this.stay());
    this.timer = setInterval(() => this.tick(), 500);
    this.tick();
  }

  /** The candidates of the round, if there are several: a click picks one to go on from. @param {(file: string) => string} address */
  grid(address) {
    const { candidates = [], step } = this.review;
    if (candidates.length < 2) return null;
    const buttons = candidates.map(({ canvas, file, chosen }) => {
      const words = chosen ? t("canvas {n}, chosen by the judge", { n: canvas }) : t("canvas {n}, not chosen", { n: canvas });
      const button = el("button", { type: "button", class: "candidate", "data-canvas": canvas, title: words, "aria-label": words, "aria-pressed": String(chosen) }, el("img", { src: address(file), alt: "", draggable: "false" }));
      button.addEventListener("click", () => {
        if (![...this.back.options].some(({ value }) => value === String(canvas))) this.back.append(el("option", { value: canvas }, t("canvas {n}, step {step}, picked", { n: canvas, step: step.index + this.review.first })));
        this.back.value = String(canvas);
        this.back.dispatchEvent(new Event("change"));
      });
      return button;
    });
    return el("div", { class: "candidates", role: "group", "aria-label": t("Candidates of this round: click one to go on from it") }, ...buttons);
  }

  canvases() {
    return this.review.canvases.map((each) => {
      const about = { n: each.canvas, step: each.step + this.review.first };
      const option = el("option", { value: each.canvas }, each.accepted ? t("canvas {n}, step {step}", about) : t("canvas {n}, step {step}, rolled back", about));
      option.selected = each.canvas === this.review.current;
      return option;
    });
  }

  goals() {
    const nice = optional(this.review.goals);
    return el(
      "ul",
      { class: "marks" },
      ...this.review.goals.map((goal) => {
        const select = el("select", { "aria-label": t("Goal: {goal}", { goal: goal.text }) }, ...CHOICES.map(([value, words]) => el("option", { value }, t(words))));
        this.marks.set(goal.id, select);
        const state = stateOf({ goal: goal.id, state: goal.state }, new Set(), nice);
        return el("li", {}, chip(state, t(WORDS[state])), name(goal.text, 300), select, this.places(goal));
      }),
    );
  }

  /** Where the goal was found wrong, in words, and a button that paints the mask there. @param {Review["goals"][number]} goal */
  places({ id, places = [] }) {
    if (!places.length) return null;
    const words = placeWords(places, id, () => this.mask.element);
    const paint = el("button", { type: "button", class: "paint" }, t("Paint the mask there"));
    paint.addEventListener("click", () => places.forEach((box) => this.mask.fill(box)));
    words.append(paint);
    return words;
  }

  buttons() {
    const make = (/** @type {string} */ say, /** @type {string} */ words, /** @type {string} */ title) => {
      const button = el("button", { type: "button", class: `say ${say.replace(" ", "-")}`, title }, words);
      button.addEventListener("click", () => this.say(say));
      return button;
    };
    return el(
      "div",
      { class: "buttons" },
      make("go on", t("Go on"), t("The next round follows what you said above.")),
      make("accept", t("Accept"), t("The run ends with the canvas that you chose.")),
      make("stop", t("Stop"), t("The run ends with the best canvas by the judge's word.")),
    );
  }

  /** What ends this prompt in place of an answer. */
  others() {
    const make = (/** @type {import("../comfy/again.js").Way} */ way) => {
      const button = el("button", { type: "button", class: way, title: `${t("Cancels this run.")} ${t(WAYS[way].title)}` }, t(WAYS[way].words));
      button.addEventListener("click", () => this.leave(way));
      return button;
    };
    return el("div", { class: "others" }, ...ways().map(make));
  }

  /** @param {(file: string) => string} address */
  showCanvas(address) {
    const all = [...this.review.canvases, ...(this.review.candidates ?? [])];
    const chosen = all.find((each) => String(each.canvas) === this.back.value);
    if (chosen) this.mask.setPicture(address(chosen.file));
    this.faults?.toggleAttribute("hidden", this.back.value !== String(this.review.current));
    for (const button of this.element.querySelectorAll(".candidate")) button.setAttribute("aria-pressed", String(button.getAttribute("data-canvas") === this.back.value));
  }

  /** The remark as the server expects it. @param {string} say */
  answer(say) {
    /** @type {Record<string, string>} */
    const corrected = {};
    /** @type {string[]} */
    const dropped = [];
    for (const [id, select] of this.marks) {
      if (select.value === "dropped") dropped.push(id);
      else if (select.value) corrected[id] = select.value;
    }
    const back = Number(this.back.value);
    return {
      say,
      words: this.words.value.trim(),
      corrected,
      dropped,
      back_to: this.back.value && back !== this.review.current ? back : null,
      mask: say === "go on" ? this.mask.png() : "",
    };
  }

  /** @param {string} say */
  async say(say) {
    this.error.textContent = "";
    this.element.toggleAttribute("inert", true);
    try {
      await this.ask(`/clvr/reviews/${this.review.id}`, this.answer(say));
      this.gone();
    } catch (error) {
      this.element.toggleAttribute("inert", false);
      this.error.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  /** Asks the server for more time while the artist is working in the panel. */
  async stay() {
    if (Date.now() - this.stayed < STAY_EVERY) return;
    this.stayed = Date.now();
    try {
      const { seconds } = await this.ask(`/clvr/reviews/${this.review.id}/stay`, {});
      this.until = Date.now() + 1000 * seconds;
    } catch {
      this.gone(); // answered in another tab, or the time is over
    }
  }

  tick() {
    const left = Math.max(0, Math.round((this.until - Date.now()) / 1000));
    this.left.textContent = t("{n} s, then {what}", { n: left, what: t(OTHERWISE[this.review.otherwise] ?? this.review.otherwise) });
  }

  close() {
    clearInterval(this.timer);
    this.mask.close();
    this.element.remove();
  }
}
