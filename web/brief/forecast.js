/** The forecast line: upper bounds of rounds, pictures and calls, the time of earlier runs, and how the models fit into memory. */

import { shadow } from "../comfy/shadow.js";
import { el } from "../viewer/dom.js";
import { count, seconds, whole } from "../viewer/words.js";

const STYLE = new URL("./style.css", import.meta.url).href;
const QUIET = 300;

/**
 * @typedef {object} Prediction
 * @property {number} rounds
 * @property {number} candidates
 * @property {number} calls
 * @property {number} [seconds] missing without a comparable earlier run
 * @property {number} [runs]
 * @property {{ told: string, fits: boolean }} memory
 */

/** @param {Prediction} forecast */
export function inWords(forecast) {
  const pictures = forecast.candidates === 1 ? "1 picture" : `${whole(forecast.candidates)} pictures`;
  const cost = `At most ${count(forecast.rounds, "round")} of ${pictures}, ${count(forecast.calls, "call")} of the vision model`;
  const time = forecast.seconds === undefined || !forecast.runs ? "no earlier run to estimate the time from" : `about ${seconds(forecast.seconds)} by ${count(forecast.runs, "earlier run")}`;
  return `${cost}; ${time}. ${forecast.memory.told}.`;
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

  /** Updates after a pause without changes, if a setting changed that the forecast depends on. */
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => JSON.stringify(this.settings()) !== this.asked && this.update(), QUIET);
  }

  async update() {
    const settings = this.settings();
    const asked = (this.asked = JSON.stringify(settings));
    let [words, short] = ["", false];
    try {
      const forecast = await this.ask("/clvr/forecast", settings);
      [words, short] = [inWords(forecast), !forecast.memory.fits];
    } catch (error) {
      words = error instanceof Error ? error.message : String(error);
    }
    if (asked !== this.asked) return; // a later request was answered first
    this.line.textContent = words;
    this.line.classList.toggle("wrong", short);
  }

  close() {
    clearTimeout(this.timer);
    this.host.remove();
  }
}
