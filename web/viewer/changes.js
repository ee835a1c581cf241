/** Finds the pixels in which two canvases differ, inside and outside the region of the edit. */

import { draws } from "./tree.js";

/** @typedef {import("./record.js").Box} Box */

/** A pixel counts as changed from this difference of a colour channel (0..255) on: more than JPEG compression alone causes. */
export const THRESHOLD = 16;

/**
 * @param {Uint8ClampedArray} before RGBA
 * @param {Uint8ClampedArray} after RGBA of the same size
 * @param {number} width
 * @param {number} height
 * @param {Box[] | null} boxes where the edit is meant to change something; null if that is not known
 * @returns {{ pixels: Uint8ClampedArray, inside: number, outside: number }} RGBA of the map, and the changed shares (0..1) of the canvas.
 *   Without boxes all change counts as inside.
 */
export function changeMap(before, after, width, height, boxes) {
  const pixels = new Uint8ClampedArray(4 * width * height);
  const count = { inside: 0, outside: 0 };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const changed = Math.max(Math.abs(before[at] - after[at]), Math.abs(before[at + 1] - after[at + 1]), Math.abs(before[at + 2] - after[at + 2])) >= THRESHOLD;
      const within = boxes === null || boxes.some(([left, top, right, bottom]) => x + 0.5 >= left * width && x + 0.5 < right * width && y + 0.5 >= top * height && y + 0.5 < bottom * height);
      // Unchanged pixels show the later canvas in pale grey, for orientation.
      const grey = 150 + 0.3 * (0.3 * after[at] + 0.59 * after[at + 1] + 0.11 * after[at + 2]);
      const color = !changed ? [grey, grey, grey] : within ? [44, 76, 176] : [200, 30, 20];
      pixels.set([...color, 255], at);
      if (changed) count[within ? "inside" : "outside"]++;
    }
  }
  const all = Math.max(1, width * height);
  return { pixels, inside: count.inside / all, outside: count.outside / all };
}

/**
 * The regions that the steps from one canvas to the other were meant to change, or the areas of the goals they served. Null if no steps
 * lead from one to the other, or if one of the steps has neither.
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
    const { action, parent, ...step } = view.run.steps[position];
    const areas = action.goals.map((id) => view.goals.get(id)?.area ?? null);
    const named = action.region ? [action.region] : areas.length && areas.every((area) => area !== null) ? areas : [];
    if (parent === null || !named.length || !draws({ action, parent, ...step })) return null;
    boxes.push(...named.filter((area) => area !== null));
    canvas = parent;
  }
  return boxes;
}
