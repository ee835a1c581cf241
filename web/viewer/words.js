/** Words for states and numbers; shortened and cleaned texts. */

export const WORDS = { met: "met", unmet: "unmet", pending: "pending", unsure: "unsure", error: "judge error", broken: "newly broken", missed: "nice to have, not met" };
export const ACTIONS = { GENERATE: "Generate", EDIT: "Edit", VALIDATE: "Validate", END: "End", GIVEN: "Given" };
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

/** @param {number} value @param {string} one @param {string} [many] */
export function count(value, one, many = `${one}s`) {
  return `${whole(value)} ${value === 1 ? one : many}`;
}

/** @param {number} value */
export function seconds(value) {
  if (!Number.isFinite(value)) return "unknown";
  if (value < 100) return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(Math.round(value) / 60);
  const rest = Math.round(value) % 60;
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
}

/** @param {number} fraction */
export function percent(fraction) {
  return Number.isFinite(fraction) ? `${Math.round(100 * fraction)}\u00a0%` : "unknown";
}

/** A number with three significant digits. @param {number} value */
export function figure(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "unknown";
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
  if (!nice.all) return `${must.met} of ${count(must.all, "goal")} met`;
  const rest = `${nice.met} of ${nice.all} nice to have`;
  return must.all ? `${must.met} of ${count(must.all, "must-have goal")} met, ${rest}` : `${rest} met`;
}

/** @param {string} words */
export function capital(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
