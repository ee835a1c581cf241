/** Says the pack's words in the language that is set in ComfyUI: those of the code, of widget values, and of the shared workflows' notes. */

import { speak } from "../viewer/language.js";

/**
 * What locales/<language>/main.json has under `clvr`.
 * @typedef {{ words?: Record<string, string>, values?: Record<string, Record<string, string>>, notes?: Record<string, string> }} Locale `values`: by
 *   widget, then by value; `notes`: by line in English
 */

export class Language {
  /** @param {(setting: string) => any} setting gives the value of one of ComfyUI's settings */
  constructor(setting) {
    this.setting = setting;
    /** @type {Record<string, { clvr?: Locale }>} */
    this.all = {};
  }

  /** Loads the words of all languages: when another one is set, ComfyUI makes the nodes anew at once. @param {import("./runs.js").Api} api */
  async load(api) {
    const answer = await api.fetchApi("/i18n").catch(() => null);
    if (answer?.ok) this.all = await answer.json().catch(() => ({}));
    speak(() => this.current.words);
  }

  /** @returns {Locale} */
  get current() {
    return this.all[this.setting("Comfy.Locale")]?.clvr ?? {};
  }

  /** Shows the values of choices in other words; what is stored stays. @param {any} node ComfyUI's */
  nameValues(node) {
    for (const each of node.widgets ?? []) {
      const words = this.current.values?.[each.name];
      if (words && each.options) each.options.getOptionLabel = (/** @type {string | null} */ value) => words[value ?? ""] ?? value ?? "";
    }
  }

  /** Shows the lines of a note, and the title of a node or a group, in other words. A file keeps what it had. @param {any} thing ComfyUI's */
  nameNote(thing) {
    const { notes } = this.current;
    if (!notes) return;
    const title = notes[thing.title];
    const text = /Note$/.test(thing.type ?? "") ? thing.widgets?.[0] : undefined;
    const before = { title: thing.title, text: text?.value };
    const shown = { title: title ?? before.title, text: before.text?.replace(/^.+$/gm, (/** @type {string} */ line) => notes[line] ?? line) };
    if (shown.title === before.title && shown.text === before.text) return;
    if (title) thing.title = title;
    if (text) text.value = shown.text;
    const own = thing.serialize;
    thing.serialize = function (/** @type {any[]} */ ...given) {
      const held = own.apply(this, given);
      if (held.title === shown.title) held.title = before.title;
      if (text && held.widgets_values?.[0] === shown.text) held.widgets_values = [before.text, ...held.widgets_values.slice(1)];
      return held;
    };
  }
}
