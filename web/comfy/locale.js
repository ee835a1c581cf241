/** Says the pack's words in the language that is set in ComfyUI: those of the code, of widget values, and of the shared workflows' notes. */

import { speak } from "../viewer/language.js";
import { after } from "./graph.js";

/**
 * What locales/<language>/nodeDefs.json has of a node: ComfyUI's own form.
 * @typedef {{ display_name: string, inputs?: Record<string, { name: string }>, outputs?: Record<string, { name: string }> }} NodeWords
 */

/**
 * What locales/<language>/main.json has under `clvr`.
 * @typedef {{ words?: Record<string, string>, values?: Record<string, Record<string, string>>, notes?: Record<string, string> }} Locale `values`: by
 *   widget, then by value; `notes`: by line in English
 */

export class Language {
  /** @param {(setting: string) => any} setting gives the value of one of ComfyUI's settings */
  constructor(setting) {
    this.setting = setting;
    /** By language. @type {Record<string, { clvr?: Locale, nodeDefs?: Record<string, NodeWords> }>} */
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

  /**
   * Names the inputs, outputs and values of a new node of ours, also the inputs that a choice adds later. What is stored stays.
   *
   * ComfyUI names inputs and outputs too, but makes the nodes anew before it has loaded a language for the first time (up to 1.58 at
   * least): they keep the language before.
   * @param {any} node ComfyUI's
   */
  nameNode(node) {
    const words = this.all[this.setting("Comfy.Locale")]?.nodeDefs?.[node.comfyClass];
    const { values = {} } = this.current;
    const nameOf = (/** @type {string} */ input) => words?.inputs?.[input.replaceAll(".", "_")]?.name;
    const name = (/** @type {any} */ input) => {
      input.localized_name = nameOf(input.name) ?? input.localized_name;
      const widget = input.widget && node.widgets?.find((/** @type {any} */ each) => each.name === input.widget.name);
      if (widget) nameWidget(widget);
    };
    const nameWidget = (/** @type {any} */ widget) => {
      widget.label = nameOf(widget.name) ?? widget.label;
      const said = values[simple(widget.name)];
      if (said && widget.options) widget.options.getOptionLabel = (/** @type {string | null} */ value) => said[value ?? ""] ?? value ?? "";
    };
    node.widgets?.forEach(nameWidget);
    node.inputs?.forEach(name);
    node.outputs?.forEach((/** @type {any} */ output, /** @type {number} */ place) => (output.localized_name = words?.outputs?.[place]?.name ?? output.localized_name));
    this.nameTitle(node);
    after(node, "onInputAdded", name);
  }

  /** Gives a node that has the title of its kind, in whatever language, the one of the language that is set. @param {any} node ComfyUI's */
  nameTitle(node) {
    const titles = Object.entries(this.all).map(([language, { nodeDefs }]) => [language, nodeDefs?.[node.comfyClass]?.display_name]);
    const title = titles.find(([language]) => language === this.setting("Comfy.Locale"))?.[1];
    if (title && titles.some(([, other]) => other === node.title)) node.title = title;
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

/** The name of a widget in a list that grows, without its place there: "more_loras.more_3.lora_3" -> "lora". @param {string} name */
const simple = (name) => (name.split(".").pop() ?? "").replace(/_\d+$/, "");
