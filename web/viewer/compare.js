/** Compares two canvases of the run: one over the other with a slider, or as a map of the changed pixels. */

import { changeMap, intended } from "./changes.js";
import { el } from "./dom.js";
import { t } from "./language.js";
import { image, shown } from "./pictures.js";
import { resultOf } from "./card.js";
import { handedOver, numberOf } from "./tree.js";
import { figure, shorten } from "./words.js";

/** @typedef {import("./card.js").RunView} RunView */

const ROOM = 480;

export class Compare {
  constructor() {
    this.before = el("select", {});
    this.after = el("select", {});
    this.slider = el("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": t("How much of the later canvas is shown") });
    this.mapped = el("input", { type: "checkbox" });
    this.stage = el("div", { class: "stage" });
    this.words = el("p", { class: "note", role: "status" });
    this.element = el(
      "div",
      { class: "compare" },
      el(
        "div",
        { class: "row" },
        el("label", {}, `${t("Before")} `, this.before),
        el("label", {}, `${t("After")} `, this.after),
        el("label", {}, this.mapped, ` ${t("Map of changes")}`),
      ),
      this.stage,
      this.words,
    );
    /** @type {RunView | null} */
    this.view = null;
    this.offered = "";
    /** Whether a person has chosen canvases or moved the slider; then new steps do not change the choice. */
    this.held = false;
    this.asked = 0;
    for (const choice of [this.before, this.after, this.mapped]) choice.addEventListener("change", () => this.hold(() => this.draw()));
    this.slider.addEventListener("input", () => this.hold(() => this.slide()));
  }

  /** @param {RunView} view */
  show(view) {
    this.view = view;
    const drawn = view.run.steps.flatMap((step) => step.candidates.map((candidate) => ({ step, canvas: candidate.canvas })));
    const offered = JSON.stringify(drawn.map(({ step, canvas }) => [canvas, resultOf(view.run, step)[1], step.chosen]));
    if (offered === this.offered) return;
    const held = this.held && [this.before.value, this.after.value];
    this.offered = offered;
    for (const choice of [this.before, this.after]) {
      choice.replaceChildren(
        ...drawn.map(({ step, canvas }) => {
          const number = numberOf(view.run.steps, step);
          const words = canvas === step.chosen ? resultOf(view.run, step)[1] : t("not chosen");
          return el("option", { value: canvas }, number ? t("canvas {n} (step {step}, {words})", { n: canvas, step: number, words }) : t("canvas {n} ({words})", { n: canvas, words }));
        }),
      );
    }
    if (held) [this.before.value, this.after.value] = held;
    if (!held || !this.before.value || !this.after.value) {
      const [before = "", after = ""] = usual(view);
      [this.before.value, this.after.value] = [String(before), String(after)];
      this.held = false;
    }
    this.draw();
  }

  /** @param {() => void} work */
  hold(work) {
    this.held = true;
    work();
  }

  /** @param {number} before @param {number} after */
  choose(before, after) {
    this.held = true;
    [this.before.value, this.after.value] = [String(before), String(after)];
    this.draw();
  }

  draw() {
    const { view, before, after } = this;
    this.asked++;
    this.words.textContent = "";
    if (!view || before.value === "" || after.value === "") {
      this.stage.replaceChildren(el("p", { class: "note" }, t("There are no two canvases to compare yet.")));
      return;
    }
    const pictures = [before, after].map((choice) => this.picture(view, Number(choice.value)));
    const size = shown(view.run.brief, ROOM);
    this.stage.style.maxWidth = `${size.width}px`;
    this.stage.style.aspectRatio = `${size.width} / ${size.height}`;
    if (this.mapped.checked) {
      this.map(view, Number(before.value), Number(after.value));
      return;
    }
    pictures[1].classList.add("over");
    this.stage.replaceChildren(pictures[0], pictures[1], el("span", { class: "edge", "aria-hidden": "true" }), this.slider);
    this.words.textContent = t("Left of the line canvas {before}, right of it canvas {after}. Drag, or use the arrow keys.", { before: before.value, after: after.value });
    this.slide();
  }

  /** @param {RunView} view @param {number} canvas */
  picture(view, canvas) {
    return image(view.pictures(canvas, fileOf(view, canvas)), view.run.brief, ROOM, t("Canvas {n}", { n: canvas }), shorten(fileOf(view, canvas), 120));
  }

  slide() {
    const at = Number(this.slider.value);
    this.stage.style.setProperty("--at", `${at}%`);
    this.slider.setAttribute("aria-valuetext", t("canvas {n} on {parts} of 100 parts", { n: this.after.value, parts: 100 - at }));
  }

  /** @param {RunView} view @param {number} before @param {number} after */
  async map(view, before, after) {
    const turn = this.asked;
    this.stage.replaceChildren(el("p", { class: "note" }, t("Comparing the pixels\u2026")));
    const boxes = intended(view, before, after);
    /** @type {HTMLElement} */
    let drawing;
    let words;
    try {
      const [one, other] = await Promise.all([before, after].map((canvas) => pixelsOf(view.pictures(canvas, fileOf(view, canvas)))));
      if (one.width !== other.width || one.height !== other.height) throw new Error(t("the two are not of one size"));
      const { pixels, inside, outside } = changeMap(one.data, other.data, one.width, one.height, boxes);
      const map = el("canvas", { width: one.width, height: one.height, class: "pixels", role: "img", "aria-label": t("Map of changes from canvas {before} to canvas {after}", { before, after }) });
      map.getContext("2d")?.putImageData(new ImageData(new Uint8ClampedArray(pixels), one.width, one.height), 0, 0);
      drawing = map;
      words = boxes
        ? t("Outside the edit {outside} of the pixels changed (red), inside it {inside} (blue).", { outside: share(outside), inside: share(inside) })
        : t("{share} of the canvas changed (blue). No region was named for the edit, so all change counts as meant.", { share: share(inside) });
    } catch (problem) {
      drawing = el("p", { class: "note" }, t("There is no map of changes: {why}.", { why: /** @type {Error} */ (problem).message }));
      words = "";
    }
    if (turn !== this.asked) return;
    this.stage.replaceChildren(drawing);
    this.words.textContent = words;
  }
}

