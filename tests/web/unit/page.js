/** A page without a browser, in the global names that the modules of web/ use. */

import { JSDOM } from "jsdom";

export const page = new JSDOM("<!doctype html><html lang='en'><body></body></html>", { url: "http://127.0.0.1/", pretendToBeVisual: true });
const { window } = page;
for (const name of ["document", "location", "Node", "Element", "HTMLElement", "HTMLImageElement", "HTMLInputElement", "Document", "ShadowRoot", "Event", "MouseEvent", "KeyboardEvent", "CustomEvent", "DOMException", "AbortController", "MutationObserver"]) {
  globalThis[name] = window[name];
}
globalThis.window = window;
// jsdom has no layout and no CSS.escape.
globalThis.CSS = { escape: (text) => text.replace(/[^\w-]/g, (sign) => `\\${sign}`) };
window.HTMLElement.prototype.scrollIntoView = function () {
  window.lastInView = this;
};
window.HTMLCanvasElement.prototype.getContext = () => null;
globalThis.Image = window.Image;
window.HTMLImageElement.prototype.decode = async () => {};

/** Lets the event loop turn until this is true. @param {() => unknown} condition @param {string} what */
export async function until(condition, what) {
  for (let turn = 0; turn < 10_000; turn++) {
    if (condition()) return;
    await new Promise((done) => setTimeout(done, 0));
  }
  throw new Error(`waited in vain: ${what}`);
}

/** @param {Element | ShadowRoot} root @param {string} selector */
export const all = (root, selector) => [...root.querySelectorAll(selector)];
/** @param {Element | ShadowRoot} root @param {string} selector */
export const texts = (root, selector) => all(root, selector).map((element) => element.textContent);
