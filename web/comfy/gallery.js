/** The gallery of runs in the sidebar: searched, sorted, and two of them chosen for comparison. Only the rows in sight are in the page. */

import { chip, el, name, place } from "../viewer/dom.js";
import { many, mark, t } from "../viewer/language.js";

/** @typedef {import("./runs.js").Listed} Listed */

/** Height of a row, pixels, as in sidebar.css. */
export const ROW = 112;
/** Rows above and below those in sight. */
const SPARE = 4;
/** Height of the list while it is not laid out, pixels. */
const UNKNOWN = 800;
const COMPARED = 2;

/** @type {Record<string, { words: string, order: (one: Listed, other: Listed) => number }>} */
const ORDERS = {
  newest: { words: mark("newest first"), order: (one, other) => other.changed - one.changed },
  oldest: { words: mark("oldest first"), order: (one, other) => one.changed - other.changed },
  goals: { words: mark("most goals met first"), order: (one, other) => share(other) - share(one) || other.changed - one.changed },
  brief: { words: mark("by brief"), order: (one, other) => one.prompt.localeCompare(other.prompt) || other.changed - one.changed },
};

/** @param {Listed} run */
const share = ({ goals, goals_met }) => (goals ? goals_met / goals : -1);

export class Gallery {
  /**
   * @param {(run: Listed) => string} thumb gives the address of a run's small picture
   * @param {(run: string) => void} open @param {(one: Listed, other: Listed) => void} compare
   */
  constructor(thumb, open, compare) {
    this.thumb = thumb;
    this.open = open;
    /** @type {Listed[]} */
    this.all = [];
    /** @type {Listed[]} */
    this.shown = [];
    /** Names of the runs that are marked for comparison. @type {string[]} */
    this.marked = [];
    /** @type {Map<string, { key: string, item: HTMLLIElement }>} */
    this.rows = new Map();
    this.search = el("input", { type: "search", "aria-label": t("Search the runs"), placeholder: t("Search: brief, seed, strategy") });
    const choices = Object.entries(ORDERS).map(([value, { words }]) => el("option", { value }, t(words)));
    this.order = el("select", { "aria-label": t("Order of the runs") }, ...choices);
    this.both = el("button", { type: "button", class: "both" });
    this.count = el("p", { class: "note", role: "status" });
    this.list = el("ul", { class: "runs", role: "list" });
    this.scroller = el("div", { class: "gallery", tabindex: "0", role: "region", "aria-label": t("Runs") }, this.list);
    this.element = el("div", { class: "choosing" }, el("h2", {}, t("Runs")), el("div", { class: "row" }, this.search, this.order), this.both, this.count, this.scroller);
    for (const [part, type] of /** @type {[HTMLElement, string][]} */ ([[this.search, "input"], [this.order, "change"]])) part.addEventListener(type, () => this.find());
    this.scroller.addEventListener("scroll", () => this.draw());
    this.list.addEventListener("click", ({ target }) => {
      const run = target instanceof Element && target.closest("button")?.dataset.run;
      if (run) this.open(run);
    });
    this.list.addEventListener("change", ({ target }) => target instanceof HTMLInputElement && this.mark(target.value, target.checked));
    this.list.addEventListener("error", ({ target }) => target instanceof Element && target.replaceWith(el("span", { class: "none" })), { capture: true });
    this.both.addEventListener("click", () => {
      const [one, other] = this.marked.map((run) => this.all.find((each) => each.run === run));
      if (one && other) compare(one, other);
    });
    this.resized = "ResizeObserver" in globalThis ? new ResizeObserver(() => this.draw()) : null;
    this.resized?.observe(this.scroller);
    this.offer();
  }

  /** @param {Listed[]} runs */
  show(runs) {
    this.all = runs;
    this.marked = this.marked.filter((run) => runs.some((each) => each.run === run));
    this.find();
    this.offer();
  }