/** @param {number} part */
function share(part) {
  return `${figure(100 * part)}\u00a0%`;
}

/** @param {RunView} view @param {number} canvas */
function fileOf(view, canvas) {
  const position = view.owners.get(canvas);
  return position === undefined ? "" : (view.run.steps[position].candidates.find((candidate) => candidate.canvas === canvas)?.file ?? "");
}

/** Canvases before and after the edit that made the canvas handed over, else the first and the last canvas. @param {RunView} view @returns {(number | undefined)[]} */
function usual(view) {
  const final = handedOver(view.run);
  const position = final === null ? undefined : view.owners.get(final);
  const parent = position === undefined ? null : view.run.steps[position].parent;
  if (final !== null && parent !== null && view.owners.has(parent)) return [parent, final];
  const drawn = [...view.owners.keys()];
  return drawn.length > 1 ? [drawn[0], final ?? drawn[drawn.length - 1]] : [];
}

/** @param {import("./pictures.js").Picture} picture @returns {Promise<ImageData>} */
async function pixelsOf(picture) {
  if ("missing" in picture) throw new Error(t("a picture is missing"));
  const loaded = new Image();
  loaded.src = picture.url;
  await loaded.decode().catch(() => {
    throw new Error(t("a picture cannot be loaded"));
  });
  const { naturalWidth: width, naturalHeight: height } = loaded;
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error(t("this browser gives no pixels"));
  context.drawImage(loaded, 0, 0);
  return context.getImageData(0, 0, width, height);
}
