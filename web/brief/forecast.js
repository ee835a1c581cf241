/** The forecast line: upper bounds of rounds, pictures and calls, the time of earlier runs, and how the models fit into memory. */

import { shadow } from "../comfy/shadow.js";
import { el } from "../viewer/dom.js";
import { many, mark, t } from "../viewer/language.js";
import { seconds } from "../viewer/words.js";

const STYLE = new URL("./style.css", import.meta.url).href;
const QUIET = 300;

/**
 * @typedef {object} Prediction
 * @property {number} rounds
 * @property {number} candidates
 * @property {number} calls
 * @property {number} [seconds] missing without a comparable earlier run
 * @property {number} [runs]
 * @property {Memory} memory
 *
 * @typedef {object} Memory as `memory_of` in nodes/routes/model_sizes.py gives it
 * @property {string} device
 * @property {number} free bytes
 * @property {{ name: string, bytes: number, missing: boolean }[]} weights
 * @property {"resident" | "sequential" | "offloaded" | "streamed"} mode
 * @property {boolean} fits
 * @property {number} owners
 * @property {string} largest
 * @property {string[]} server
 * @property {string[]} unknown
 * @property {Offer[]} [offers] files that the node could use and that are not here
 *
 * @typedef {{ name: string, link: string, folder: string }} Offer
 */

/** Of parts of models, as the server has them. @type {Record<string, string>} */
const PARTS = { "embedded models": mark("embedded models"), VLM: mark("VLM"), DiT: mark("DiT"), UNet: mark("UNet"), checkpoint: mark("checkpoint"), "text encoder": mark("text encoder"), VAE: mark("VAE"), executor: mark("executor") };
const MODES = {
  sequential: mark("they take turns on the device"),
  offloaded: mark("they take turns, and so do the executor's parts"),
  streamed: mark("they take turns, and the executor's layers are brought in one by one, which is slow"),
};
const GIGA = 1e9;

/** @param {string} name */
const part = (name) => t(PARTS[name] ?? name);

/** @param {number} bytes */
const size = (bytes) => (bytes >= GIGA / 20 ? t("{n} GB", { n: (bytes / GIGA).toFixed(1) }) : t("{n} MB", { n: (bytes / 1e6).toFixed(0) }));

/** How the models share the memory. @param {Memory} memory */
function memoryWords({ device, free, weights, mode, fits, owners, largest, server, unknown }) {
  const sizes = weights.map(({ name, bytes, missing }) => (missing ? t("{part} {size} (not downloaded)", { part: part(name), size: size(bytes) }) : `${part(name)} ${size(bytes)}`));
  const left = t("{size} free", { size: size(free) });
  const turns = mode === "resident" ? (owners === 1 ? t("it fits") : owners === 2 ? t("both fit") : t("all fit")) : t(MODES[mode]);
  const how = fits ? turns : t("too little for {part}; choose a smaller model, fp8, or put it behind a server", { part: part(largest) });
  const line = weights.length ? t("{device}: {sizes}; {free}: {how}", { device, sizes: sizes.join(t(", ")), free: left, how }) : `${device}: ${left}`;
  const notes = [...server.map((name) => t("the {part} is behind a server", { part: part(name) })), ...unknown.map((name) => t("how large the {part} is, is not known", { part: part(name) }))];
  return [line, ...notes].join(t("; "));
}

/** @param {Prediction} forecast */
export function inWords(forecast) {
  const rounds = many(forecast.rounds, "{n} round", "{n} rounds");
  const pictures = many(forecast.candidates, "{n} picture", "{n} pictures");
  const calls = many(forecast.calls, "{n} call of the vision model", "{n} calls of the vision model");
  const cost = t("At most {rounds} of {pictures}, {calls}", { rounds, pictures, calls });
  const time =
    forecast.seconds === undefined || !forecast.runs
      ? t("no earlier run to estimate the time from")
      : many(forecast.runs, "about {time} by {n} earlier run", "about {time} by {n} earlier runs", { time: seconds(forecast.seconds) });
  return t("{cost}; {time}. {memory}.", { cost, time, memory: memoryWords(forecast.memory) });
}

/** Where to get files that are not here. @param {Offer[]} offers @param {boolean} needed whether nothing can be drawn without them */
function offersIn(offers, needed) {
  const words = needed ? t("Not here yet; put into ComfyUI's models folder:") : t("For other pictures put into ComfyUI's models folder:");
  const links = offers.map(({ name, link, folder }) => [" ", el("a", { href: link, target: "_blank", rel: "noreferrer" }, `${folder}/${name}`)]);
  return el("p", { class: needed ? "wrong offers" : "note offers" }, words, links.flat());
}

export class Forecast {
  /** @param {(path: string, body: unknown) => Promise<any>} ask @param {() => Record<string, unknown>} settings */
  constructor(ask, settings) {
    this.ask = ask;
    this.settings = settings;
    this.line = el("p", { class: "note", role: "status" });
    this.offers = el("div", {});
    this.host = el("div", { class: "clvr-before", "data-capture-wheel": "true" });
    shadow(this.host, [STYLE], el("div", { class: "clvr panel brief" }, this.offers, this.line));
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
    /** @type {HTMLElement[]} */
    let offers = [];
    try {
      const forecast = await this.ask("/clvr/forecast", settings);
      [words, short] = [inWords(forecast), !forecast.memory.fits];
      const needed = forecast.memory.weights.some((/** @type {{ missing: boolean }} */ each) => each.missing);
      if (forecast.memory.offers?.length) offers = [offersIn(forecast.memory.offers, needed)];
    } catch (error) {
      words = error instanceof Error ? error.message : String(error);
    }
    if (asked !== this.asked) return; // a later request was answered first
    this.line.textContent = words;
    this.offers.replaceChildren(...offers);
    this.line.classList.toggle("wrong", short);
  }

  close() {
    clearTimeout(this.timer);
    this.host.remove();
  }
}