  /** Shows a sentence in place of the runs. @param {string} words */
  say(words) {
    this.all = this.shown = [];
    this.draw();
    this.count.textContent = words;
  }

  /** Searches for all words, and sorts. */
  find() {
    const wanted = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const told = (/** @type {Listed} */ { prompt, seed, strategy, run }) => `${prompt} ${seed} ${strategy} ${run}`.toLowerCase();
    this.shown = this.all.filter((run) => wanted.every((word) => told(run).includes(word))).sort(ORDERS[this.order.value].order);
    this.count.textContent = this.all.length ? many(this.shown.length, "{n} run", "{n} runs") : t("There is no run in the output folder yet.");
    this.draw();
  }

  /** @param {string} run @param {boolean} wanted */
  mark(run, wanted) {
    this.marked = [...this.marked.filter((each) => each !== run), ...(wanted ? [run] : [])].slice(-COMPARED);
    this.offer();
    this.draw();
  }

  offer() {
    this.both.disabled = this.marked.length < COMPARED;
    this.both.textContent = this.both.disabled ? t("Mark two runs to compare them") : t("Compare the two side by side");
  }

  /** Puts the rows in sight into the page. */
  draw() {
    const height = Math.min(this.scroller.clientHeight || UNKNOWN, window.innerHeight || UNKNOWN);
    const rows = Math.ceil(height / ROW);
    const top = Math.min(Math.floor(this.scroller.scrollTop / ROW), this.shown.length - rows);
    const first = Math.max(0, top - SPARE);
    const seen = this.shown.slice(first, first + rows + 2 * SPARE);
    this.list.style.height = `${this.shown.length * ROW}px`;
    const names = new Set(seen.map(({ run }) => run));
    for (const run of this.rows.keys()) if (!names.has(run)) this.rows.delete(run);
    place(this.list, seen.map((run, index) => this.row(run, first + index)));
  }

  /** @param {Listed} run @param {number} index */
  row(run, index) {
    const marked = this.marked.includes(run.run);
    const key = JSON.stringify([run, marked]);
    let held = this.rows.get(run.run);
    if (held?.key !== key) {
      const item = el("li", {}, ...this.inner(run, marked));
      // In the place of the old one, so that the focus is not lost with it.
      if (held) held.item.replaceChildren(...item.childNodes);
      held = { key, item: held?.item ?? item };
      this.rows.set(run.run, held);
    }
    held.item.style.top = `${index * ROW}px`;
    held.item.setAttribute("aria-setsize", String(this.shown.length));
    held.item.setAttribute("aria-posinset", String(index + 1));
    return held.item;
  }

  /** @param {Listed} listed @param {boolean} marked */
  inner(listed, marked) {
    const { run, prompt, strategy, seed, met, goals, goals_met, best, changed } = listed;
    const state = met === null ? chip("pending", t("not finished")) : met ? chip("met", t("brief met")) : chip("unmet", t("brief not met"));
    const picture = best === null ? el("span", { class: "none" }) : el("img", { src: this.thumb(listed), alt: "", loading: "lazy", draggable: "false" });
    const facts = [when(changed), strategy, seed && t("seed {n}", { n: seed })].filter(Boolean).join(" \u00b7 ");
    const words = el("span", { class: "about" }, name(prompt, 120), el("span", { class: "row" }, state, goals > 0 && t("{met} of {all}", { met: goals_met, all: goals })), el("small", {}, facts));
    const button = el("button", { type: "button", "data-run": run, title: run }, picture, words);
    return [el("input", { type: "checkbox", value: run, checked: marked, "aria-label": t("Compare the run: {brief}", { brief: prompt.slice(0, 80) }) }), button];
  }

  close() {
    this.resized?.disconnect();
  }
}

/** @param {number} seconds since 1970 */
function when(seconds) {
  return seconds ? new Date(1000 * seconds).toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" }) : "";
}
