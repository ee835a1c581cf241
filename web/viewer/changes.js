/** Finds the pixels in which two canvases differ, inside and outside the region of the edit, and words what was measured of an edit. */

import { t } from "./language.js";
import { draws } from "./tree.js";
import { figure, percent } from "./words.js";

/** @typedef {import("./record.js").Box} Box */
/** @typedef {import("./record.js").Change} Change */

/** A pixel counts as changed from this difference of a colour channel (0..255) on: more than JPEG compression alone causes. */
export const THRESHOLD = 16;

/**
 * @param {Uint8ClampedArray} before RGBA
 * @param {Uint8ClampedArray} after RGBA of the same size
 * @param {number} width
 * @param {number} height
 * @param {Box[] | null} boxes where the edit is meant to change something; null if that is not known
 * @returns {{ pixels: Uint8ClampedArray, inside: number, outside: number }} RGBA of the map, and the changed shares (0..1) of the pixels
 *   inside and of those outside, as in clvr_core/verifier/changes.py. Without boxes every pixel is inside.
 */
export function changeMap(before, after, width, height, boxes) {
  const pixels = new Uint8ClampedArray(4 * width * height);
  const count = { inside: 0, outside: 0 };
  const all = { inside: 0, outside: 0 };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const changed = Math.max(Math.abs(before[at] - after[at]), Math.abs(before[at + 1] - after[at + 1]), Math.abs(before[at + 2] - after[at + 2])) >= THRESHOLD;
      const within = boxes === null || boxes.some(([left, top, right, bottom]) => x + 0.5 >= left * width && x + 0.5 < right * width && y + 0.5 >= top * height && y + 0.5 < bottom * height);
      // Unchanged pixels show the later canvas in pale grey, for orientation.
      const grey = 150 + 0.3 * (0.3 * after[at] + 0.59 * after[at + 1] + 0.11 * after[at + 2]);
      const color = !changed ? [grey, grey, grey] : within ? [44, 76, 176] : [200, 30, 20];
      pixels.set([...color, 255], at);
      const side = within ? "inside" : "outside";
      all[side]++;
      if (changed) count[side]++;
    }
  }
  return { pixels, inside: count.inside / Math.max(1, all.inside), outside: count.outside / Math.max(1, all.outside) };
}

/** From here on a shift is worth a word: one that nobody sees is not. */
const SEEN = { outside: 0.005, offset: 0.5, scale: 0.002, light: 0.5, hue: 1, blur: 0.03, noise: 0.5 };

/** What happened to that which was to stay, in a few words; "" if nothing did. @param {Change} change */
export function changeWords({ outside, offset, scale, colour, sharpness, noise }) {
  const moved = offset ? Math.hypot(offset[0], offset[1]) : 0;
  const [light, ...hue] = colour;
  return [
    outside >= SEEN.outside && t("{share} repainted", { share: percent(outside) }),
    moved >= SEEN.offset && t("moved {n} px", { n: figure(moved) }),
    scale !== null && Math.abs(scale - 1) >= SEEN.scale && (scale > 1 ? t("grown by {n}\u00a0%", { n: figure(100 * (scale - 1)) }) : t("shrunk by {n}\u00a0%", { n: figure(100 * (1 - scale)) })),
    Math.abs(light) >= SEEN.light && (light > 0 ? t("lighter ({n} L)", { n: signed(light) }) : t("darker ({n} L)", { n: signed(light) })),
    Math.hypot(...hue) >= SEEN.hue && t("tinted ({a} a, {b} b)", { a: signed(hue[0]), b: signed(hue[1]) }),
    Math.abs(sharpness - 1) >= SEEN.blur && (sharpness > 1 ? t("sharper ({share})", { share: percent(sharpness) }) : t("softer ({share})", { share: percent(sharpness) })),
    Math.abs(noise) >= SEEN.noise && (noise > 0 ? t("noisier ({n} levels)", { n: signed(noise) }) : t("smoother ({n} levels)", { n: signed(noise) })),
  ]
    .filter(Boolean)
    .join(", ");
}

/** @param {number} value */
function signed(value) {
  return `${value < 0 ? "\u2212" : "+"}${figure(Math.abs(value))}`;
}

/**
 * The places that the steps from one canvas to the other were meant to change: those that were measured with, else their regions or the
 * areas of the goals they served. Null if no steps lead from one to the other, or if one of the steps has none of these.
 * @param {import("./card.js").RunView} view @param {number} before @param {number} after @returns {Box[] | null}
 */
export function intended(view, before, after) {
  /** @type {Box[]} */
  const boxes = [];
  const seen = new Set();
  for (let canvas = after; canvas !== before; ) {
    const position = view.owners.get(canvas);
    if (position === undefined || seen.has(position)) return null;
    seen.add(position);
    const { action, parent, edit } = view.run.steps[position];
    const areas = action.goals.map((id) => view.goals.get(id)?.area ?? null);
    const named = edit.change ? edit.change.meant : action.region ? [action.region] : areas.length && areas.every((area) => area !== null) ? areas : [];
    if (parent === null || !(named.length || edit.change) || !draws({ action })) return null;
    boxes.push(...named.filter((area) => area !== null));
    canvas = parent;
  }
  return boxes;
}
