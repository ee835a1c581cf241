/** All open questions of this tab, a panel each, in one shadow root. */

import { el } from "../viewer/dom.js";
import { Panel } from "./panel.js";

/** @typedef {import("./panel.js").Review} Review */
/** @typedef {(path: string, body?: unknown) => Promise<any>} Ask */
/** @typedef {(review: Review, file: string) => string} Address */

export class Reviews {
  /** @param {Element} parent @param {Ask} ask @param {Address} address */
  constructor(parent, ask, address) {
    this.ask = ask;
    this.address = address;
    /** @type {Map<string, Panel>} */
    this.panels = new Map();
    this.host = el("div", { class: "clvr-review", role: "region", "aria-label": "Review" });
    const root = this.host.attachShadow({ mode: "open" });
    this.list = el("div", { class: "reviews" });
    for (const sheet of ["../viewer/style.css", "./style.css"]) {
      root.append(el("link", { rel: "stylesheet", href: new URL(sheet, import.meta.url).href }));
    }
    root.append(this.list);
    parent.append(this.host);
  }

  /** Exactly these are open. @param {Review[]} reviews */
  show(reviews) {
    const open = new Set(reviews.map((review) => review.id));
    for (const id of [...this.panels.keys()]) if (!open.has(id)) this.remove(id);
    for (const review of reviews) this.add(review);
  }

  /** @param {Review} review */
  add(review) {
    if (this.panels.has(review.id)) return;
    const panel = new Panel(review, this.ask, (file) => this.address(review, file), () => this.remove(review.id));
    this.panels.set(review.id, panel);
    this.list.append(panel.element);
    panel.element.focus();
  }

  /** @param {string} id */
  remove(id) {
    this.panels.get(id)?.close();
    this.panels.delete(id);
  }
}
