/** Any two canvases of the run, one over the other with a slider between, or as a map of what changed. */

import { changeMap, meant } from "./changes.js";
import { el } from "./dom.js";
import { image, shown } from "./pictures.js";
import { fate } from "./card.js";
import { handedOver } from "./tree.js";
import { figure, shorten } from "./words.js";

/** @typedef {import("./card.js").Told} Told */

const ROOM = 480;

export class Compare {
  constructor() {
    this.before = el("select", {});
    this.after = el("select", {});
    this.slider = el("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "How much of the later canvas is shown" });
    this.mapped = el("input", { type: "checkbox" });
    this.stage = el("div", { class: "stage" });
    this.words = el("p", { class: "note", role: "status" });
    this.element = el(
      "div",
      { class: "compare" },
      el(
        "div",
        { class: "row" },
        el("label", {}, "Before ", this.before),
        el("label", {}, "After ", this.after),
        el("label", {}, this.mapped, " Map of changes"),
      ),
      this.stage,
      this.words,
    );
    /** @type {Told | null} */
    this.told = null;
    this.offered = "";
    /** Whether a person is at it: then a run that grows leaves it alone. */
    this.held = false;
    this.asked = 0;
    for (const choice of [this.before, this.after, this.mapped]) choice.addEventListener("change", () => this.hold(() => this.draw()));
    this.slider.addEventListener("input", () => this.hold(() => this.slide()));
  }

  /** @param {Told} told */
  show(told) {
    this.told = told;
    const drawn = told.run.steps.flatMap((step) => step.candidates.map((candidate) => ({ step, canvas: candidate.canvas })));
    const offered = JSON.stringify(drawn.map(({ step, canvas }) => [canvas, fate(told.run, step)[1], step.chosen]));
    if (offered === this.offered) return;
    const held = this.held && [this.before.value, this.after.value];
    this.offered = offered;
    for (const choice of [this.before, this.after]) {
      choice.replaceChildren(
        ...drawn.map(({ step, canvas }) => {
          const words = canvas === step.chosen ? fate(told.run, step)[1] : "not chosen";
          return el("option", { value: canvas }, `canvas ${canvas} (step ${step.index}, ${words})`);
        }),
      );
    }
    if (held) [this.before.value, this.after.value] = held;
    if (!held || !this.before.value || !this.after.value) {
      const [before = "", after = ""] = usual(told);
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
    const { told, before, after } = this;
    this.asked++;
    this.words.textContent = "";
    if (!told || before.value === "" || after.value === "") {
      this.stage.replaceChildren(el("p", { class: "note" }, "There are no two canvases to compare yet."));
      return;
    }
    const pictures = [before, after].map((choice) => this.picture(told, Number(choice.value)));
    const size = shown(told.run.brief, ROOM);
    this.stage.style.maxWidth = `${size.width}px`;
    this.stage.style.aspectRatio = `${size.width} / ${size.height}`;
    if (this.mapped.checked) {
      this.map(told, Number(before.value), Number(after.value));
      return;
    }
    pictures[1].classList.add("over");
    this.stage.replaceChildren(pictures[0], pictures[1], el("span", { class: "edge", "aria-hidden": "true" }), this.slider);
    this.words.textContent = `Left of the line canvas ${before.value}, right of it canvas ${after.value}. Drag, or use the arrow keys.`;
    this.slide();
  }

  /** @param {Told} told @param {number} canvas */
  picture(told, canvas) {
    return image(told.pictures(canvas, fileOf(told, canvas)), told.run.brief, ROOM, `Canvas ${canvas}`, shorten(fileOf(told, canvas), 120));
  }

  slide() {
    const at = Number(this.slider.value);
    this.stage.style.setProperty("--at", `${at}%`);
    this.slider.setAttribute("aria-valuetext", `canvas ${this.after.value} on ${100 - at} of 100 parts`);
  }

  /** @param {Told} told @param {number} before @param {number} after */
  async map(told, before, after) {
    const turn = this.asked;
    this.stage.replaceChildren(el("p", { class: "note" }, "Comparing the pixels\u2026"));
    const boxes = meant(told, before, after);
    /** @type {HTMLElement} */
    let drawing;
    let words;
    try {
      const [one, other] = await Promise.all([before, after].map((canvas) => pixelsOf(told.pictures(canvas, fileOf(told, canvas)))));
      if (one.width !== other.width || one.height !== other.height) throw new Error("the two are not of one size");
      const { pixels, inside, outside } = changeMap(one.data, other.data, one.width, one.height, boxes);
      const map = el("canvas", { width: one.width, height: one.height, class: "pixels", role: "img", "aria-label": `Map of changes from canvas ${before} to canvas ${after}` });
      map.getContext("2d")?.putImageData(new ImageData(new Uint8ClampedArray(pixels), one.width, one.height), 0, 0);
      drawing = map;
      words = boxes
        ? `Outside the edit (red) ${share(outside)} of the canvas changed, inside it (blue) ${share(inside)}.`
        : `${share(inside)} of the canvas changed (blue). No region was named for the edit, so all change counts as meant.`;
    } catch (problem) {
      drawing = el("p", { class: "note" }, `There is no map of changes: ${/** @type {Error} */ (problem).message}.`);
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

/** @param {Told} told @param {number} canvas */
function fileOf(told, canvas) {
  const position = told.owners.get(canvas);
  return position === undefined ? "" : (told.run.steps[position].candidates.find((candidate) => candidate.canvas === canvas)?.file ?? "");
}

/** The last edit that leads to the canvas handed over; else the first and the last canvas. @param {Told} told @returns {(number | undefined)[]} */
function usual(told) {
  const final = handedOver(told.run);
  const position = final === null ? undefined : told.owners.get(final);
  const parent = position === undefined ? null : told.run.steps[position].parent;
  if (final !== null && parent !== null && told.owners.has(parent)) return [parent, final];
  const drawn = [...told.owners.keys()];
  return drawn.length > 1 ? [drawn[0], final ?? drawn[drawn.length - 1]] : [];
}

/** @param {import("./pictures.js").Picture} picture @returns {Promise<ImageData>} */
async function pixelsOf(picture) {
  if ("missing" in picture) throw new Error("a picture is missing");
  const loaded = new Image();
  loaded.src = picture.url;
  await loaded.decode().catch(() => {
    throw new Error("a picture cannot be loaded");
  });
  const { naturalWidth: width, naturalHeight: height } = loaded;
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser gives no pixels");
  context.drawImage(loaded, 0, 0);
  return context.getImageData(0, 0, width, height);
}
