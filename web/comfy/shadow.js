/** A shadow root with the viewer's look and any sheet of its own, so that neither's styles reach the other. */

import { el } from "../viewer/dom.js";

const VIEWER = new URL("../viewer/style.css", import.meta.url).href;

/** @param {HTMLElement} host @param {string[]} sheets addresses of further style sheets @param {...Node} children */
export function shadow(host, sheets, ...children) {
  const links = [VIEWER, ...sheets].map((href) => el("link", { rel: "stylesheet", href }));
  const root = host.attachShadow({ mode: "open" });
  root.append(...links, ...children);
  tellTyping(host, root);
  return root;
}

/**
 * ComfyUI asks the focused element of the document whether a key is typed into a field; within a shadow root that is the host. So the host
 * answers for the field: Ctrl+Z takes back a word, not the graph. 1.49 asks for `type`, later ones for `isContentEditable`.
 * @param {HTMLElement} host @param {ShadowRoot} root
 */
function tellTyping(host, root) {
  const typing = () => root.activeElement?.matches("textarea, input:not([type=checkbox], [type=range])") ?? false;
  Object.defineProperties(host, { type: { get: () => (typing() ? "textarea" : "") }, isContentEditable: { get: typing } });
}
