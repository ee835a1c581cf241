/** One line before the run: how many rounds, pictures and calls at most, how long that took before, and what memory is free. */

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
 * @property {{ device: string, free: number, total: number }} memory gigabytes
 */

/** @param {Told} told */
export function inWords(told) {
  const pictures = told.candidates === 1 ? "1 picture" : `${whole(told.candidates)} pictures`;
  const cost = `At most ${count(told.rounds, "round")} of ${pictures}, ${count(told.calls, "call")} of the vision model`;
  const time = told.seconds === undefined || !told.runs ? "no earlier run tells the time" : `about ${seconds(told.seconds)} by ${count(told.runs, "earlier run")}`;
  const { device, free, total } = told.memory;
  return `${cost}; ${time}. ${device}: ${free} of ${total} GB free.`;
}

export class Forecast {
  /** @param {(path: string) => Promise<any>} ask @param {() => Record<string, unknown>} settings */
  constructor(ask, settings) {
    this.ask = ask;
    this.settings = settings;
    this.line = el("p", { class: "note", role: "status" });
    this.host = el("div", { class: "clvr-before" });
    shadow(this.host, [STYLE], el("div", { class: "clvr panel brief" }, this.line));
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** Once the person has stopped turning the knob. */
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tell(), QUIET);
  }

  async tell() {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(this.settings())) if (value !== undefined && value !== null) query.set(name, String(value));
    try {
      this.line.textContent = inWords(await this.ask(`/clvr/forecast?${query}`));
    } catch (error) {
      this.line.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  close() {
    clearTimeout(this.timer);
    this.host.remove();
  }
}
