/** A viewer inside ComfyUI, in a shadow root and in the colours of the theme. */

import { el } from "../viewer/dom.js";
import { mark, t } from "../viewer/language.js";
import { Viewer } from "../viewer/viewer.js";
import { shadow } from "./shadow.js";

/** Makes an element with a shadow root that has the viewer's styles, and in it the element to fill. @param {string} label @param {string[]} [sheets] addresses of further style sheets @returns {{ host: HTMLDivElement, box: HTMLDivElement }} */
export function shadowed(label, sheets = []) {
  const host = el("div", { class: "clvr-panel", "data-capture-wheel": "true" });
  const box = el("div", { class: "clvr panel", role: "region", "aria-label": label, tabindex: "0" });
  shadow(host, sheets, box);
  // Keys pressed in the panel must not reach the graph, where Delete removes a node.
  host.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  });
  return { host, box };
}

/** The place of an error's sentence, which `tell` fills. */
export const failure = () => el("p", { class: "notice", role: "alert", dir: "auto" });

/** Puts the sentence first in the box; an empty one takes it away. @param {HTMLElement} place @param {HTMLElement} box @param {string} words */
export function tell(place, box, words) {
  place.textContent = words;
  if (words) box.prepend(place);
  else place.remove();
}

export class Panel {
  /** @param {import("./runs.js").Runs} runs @param {string} empty the sentence shown while there is no run @param {() => void} [changed] called when another run is shown, or none */
  constructor(runs, empty, changed = () => {}) {
    this.runs = runs;
    this.changed = changed;
    const { host, box } = shadowed(t("Trajectory"));
    this.host = host;
    this.box = box;
    this.failure = failure();
    this.inner = el("div", {});
    box.append(this.inner);
    this.viewer = new Viewer(this.inner, () => ({ missing: mark("is not available") }));
    /** Called with a run and the canvas that the artist picked in it. @type {((run: string, canvas: number) => void) | null} */
    this.pick = null;
    /** @type {string | null} */
    this.run = null;
    this.stop = () => {};
    /** Address of the picture that is being drawn. */
    this.drawn = "";
    this.viewer.say(empty);
  }

  /** @param {string} run @param {number | null} [canvas] the canvas to scroll to, unless it is the best one, which is at the top */
  follow(run, canvas = null) {
    if (run === this.run) return;
    this.stop();
    this.run = run;
    this.inner.hidden = false;
    this.changed();
    this.viewer.pictures = this.runs.picturesOf(run);
    this.viewer.pick = this.pick && !run.includes("/") ? (canvas) => this.pick?.(run, canvas) : null;
    let wanted = canvas;
    this.stop = this.runs.follow(
      run,
      (record) => {
        if (!this.viewer.show(record) || wanted === null) return;
        if (wanted !== /** @type {any} */ (record).best) this.viewer.reveal(`canvas-${wanted}`);
        wanted = null;
      },
      (words) => this.viewer.say(words),
    );
  }

  /** Shows a picture that is being drawn. @param {Blob} picture */
  preview(picture) {
    URL.revokeObjectURL(this.drawn);
    this.drawn = URL.createObjectURL(picture);
    this.viewer.preview(this.drawn);
  }

  /** Shows a record without a run folder, such as that of a dropped picture. @param {unknown} record @param {import("../viewer/pictures.js").Pictures} pictures */
  show(record, pictures) {
    this.stop();
    this.run = null;
    this.changed();
    this.viewer.pictures = pictures;
    this.viewer.pick = null;
    this.viewer.show(record);
  }

  get failed() {
    return this.failure.parentNode !== null;
  }

  /** Says what stopped the run, above what there is of it; an empty sentence takes that back. @param {string} words */
  fail(words) {
    tell(this.failure, this.box, words);
    this.inner.hidden = Boolean(words) && !this.run;
    this.changed();
  }

  /** @param {string} words */
  say(words) {
    this.stop();
    this.run = null;
    this.changed();
    this.viewer.say(words);
  }

  destroy() {
    URL.revokeObjectURL(this.drawn);
    this.stop();
    this.viewer.destroy();
    this.host.remove();
  }
}
