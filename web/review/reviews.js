/** The open reviews of this tab, one panel each, in one shadow root. */

import { shadow } from "../comfy/shadow.js";
import { el } from "../viewer/dom.js";
import { t } from "../viewer/language.js";
import { Panel } from "./panel.js";

const STYLE = new URL("./style.css", import.meta.url).href;

/** @typedef {import("./panel.js").Review} Review */
/** @typedef {(path: string, body?: unknown) => Promise<any>} Ask */
/** @typedef {(review: Review, file: string) => string} Address */

export class Reviews {
  /** @param {Element} parent @param {Ask} ask @param {Address} address @param {(way: import("../comfy/again.js").Way, run: string) => void} leave */
  constructor(parent, ask, address, leave) {
    this.ask = ask;
    this.leave = leave;
    this.address = address;
    /** @type {Map<string, Panel>} */
    this.panels = new Map();
    this.host = el("div", { class: "clvr-review", role: "region", "aria-label": t("Review") });
    this.list = el("div", { class: "reviews" });
    this.announcement = el("p", { class: "unseen", role: "status" });
    shadow(this.host, [STYLE], this.announcement, this.list);
    // Keys pressed in the panel must not reach the graph, where Delete removes a node.
    this.host.addEventListener("keydown", (event) => event.stopPropagation());
    parent.append(this.host);
  }

  /** Opens and closes panels so that exactly these reviews are shown. @param {Review[]} reviews */
  show(reviews) {
    const open = new Set(reviews.map((review) => review.id));
    for (const id of [...this.panels.keys()]) if (!open.has(id)) this.remove(id);
    for (const review of reviews) this.add(review);
  }

  /** @param {Review} review */
  add(review) {
    if (this.panels.has(review.id)) return;
    const run = review.subfolder.replace(/^clvr\//, "");
    const panel = new Panel(review, this.ask, (file) => this.address(review, file), () => this.remove(review.id), (way) => this.leave(way, run));
    this.panels.set(review.id, panel);
    this.list.append(panel.element);
    this.announcement.textContent = panel.element.getAttribute("aria-label");
    if (!typing()) panel.element.focus();
  }

  /** @param {string} id */
  remove(id) {
    this.panels.get(id)?.close();
    this.panels.delete(id);
  }
}

/** Whether a person is typing in another field: then a new panel must not take the focus. */
function typing() {
  let active = document.activeElement;
  while (active?.shadowRoot?.activeElement) active = active.shadowRoot.activeElement;
  return active instanceof HTMLElement && active.matches("input, textarea, [contenteditable]");
}
