/** A shadow root with the viewer's look and any sheet of its own, so that neither's styles reach the other. */

import { el } from "../viewer/dom.js";

const VIEWER = new URL("../viewer/style.css", import.meta.url).href;

/** @param {HTMLElement} host @param {string[]} sheets addresses of further style sheets @param {...Node} children */
export function shadow(host, sheets, ...children) {
  const links = [VIEWER, ...sheets].map((href) => el("link", { rel: "stylesheet", href }));
  const root = host.attachShadow({ mode: "open" });
  root.append(...links, ...children);
  return root;
}
