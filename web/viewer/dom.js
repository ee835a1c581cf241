/** Makes elements whose texts are text nodes: text from a model is never parsed as markup. */

import { many, t } from "./language.js";
import { clean, shorten, whole } from "./words.js";

/** @typedef {Node | string | null | undefined | false} Child */

const FOLD_AT = 600;
const FOLD_LINES = 10;
/** Characters of one string that are shown; the rest is only in the trajectory file. */
const LONGEST = 200_000;
const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | number | boolean | null | undefined>} attributes null, undefined and false are left out, true gives an attribute without a value
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : clean(String(value)));
  }
  element.append(...nodes(children));
  return element;
}

/** @param {(Child | Child[])[]} children */
function nodes(children) {
  /** @type {(Node | string)[]} */
  const found = [];
  for (const child of children.flat()) {
    if (typeof child === "string") found.push(clean(child));
    else if (child) found.push(child);
  }
  return found;
}

/** Text of a person or a model in its own writing direction, folded when it is long. @param {string} text @param {number} [limit] */
export function prose(text, limit = FOLD_AT) {
  if (text.length <= limit && text.split("\n", FOLD_LINES + 2).length <= FOLD_LINES + 1) return el("p", { class: "prose", dir: "auto" }, text);
  const left = text.length - LONGEST;
  return el(
    "details",
    { class: "fold" },
    el(
      "summary",
      {},
      el("bdi", { class: "shut" }, shorten(text, 240)),
      " ",
      el("span", { class: "more shut" }, t("Show all {n} characters", { n: whole(text.length) })),
      el("span", { class: "more open" }, t("Show less")),
    ),
    el("div", { class: "prose", dir: "auto" }, text.slice(0, LONGEST)),
    left > 0 && el("p", { class: "note" }, many(left, "{n} more character stands in the trajectory file.", "{n} more characters stand in the trajectory file.")),
  );
}

/** Text of a person or a model inside a line of the page, shortened. @param {string} text @param {number} limit @param {string} [style] */
export function name(text, limit, style) {
  return el("bdi", { class: style }, shorten(text, limit));
}

/** @param {Child} content @param {string} term @param {string} [style] */
export function fact(term, content, style) {
  return content ? el("div", { class: style }, el("dt", {}, term), el("dd", {}, content)) : null;
}

/** @type {Record<string, string>} */
const STROKES = {
  met: "M3 8.6l3.3 3.2L13 4.6",
  unmet: "M4 4l8 8M12 4l-8 8",
  broken: "M8 2.5v10.2M3.8 8.6L8 12.8l4.2-4.2",
  pending: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 5v3.4l2.3 1.4",
  unsure: "M5.2 6a2.8 2.8 0 1 1 4.3 2.4C8.5 9 8 9.5 8 10.4M8 13.1v.1",
  error: "M8 2.2L14.5 13.5h-13zM8 6.4v3.4M8 11.7v.1",
  missed: "M3.5 8h9",
  back: "M6 3L2.8 6.2 6 9.4M3 6.2h6.5a3.6 3.6 0 0 1 0 7.2H6.5",
  star: "M8 2l1.8 3.9 4.2.5-3.1 2.9.8 4.2L8 11.4l-3.7 2.1.8-4.2L2 6.4l4.2-.5z",
  GENERATE: "M8 2l1.5 4.5L14 8l-4.5 1.5L8 14l-1.5-4.5L2 8l4.5-1.5z",
  EDIT: "M3 13l.7-3L10.8 2.9l2.3 2.3L6 12.3z",
  VALIDATE: "M1.5 8S4 3.8 8 3.8 14.5 8 14.5 8 12 12.2 8 12.2 1.5 8 1.5 8zM8 6.3a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 0 0 0-3.4z",
  END: "M4 14V2.5h8.5L10.8 5.5l1.7 3H4",
  GIVEN: "M2 3h12v10H2zM2 10.5l3.5-3.5 3 3 2-2L14 11",
  start: "M8 5.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z",
};

/** @param {string} tag @param {Record<string, string>} attributes @param {...Node} children */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** @param {string} kind */
export function icon(kind) {
  const path = svg("path", { d: STROKES[kind] ?? STROKES.start });
  return svg("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false", "data-icon": kind }, path);
}

/** A label with an icon, so that the colour is not needed to read it. @param {string} kind @param {string} words @param {string} [sign] */
export function chip(kind, words, sign = kind) {
  return el("span", { class: `chip ${kind}` }, icon(sign), words);
}

/** @param {number} share 0..1 */
export function bar(share) {
  const inner = el("span", {});
  inner.style.width = `${(100 * Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0))).toFixed(1)}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, inner);
}

/** Sets the children of `parent` and leaves those in place that are there already, so that they keep the focus. @param {Element} parent @param {Element[]} children */
export function place(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}
