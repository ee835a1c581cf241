/** Paints a mask over the picture: the next edit may change only the painted part. */

import { el } from "../viewer/dom.js";
import { mark, t } from "../viewer/language.js";

const INK = "rgba(255, 70, 70, 1)";
const HELP = mark("Mask: drag to paint where the next edit may change. With the keyboard: the arrow keys move the brush, the space bar lowers and lifts it");
/** @type {Record<string, [number, number]>} */
const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Mask {
  /** @param {number} width @param {number} height pixels of the canvas @param {string} source address of the picture */
  constructor(width, height, source) {
    this.painted = false;
    this.picture = el("img", { src: source, alt: t("The canvas of this round") });
    this.sheet = el("canvas", { width, height, tabindex: "0", role: "application", "aria-label": t(HELP) });
    this.brush = el("span", { class: "brush", "aria-hidden": "true" });
    this.size = el("input", { type: "range", min: 1, max: 40, value: 12, "aria-label": t("Brush, in hundredths of the width") });
    const clear = el("button", { type: "button", class: "clear" }, t("Clear mask"));
    clear.addEventListener("click", () => this.clear());
    this.element = el(
      "div",
      { class: "mask" },
      (this.paper = el("div", { class: "paper" }, this.picture, this.sheet, this.brush)),
      el("div", { class: "tools" }, el("label", {}, `${t("Brush")} `, this.size), clear),
    );
    this.strokes = new AbortController();
    const options = { signal: this.strokes.signal };
    this.sheet.addEventListener("pointerdown", (event) => this.begin(event), options);
    this.sheet.addEventListener("pointermove", (event) => event.buttons && this.last && this.line(this.at(event)), options);
    this.sheet.addEventListener("keydown", (event) => this.key(event), options);
    this.size.addEventListener("input", () => this.point());
    this.spot = { x: width / 2, y: height / 2 };
    this.down = false;
    this.point();
  }

  /** Width of the brush, pixels of the canvas. */
  get width() {
    return (Number(this.size.value) / 100) * this.sheet.width;
  }

  get pen() {
    return /** @type {CanvasRenderingContext2D} */ (this.sheet.getContext("2d"));
  }

  /** @param {PointerEvent} event */
  at(event) {
    const box = this.sheet.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * this.sheet.width,
      y: ((event.clientY - box.top) / box.height) * this.sheet.height,
    };
  }

  /** @param {PointerEvent} event */
  begin(event) {
    this.sheet.setPointerCapture?.(event.pointerId);
    this.last = this.at(event);
    this.line(this.last);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const way = WAYS[event.key];
    if (event.key === " ") this.down = !this.down;
    else if (!way) return;
    event.preventDefault();
    this.last = this.spot;
    if (way) {
      const [x, y] = way.map((part) => part * Math.max(1, this.width / 2));
      const { width, height } = this.sheet;
      this.spot = { x: Math.min(width, Math.max(0, this.spot.x + x)), y: Math.min(height, Math.max(0, this.spot.y + y)) };
    }
    if (this.down) this.line(this.spot);
    this.point();
  }

  /** Moves the outline of the brush to the position of the keyboard brush. */
  point() {
    const { width, height } = this.sheet;
    const [x, y, across] = [this.spot.x / width, this.spot.y / height, this.width / width].map((part) => `${100 * part}%`);
    Object.assign(this.brush.style, { left: x, top: y, width: across, aspectRatio: "1" });
    this.brush.classList.toggle("down", this.down);
  }

  /** @param {{ x: number, y: number }} to */
  line(to) {
    const { pen, last = to } = this;
    pen.strokeStyle = INK;
    pen.lineCap = "round";
    pen.lineWidth = this.width;
    pen.beginPath();
    pen.moveTo(last.x, last.y);
    pen.lineTo(to.x + 0.01, to.y);
    pen.stroke();
    this.last = to;
    this.painted = true;
  }

  /** Paints a box. @param {import("../viewer/record.js").Box} edges fractions of the canvas */
  fill([left, top, right, bottom]) {
    const { width, height } = this.sheet;
    this.pen.fillStyle = INK;
    this.pen.fillRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
    this.painted = true;
  }

  clear() {
    this.pen.clearRect(0, 0, this.sheet.width, this.sheet.height);
    this.painted = false;
  }

  /** @param {string} source */
  setPicture(source) {
    this.picture.src = source;
    this.clear();
  }

  /** The mask as base64 of a PNG, white where it was painted and black elsewhere; empty if nothing was painted. */
  png() {
    if (!this.painted) return "";
    const { width, height } = this.sheet;
    const copy = el("canvas", { width, height });
    const pen = /** @type {CanvasRenderingContext2D} */ (copy.getContext("2d"));
    const drawn = this.pen.getImageData(0, 0, width, height);
    for (let at = 0; at < drawn.data.length; at += 4) {
      const value = drawn.data[at + 3] > 127 ? 255 : 0;
      drawn.data.set([value, value, value, 255], at);
    }
    pen.putImageData(drawn, 0, 0);
    return copy.toDataURL("image/png").split(",")[1];
  }

  close() {
    this.strokes.abort();
  }
}
