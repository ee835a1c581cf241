/** Makes a shadow root with the viewer's style sheet, so that styles of ComfyUI and of the pack do not affect each other. */

import { el } from "../viewer/dom.js";

const VIEWER = new URL("../viewer/style.css", import.meta.url).href;

/** @param {HTMLElement} host @param {string[]} sheets addresses of further style sheets @param {...Node} children */
export function shadow(host, sheets, ...children) {
  const links = [VIEWER, ...sheets].map((href) => el("link", { rel: "stylesheet", href }));
  const root = host.attachShadow({ mode: "open" });
  root.append(...links, ...children);
  reportTyping(host, root);
  return root;
}

/**
 * Makes the host report whether a text field inside it has the focus. ComfyUI checks the focused element of the document, which is the host
 * while the focus is in its shadow root; otherwise Ctrl+Z would undo a change of the graph. ComfyUI 1.49 checks `type`, later versions
 * `isContentEditable`.
 * @param {HTMLElement} host @param {ShadowRoot} root
 */
function reportTyping(host, root) {
  const typing = () => root.activeElement?.matches("textarea, input:not([type=checkbox], [type=range])") ?? false;
  Object.defineProperties(host, { type: { get: () => (typing() ? "textarea" : "") }, isContentEditable: { get: typing } });
}
