/** Where witnesses found what is wrong: boxes on the canvas, and the same places in words, for a keyboard and a screen reader. */

import { el, svg } from "./dom.js";
import { t } from "./language.js";
import { percent } from "./words.js";

/** @typedef {import("./record.js").Box} Box */
/** @typedef {import("./record.js").Finding} Finding */

/** Boxes of one goal that are told in words; all are drawn. */
const TOLD = 3;

/** The boxes of those who say no: where they found it, else where it can be mended. @param {Finding[]} findings @returns {Box[]} */
export function wrongPlaces(findings) {
  const said = findings.filter(({ says }) => says === "no");
  const boxes = said.flatMap(({ boxes: found, fault }) => (found.length ? found : fault ? [fault] : []));
  return boxes.filter((box) => box.length === 4 && box.every(Number.isFinite));
}

/** The places of what is open on the canvas that a step chose: by the goal, "" for what an edit was to leave alone. @param {import("./record.js").Step} step @returns {Map<string, Box[]>} */
export function placesOf(step) {
  /** @type {Map<string, Box[]>} */
  const found = new Map();
  const open = step.verdicts.filter(({ state }) => state === "unmet" || state === "unsure");
  for (const { goal, witnesses } of open) found.set(goal, wrongPlaces(witnesses));
  found.set("", wrongPlaces(step.edit.witnesses));
  for (const [goal, boxes] of found) if (!boxes.length) found.delete(goal);
  return found;
}

/** Draws the places over a picture, which they are laid in one cell with. @param {Map<string, Box[]>} places */
export function outlines(places) {
  const within = (/** @type {number} */ edge) => 100 * Math.min(1, Math.max(0, edge));
  const drawn = [...places].flatMap(([goal, boxes]) =>
    boxes.map(([left, top, right, bottom]) => {
      const [x, y] = [within(left), within(top)];
      const size = { width: String(Math.max(0.5, within(right) - x)), height: String(Math.max(0.5, within(bottom) - y)) };
      return svg("rect", { "data-goal": goal, x: String(x), y: String(y), ...size });
    }),
  );
  return svg("svg", { class: "faults", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" }, ...drawn);
}

/**
 * The places of one goal in words, with a button that brings them out on the canvas.
 * @param {Box[]} boxes
 * @param {string} goal
 * @param {() => ParentNode | null} within where the outlines are
 */
export function placeWords(boxes, goal, within) {
  const button = el("button", { type: "button", class: "where", "aria-pressed": "false" }, t("Show where"));
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    for (const each of within()?.querySelectorAll(".faults rect") ?? []) if (each.getAttribute("data-goal") === goal) each.classList.toggle("on", on);
  });
  const told = boxes.slice(0, TOLD).map((box) => el("li", {}, region(box)));
  const rest = boxes.length > TOLD && el("li", { class: "note" }, t("and {n} more", { n: boxes.length - TOLD }));
  return el("div", { class: "places" }, button, el("ul", { class: "plainlist" }, ...told, rest));
}

/** Draws a box on a small map of the canvas and gives its edges in percent. @param {import("./record.js").Box} edges */
export function region(edges) {
  const [left, top, right, bottom] = edges;
  const words = el("span", {}, t("left {left}, top {top}, right {right}, bottom {bottom}", { left: percent(left), top: percent(top), right: percent(right), bottom: percent(bottom) }));
  if (!edges.every(Number.isFinite)) return words;
  const within = (/** @type {number} */ edge) => Math.min(1, Math.max(0, edge));
  const [x, y] = [within(left), within(top)];
  const [width, height] = [Math.max(0.02, within(right) - x), Math.max(0.02, within(bottom) - y)];
  const at = (/** @type {number} */ share) => (38 * share).toFixed(1);
  const inside = { class: "part", x: String(1 + Number(at(x))), y: String(1 + Number(at(y))), width: at(width), height: at(height) };
  const frame = svg("rect", { class: "frame", x: "1", y: "1", width: "38", height: "38" });
  const map = svg("svg", { class: "map", viewBox: "0 0 40 40", "aria-hidden": "true", focusable: "false" }, frame, svg("rect", inside));
  return el("span", { class: "placed" }, map, words);
}
