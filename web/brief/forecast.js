/** One line before the run: how many rounds, pictures and calls at most, how long that took before, and how the models share the memory. */

import { shadow } from "../comfy/shadow.js";
import { el } from "../viewer/dom.js";
import { count, seconds, whole } from "../viewer/words.js";

const STYLE = new URL("./style.css", import.meta.url).href;
const QUIET = 300;

/**
 * @typedef {object} Told
 * @property {number} rounds
 * @property {number} candidates
 * @property {number} calls
 * @property {number} [seconds] left out where no earlier run tells
 * @property {number} [runs]
 * @property {{ told: string, fits: boolean }} memory
 */

/** @param {Told} told */
export function inWords(told) {
  const pictures = told.candidates === 1 ? "1 picture" : `${whole(told.candidates)} pictures`;
  const cost = `At most ${count(told.rounds, "round")} of ${pictures}, ${count(told.calls, "call")} of the vision model`;
  const time = told.seconds === undefined || !told.runs ? "no earlier run tells the time" : `about ${seconds(told.seconds)} by ${count(told.runs, "earlier run")}`;
  return `${cost}; ${time}. ${told.memory.told}.`;
}

export class Forecast {
  /** @param {(path: string, body: unknown) => Promise<any>} ask @param {() => Record<string, unknown>} settings */
  constructor(ask, settings) {
    this.ask = ask;
    this.settings = settings;
    this.line = el("p", { class: "note", role: "status" });
    this.host = el("div", { class: "clvr-before" });
    shadow(this.host, [STYLE], el("div", { class: "clvr panel brief" }, this.line));
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.asked = "";
  }

  /** Once the person has stopped turning the knob, and only if it was one that matters. */
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => JSON.stringify(this.settings()) !== this.asked && this.tell(), QUIET);
  }

  async tell() {
    const settings = this.settings();
    const asked = (this.asked = JSON.stringify(settings));
    let [words, short] = ["", false];
    try {
      const told = await this.ask("/clvr/forecast", settings);
      [words, short] = [inWords(told), !told.memory.fits];
    } catch (error) {
      words = error instanceof Error ? error.message : String(error);
    }
    if (asked !== this.asked) return; // a later question was faster
    this.line.textContent = words;
    this.line.classList.toggle("wrong", short);
  }

  close() {
    clearTimeout(this.timer);
    this.host.remove();
  }
}
