/** The goals of Brief as a table. If it is empty, the model drafts the goals, and the artist can take over and edit the draft. */

import { shadow } from "../comfy/shadow.js";
import { el } from "../viewer/dom.js";
import { mark, t } from "../viewer/language.js";
import { KINDS as KIND_WORDS } from "../viewer/words.js";
import { KINDS, NEEDS, linesOf, rowsOf } from "./lines.js";

/** @typedef {import("./lines.js").Row} Row */

const STYLE = new URL("./style.css", import.meta.url).href;
const MOST = 40;
/** @type {Record<string, string>} */
const WORDS = { ...KIND_WORDS, must: mark("must"), nice: mark("nice") };

/** @param {string} value a kind or a need */
const shown = (value) => t(WORDS[value] ?? value);

export class Checklist {
  /** @param {(lines: string) => void} changed */
  constructor(changed) {
    this.changed = changed;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {string[]} */
    this.drafted = [];
    this.host = el("div", { class: "clvr-before" });
    this.body = el("tbody", {});
    this.note = el("p", { class: "note" });
    this.add = this.button(t("Add a goal"), () => this.put([...this.rows, { text: "", kind: "local", need: "must" }], true));
    this.take = this.button(t("Edit the drafted list"), () => this.put(rowsOf(this.drafted.join("\n")), true));
    const head = el("tr", {}, ...[t("Goal"), t("Kind"), t("Need"), ""].map((words) => el("th", { scope: "col" }, words)));
    const table = el("table", { class: "checklist", "aria-label": t("Goals") }, el("thead", {}, head), this.body);
    shadow(this.host, [STYLE], el("div", { class: "clvr panel brief" }, this.note, table, el("div", { class: "buttons" }, this.add, this.take)));
    // Keys pressed in a field must not reach the graph, where Delete removes a node.
    this.host.addEventListener("keydown", (event) => event.stopPropagation());
    this.draw();
  }

  /** @param {string} words @param {() => void} work @param {string} [label] */
  button(words, work, label) {
    const button = el("button", { type: "button", "aria-label": label }, words);
    button.addEventListener("click", work);
    return button;
  }

  /** @param {string} text */
  read(text) {
    if (text === linesOf(this.rows)) return;
    this.rows = rowsOf(text);
    this.draw();
  }

  /** Takes the goals that the model drafted for this brief. @param {string[]} lines */
  suggest(lines) {
    this.drafted = lines;
    this.draw();
  }

  /** @param {Row[]} rows @param {boolean} [focus] */
  put(rows, focus) {
    this.rows = rows.slice(0, MOST);
    this.changed(linesOf(this.rows));
    this.draw();
    if (focus) /** @type {HTMLElement | null} */ (this.body.querySelector("tr:last-child textarea"))?.focus();
  }

  draw() {
    const own = this.rows.length > 0;
    this.note.textContent = own ? t("These goals are judged, and no others.") : t("Empty: the model draws the list up from the prompt.");
    this.take.hidden = own || !this.drafted.length;
    this.add.disabled = this.rows.length >= MOST;
    const shown = own ? this.rows.map((row, place) => this.row(row, place)) : rowsOf(this.drafted.join("\n")).map(drafted);
    this.body.replaceChildren(...shown);
  }

  /** @param {Row} row @param {number} place */
  row(row, place) {
    const number = place + 1;
    const text = el("textarea", { rows: 1, maxlength: 400, dir: "auto", "aria-label": t("Goal {n}", { n: number }) }, row.text);
    // The words stand behind the field too, unseen, and make it as high as they need.
    const field = el("div", { class: "words", "data-words": row.text }, text);
    text.addEventListener("input", () => {
      if (/\n/.test(text.value)) text.value = text.value.replace(/\s*\n\s*/g, " ");
      field.dataset.words = text.value;
      this.keep(place, { text: text.value });
    });
    return el(
      "tr",
      {},
      el("td", {}, field),
      el("td", {}, this.choice(KINDS, row.kind, t("Kind of goal {n}", { n: number }), (kind) => this.keep(place, { kind }))),
      el("td", {}, this.choice(NEEDS, row.need, t("Need of goal {n}", { n: number }), (need) => this.keep(place, { need }))),
      el("td", {}, this.button("\u00d7", () => this.put(this.rows.filter((_, other) => other !== place)), t("Remove goal {n}", { n: number }))),
    );
  }

  /** @param {string[]} choices @param {string} chosen @param {string} label @param {(value: string) => void} work */
  choice(choices, chosen, label, work) {
    const select = el("select", { "aria-label": label }, ...choices.map((each) => el("option", { value: each, selected: each === chosen }, shown(each))));
    select.addEventListener("change", () => work(select.value));
    return select;
  }

  /** @param {number} place @param {Partial<Row>} change */
  keep(place, change) {
    this.rows = this.rows.map((row, other) => (other === place ? { ...row, ...change } : row));
    this.changed(linesOf(this.rows));
  }
}

/** @param {Row} row */
function drafted(row) {
  return el("tr", { class: "drafted" }, el("td", { dir: "auto" }, row.text), el("td", {}, shown(row.kind)), el("td", {}, shown(row.need)), el("td", {}));
}
