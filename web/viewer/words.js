/** Words for states and numbers; shortened and cleaned texts. */

import { many, mark, t } from "./language.js";
import { said } from "./sentences.js";

/** In English; `t` gives those of the artist's language. */
export const WORDS = {
  met: mark("met"),
  unmet: mark("unmet"),
  pending: mark("pending"),
  unsure: mark("unsure"),
  error: mark("judge error"),
  broken: mark("newly broken"),
  missed: mark("nice to have, not met"),
};
export const ACTIONS = { GENERATE: mark("Generate"), EDIT: mark("Edit"), VALIDATE: mark("Validate"), END: mark("End"), GIVEN: mark("Given") };
export const KINDS = { local: mark("local"), global: mark("global"), layout: mark("layout"), text: mark("text"), likeness: mark("likeness") };
/** What is kept of a reference. @type {Record<string, string>} */
export const ASPECTS = { subject: mark("subject"), face: mark("face"), product: mark("product"), style: mark("style") };
/** Of the models in a run. @type {Record<string, string>} */
export const ROLES = { controller: mark("controller"), verifier: mark("verifier"), judge: mark("judge"), executor: mark("executor") };
/** Of the work that takes time. @type {Record<string, string>} */
export const PARTS = { goals: mark("goals"), reason: mark("reason"), think: mark("think"), draw: mark("draw"), judge: mark("judge"), compare: mark("compare"), review: mark("review") };

/**
 * What stands in a run as a code, beside a sentence in English that says more. @type {Record<string, string>}
 */
export const CODES = {
  "goals met": mark("all goals are met"),
  "end action": mark("the controller ended the run, and the final gate let it"),
  "accepted by the artist": mark("the artist accepted the picture"),
  "stopped by the artist": mark("the artist stopped the run"),
  "budget spent": mark("the budget is spent"),
  "no improvement": mark("too many rounds without improvement"),
  "controller failed": mark("the controller gave no usable action"),
  "all drawn": mark("all pictures of the strategy are drawn"),
  "one shot": mark("begins with one picture of the whole brief"),
  staged: mark("begins in stages"),
  given: mark("the picture to begin from"),
  "first canvas": mark("the first canvas"),
  "goals gained": mark("more goals are met"),
  "goals lost": mark("goals were lost"),
  "no gain": mark("nothing was gained"),
  "over-edited": mark("more was changed than was meant"),
  "not judged": mark("the judge gave no answer"),
  "judged again": mark("the canvas was judged again"),
  "gone back": mark("the canvas was judged again, and the run went back to an earlier one"),
  "no rollback": mark("kept whatever the judge says, as nothing is rolled back"),
  "end accepted": mark("the final gate let the run end"),
  "end refused": mark("the final gate did not let the run end"),
  "one-shot rival": mark("the one-shot picture, for comparison"),
  "less edited": mark("as good, and less edited"),
  "picked by the artist": mark("the artist picked this candidate"),
};

/** The sentence of a code in the artist's language, or the recorded one, which is in English and says more. @param {string} code @param {string} sentence */
export function spoken(code, sentence) {
  const words = Object.hasOwn(CODES, code) ? CODES[code] : "";
  const said = t(words);
  return said === words ? sentence : said;
}

/** A warning of a run in the artist's language, with its step numbered as everywhere on the page. @param {string} warning @param {(index: number) => number} number */
export function ofStep(warning, number) {
  const [start, index] = /^step (\d+): /.exec(warning) ?? [""];
  return (index === undefined ? "" : t("step {n}: ", { n: number(Number(index)) })) + said(warning.slice(start.length));
}

export const WORST_FIRST = ["broken", "unmet", "error", "unsure", "pending", "missed", "met"];

// Control characters and unpaired surrogates, which HTML does not allow.
const UNPRINTABLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** @param {string} text */
export function clean(text) {
  return text.replace(/\r\n?/g, "\n").replace(UNPRINTABLE, "\ufffd");
}

/** @param {number} value */
export function whole(value) {
  return Math.round(value).toLocaleString("en");
}

/** @param {number} value */
export function seconds(value) {
  if (!Number.isFinite(value)) return t("unknown");
  if (value < 100) return t("{n} s", { n: value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0) });
  const minutes = Math.floor(Math.round(value) / 60);
  const rest = Math.round(value) % 60;
  if (minutes >= 60) return t("{hours} h {minutes} min", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
  return rest ? t("{minutes} min {seconds} s", { minutes, seconds: rest }) : t("{minutes} min", { minutes });
}

/** @param {number} fraction */
export function percent(fraction) {
  return Number.isFinite(fraction) ? `${Math.round(100 * fraction)}\u00a0%` : t("unknown");
}

/** A number with three significant digits. @param {number} value */
export function figure(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : t("unknown");
}

/** The text in one line of at most `limit` characters, cut between words where possible. @param {string} text @param {number} limit */
export function shorten(text, limit) {
  const line = text.slice(0, 4 * limit).split(/\s+/).filter(Boolean).join(" ");
  if (line.length <= limit && text.length <= 4 * limit) return line;
  const cut = line.slice(0, limit - 1);
  const space = cut.lastIndexOf(" ");
  return `${space >= limit / 2 ? cut.slice(0, space) : cut}\u2026`;
}

/**
 * The number of goals met: "2 of 3 goals met", or with nice-to-have goals "2 of 2 must-have goals met, 0 of 1 nice to have".
 * @param {{ must: Share, nice: Share }} tally @typedef {{ met: number, all: number }} Share
 */
export function metWords({ must, nice }) {
  if (!nice.all) return many(must.all, "{met} of {n} goal met", "{met} of {n} goals met", { met: must.met });
  const both = { met: nice.met, all: nice.all };
  if (!must.all) return t("{met} of {all} nice to have met", both);
  const rest = t("{met} of {all} nice to have", both);
  return `${many(must.all, "{met} of {n} must-have goal met", "{met} of {n} must-have goals met", { met: must.met })}, ${rest}`;
}

/** @param {string} words */
export function capital(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
