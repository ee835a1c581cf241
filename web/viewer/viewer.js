/**
 * The viewer of a trajectory, used by report.html and by the panels in ComfyUI. Call `show` again whenever the run has gone on.
 *
 * It fills an element of a page or of a shadow root. It fetches nothing: `pictures` gives the URL of each canvas.
 */

import { Compare } from "./compare.js";
import { el } from "./dom.js";
import { goalsOverRounds } from "./goals.js";
import { many, mark, t } from "./language.js";
import { ending, hero, totals, warnings } from "./overview.js";
import { replaceBroken } from "./pictures.js";
import { RunError, read } from "./record.js";
import { Steps } from "./steps.js";
import { allGoals, changes, draws, known, numberOf, optional, owners } from "./tree.js";

/** @typedef {import("./card.js").RunView} RunView */

const HOW_TO_READ = mark(
  "Down the line, each step starts from the canvas of the step above it. Indented branches start from the canvas of the step they hang on; a branch that was rolled back stays here with its reason.",
);

export class Viewer {
  /** @param {HTMLElement} element what the viewer fills @param {import("./pictures.js").Pictures} pictures */
  constructor(element, pictures) {
    this.element = element;
    this.pictures = pictures;
    /** Called with the canvas that a person picks; null where nothing continues a run. @type {((canvas: number) => void) | null} */
    this.pick = null;
    this.listening = new AbortController();
    this.compare = new Compare();
    this.steps = new Steps();
    this.status = el("p", { class: "unseen", role: "status" });
    this.parts = {
      hero: el("div", {}),
      warnings: el("div", {}),
      goals: el("div", {}),
      totals: el("div", {}),
    };
    /** @type {Map<HTMLElement, string>} */
    this.filled = new Map();
    this.live = el("figure", { class: "live", hidden: true });
    this.drawing = "";
    this.body = el(
      "div",
      { class: "run" },
      this.status,
      this.live,
      this.parts.hero,
      this.parts.warnings,
      section("goals", t("Goals"), this.parts.goals),
      section("compare", t("Compare"), this.compare.element),
      section("steps", t("Steps"), el("p", { class: "note" }, t(HOW_TO_READ)), this.steps.list),
      section("totals", t("Spent and left"), this.parts.totals),
    );
    const { signal } = this.listening;
    element.addEventListener("click", (event) => this.clicked(event), { signal });
    element.addEventListener("error", replaceBroken, { signal, capture: true });
  }

  /** Shows the run, or a sentence that says why it cannot be shown. Returns whether it was shown. @param {unknown} record */
  show(record) {
    try {
      const run = read(record);
      const view = viewOf(run, this.pictures, this.pick !== null);
      const { steps, ...around } = run;
      this.fill(this.parts.hero, [around, steps.length, [...known(steps, around.outcome?.canvas ?? around.best)]], () => [hero(view)]);
      this.fill(this.parts.warnings, run.warnings, () => warnings(run));
      this.fill(this.parts.goals, [steps, run.goals, run.plan, run.outcome, run.best], () => goalsOverRounds(view));
      this.fill(this.parts.totals, [steps, run.overhead, run.brief.budget, run.models], () => totals(run));
      this.drawing = underway(run);
      if (!this.drawing) this.preview("");
      this.compare.show(view);
      this.steps.show(view);
      this.announce(`${ending(run)[1]}: ${many(steps.length, "{n} step", "{n} steps")}`);
      if (this.body.parentNode !== this.element) this.element.replaceChildren(this.body);
      return true;
    } catch (problem) {
      this.say(problem instanceof RunError ? problem.message : t("This run cannot be shown: {why}", { why: /** @type {Error} */ (problem).message }));
      return false;
    }
  }

  /** Shows how far the picture is that is drawn now, at the top; an empty address takes it away. Ignored while nothing is drawn. @param {string} address */
  preview(address) {
    this.live.hidden = !address || !this.drawing;
    if (this.live.hidden) this.live.replaceChildren();
    else this.live.replaceChildren(el("img", { src: address, alt: this.drawing, draggable: "false" }), el("figcaption", {}, this.drawing));
  }

