/**
 * The words of the pack's front end in the language of ComfyUI. The English words in the code are the keys; the other languages stand in
 * locales/<language>/main.json under `clvr.words`; report.html holds those of the viewer. A word without a translation is in English.
 */

/** @typedef {Record<string, string>} Dictionary English words -> those of another language */

/** @type {() => Dictionary | undefined} */
let dictionary = () => undefined;

/** @param {() => Dictionary | undefined} current gives the dictionary of the language that is set now */
export function speak(current) {
  dictionary = current;
}

/** Marks English words that `t` is given later. @template {string} Words @param {Words} words @returns {Words} */
export const mark = (words) => words;

/**
 * Gives the words in the artist's language.
 * @param {string} words in English, with the names of values in braces @param {Record<string, string | number>} [values] by name
 */
export function t(words, values = {}) {
  return translated(words).replace(/\{(\w+)\}/g, (whole, key) => (Object.hasOwn(values, key) ? String(values[key]) : whole));
}

/**
 * Like `t` for words that count something, which languages may say differently for one.
 * @param {number} number @param {string} one @param {string} more @param {Record<string, string | number>} [values] `n`, if not given, is the number with signs between thousands
 */
export function many(number, one, more, values = {}) {
  return t(number === 1 ? one : more, { n: Math.round(number).toLocaleString("en"), ...values });
}

/** Like `t` with elements among the values: gives the pieces in the order of the language. @param {string} words @param {Record<string, Node | string>} values @returns {(Node | string)[]} */
export function pieces(words, values) {
  return translated(words)
    .split(/(\{\w+\})/)
    .filter(Boolean)
    .map((piece) => (/^\{\w+\}$/.test(piece) && Object.hasOwn(values, piece.slice(1, -1)) ? values[piece.slice(1, -1)] : piece));
}

/** @param {string} words */
function translated(words) {
  const known = dictionary();
  return known && Object.hasOwn(known, words) ? known[words] : words;
}
