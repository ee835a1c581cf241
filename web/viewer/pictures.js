/**
 * Makes elements for the pictures of a run, or for a sentence where a picture is missing.
 *
 * @typedef {{ url: string } | { missing: string }} Picture
 * @typedef {(canvas: number, file: string) => Picture} Pictures gives the URL of a canvas, or the reason in English why there is none
 */

import { el, name } from "./dom.js";
import { t } from "./language.js";

/** Pixels of the longer side up to which a picture is enlarged by a whole factor, without smoothing. */
const PIXEL_ART = 192;

/** The size in CSS pixels of a picture whose longer side has `room` pixels. @param {{ width: number, height: number }} brief @param {number} room */
export function shown({ width, height }, room) {
  const longer = Math.max(1, width, height);
  const times = longer <= PIXEL_ART ? Math.max(1, Math.floor(room / longer)) : Math.min(1, room / longer);
  return { width: Math.max(1, Math.round(width * times)), height: Math.max(1, Math.round(height * times)) };
}

/**
 * @param {Picture} picture
 * @param {{ width: number, height: number }} brief
 * @param {number} room CSS pixels for the longer side
 * @param {string} alt
 * @param {string} file
 */
export function image(picture, brief, room, alt, file) {
  if ("missing" in picture) return gap(`${file} ${t(picture.missing)}`.trim(), alt);
  const size = shown(brief, room);
  const hard = Math.max(brief.width, brief.height) <= PIXEL_ART;
  return el("img", { src: picture.url, alt, ...size, class: hard ? "pixels" : null, decoding: "async", loading: "lazy", draggable: "false" });
}

/** @param {string} why @param {string} alt */
function gap(why, alt) {
  return el("span", { class: "missing", role: "img", "aria-label": t("Missing picture. {alt}", { alt }) }, el("strong", {}, t("No picture")), name(why, 200));
}

/** Replaces a picture that did not load by a sentence. Listener for `error` events in the capture phase. @param {Event} event */
export function replaceBroken(event) {
  const broken = event.target;
  if (!(broken instanceof Element) || broken.localName !== "img") return;
  if (broken.closest(".thumb")) broken.closest(".thumb")?.remove();
  else broken.replaceWith(gap(t("cannot be loaded"), broken.getAttribute("alt") ?? ""));
}

/** A thumbnail, or null if the picture is missing. @param {Picture} picture @param {{ width: number, height: number }} brief @param {string} alt */
export function thumb(picture, brief, alt) {
  return "url" in picture ? el("span", { class: "thumb" }, image(picture, brief, 56, alt, "")) : null;
}
