/** Where two canvases differ, and whether that lies where the edit was meant to be. */

import { draws } from "./tree.js";

/** @typedef {import("./record.js").Box} Box */

/** Difference of a colour channel, of 255, from which on a pixel counts as changed: above what JPEG does to a still pixel. */
export const THRESHOLD = 16;

/**
 * @param {Uint8ClampedArray} before RGBA
 * @param {Uint8ClampedArray} after RGBA of the same size
 * @param {number} width
 * @param {number} height
 * @param {Box[] | null} boxes where a change is meant to be; null if nothing says
 * @returns {{ pixels: Uint8ClampedArray, inside: number, outside: number }} RGBA of the map, and the shares of the canvas that changed.
 *   Without boxes all change counts as inside.
 */
export function changeMap(before, after, width, height, boxes) {
  const pixels = new Uint8ClampedArray(4 * width * height);
  const count = { inside: 0, outside: 0 };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const changed = Math.max(Math.abs(before[at] - after[at]), Math.abs(before[at + 1] - after[at + 1]), Math.abs(before[at + 2] - after[at + 2])) >= THRESHOLD;
      const within = boxes === null || boxes.some(([left, top, right, bottom]) => x + 0.5 >= left * width && x + 0.5 < right * width && y + 0.5 >= top * height && y + 0.5 < bottom * height);
      // What stays is the later canvas in pale grey, so that one sees where one is.
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
 * Where the steps that lead from one canvas to the other meant to change something: their regions and the areas of the goals they served.
 * Null if they do not lead there, or if one of them does not say.
 * @param {import("./card.js").RunView} view @param {number} before @param {number} after @returns {Box[] | null}
 */
export function meant(view, before, after) {
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