  /** Shows a sentence in place of a run. @param {string} words */
  say(words) {
    this.element.replaceChildren(el("p", { class: "notice", role: "alert", dir: "auto" }, words));
  }

  /** Removes all elements and listeners. */
  destroy() {
    this.listening.abort();
    this.element.replaceChildren();
  }

  /** Builds a part of the page again if its data `about` have changed; keeps the focus and the scroll position. @param {HTMLElement} part @param {unknown} about @param {() => HTMLElement[]} build */
  fill(part, about, build) {
    const key = JSON.stringify(about);
    if (this.filled.get(part) === key) return;
    const scrolled = part.querySelector(".scroll")?.scrollLeft ?? 0;
    const focus = focusIn(part);
    part.replaceChildren(...build());
    this.filled.set(part, key);
    const scroll = part.querySelector(".scroll");
    if (scroll) scroll.scrollLeft = scrolled;
    if (focus) part.querySelectorAll("a, summary, [tabindex]").forEach((each) => each instanceof HTMLElement && named(each) === focus && each.focus());
  }

  /** @param {string} words */
  announce(words) {
    if (this.status.textContent !== words) this.status.textContent = words;
  }

  /** @param {Event} event */
  clicked(event) {
    const target = event.target instanceof Element ? event.target.closest("a[href^='#'], button[data-before], button[data-pick]") : null;
    if (!target) return;
    if (target.hasAttribute("data-pick")) {
      this.pick?.(Number(target.getAttribute("data-pick")));
      return;
    }
    if (target.localName === "button") {
      this.compare.choose(Number(target.getAttribute("data-before")), Number(target.getAttribute("data-after")));
      this.reveal("compare");
      this.compare.slider.focus({ preventScroll: true });
      return;
    }
    event.preventDefault();
    this.reveal(String(target.getAttribute("href")).slice(1));
  }

  /** Scrolls to the element with this id and gives it the focus. @param {string} id */
  reveal(id) {
    if (!id) return;
    this.steps.open(id);
    const found = this.body.querySelector(`#${CSS.escape(id)}`);
    if (!(found instanceof HTMLElement)) return;
    for (const old of this.body.querySelectorAll(".shown")) old.classList.remove("shown");
    found.classList.add("shown");
    found.scrollIntoView({ block: "start" });
    found.focus({ preventScroll: true });
  }
}

/** @param {import("./record.js").Run} run @param {import("./pictures.js").Pictures} pictures @param {boolean} [picks] @returns {RunView} */
export function viewOf(run, pictures, picks = false) {
  const goals = new Map(allGoals(run).map((goal) => [goal.id, goal]));
  return { run, goals, optional: optional(run.goals.length ? run.goals : run.brief.goals), owners: owners(run.steps), changes: changes(run), pictures, picks };
}

/** What is said of the picture that is drawn now; "" if none is. @param {import("./record.js").Run} run */
function underway({ doing, outcome, steps }) {
  if (outcome || !doing?.action || doing.candidates.length || !draws({ action: doing.action })) return "";
  return t("Step {n} is drawn", { n: numberOf(steps, { index: steps.length }) });
}

/** @param {string} id @param {string} heading @param {...HTMLElement} content */
function section(id, heading, ...content) {
  return el("section", { "aria-labelledby": id }, el("h2", { id, tabindex: "-1" }, heading), ...content);
}

/** @param {HTMLElement} part */
function focusIn(part) {
  const root = part.getRootNode();
  const active = root instanceof Document || root instanceof ShadowRoot ? root.activeElement : null;
  return active instanceof HTMLElement && part.contains(active) ? named(active) : "";
}

/** @param {HTMLElement} element */
function named(element) {
  return `${element.localName} ${element.getAttribute("href") ?? element.getAttribute("aria-label") ?? element.textContent}`;
}
