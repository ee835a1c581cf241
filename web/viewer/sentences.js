/**
 * Sentences that a run records in English: why something was left out, shortened or not answered. They are recognised by their form and
 * said in the artist's language; tests/test_recorded_sentences.py holds the forms against the code that writes them. A sentence of another
 * form, as a model's own words are, stays as it is.
 */

import { mark, t } from "./language.js";

/** A value in braces is a number where its name is one of NUMBERS, the parts of a list joined by ", " where it is `list`, else any text. */
export const SENTENCES = [
  mark("no goal list: {why}; the brief is judged as one goal"),
  mark("none was found"),
  mark("no comparison of the candidates: {why}"),
  mark("no comparison of two candidates: {why}"),
  mark("no look at the whole picture: {why}"),
  mark("no check of the edit: {why}"),
  mark("no comparison: {why}"),
  mark("seen when the picture was validated"),
  mark("the best canvas by the judge's word"),
  mark("no canvas was drawn"),
  mark("the first canvas: no canvas was judged"),
  mark("the artist's choice"),
  mark("preferred to the one-shot picture in both orders"),
  mark("the one-shot picture was preferred in both orders"),
  mark("the one-shot picture by the judge's word; the comparison with it failed"),
  mark("the best canvas by the judge's word; the comparison with the one-shot picture failed"),
  mark("the best canvas by the judge's word; the comparison with the one-shot picture did not speak against it"),
  mark("a tie with the one-shot picture, which is less edited"),
  mark("{model} gave no reply: {why}"),
  mark("{model} gave no usable reply: {why}"),
  mark("{model} gave no answer: {why}"),
  mark("{model} gave no usable answer: {why}"),
  mark("{model} gave no usable answer"),
  mark("{model} gave {n} answers to {all} questions"),
  mark("the question was not answered, or not in one way"),
  mark("the executor edits from {n} of {all} pictures; left out: {list}"),
  mark("canvas {n}"),
  mark("reference {name}"),
  mark("{n} of {all} pictures were not drawn: {why}"),
  mark("the merged instruction has {n} tokens and the text encoder reads {all}; the scene is drawn anew"),
  mark("the prompt for the executor has {n} tokens and its text encoder reads {all}; left out: {list}"),
  mark("step {n}"),
  mark("the summary of this step"),
  mark("the brief"),
  mark("its last {n} words"),
  mark("{field} is {value}, not {wanted}; it was left out"),
  mark("[left, top, right, bottom] in fractions from 0 to 1"),
  mark("a number from 0 to 1"),
  mark("a place from 1 to {n}"),
  mark("the witness {witness} gave no answer in {n} s and is not asked again in this run"),
  mark("the witness {witness} failed: {why}"),
  mark("no count: {why}"),
  mark("the prompt for the executor has no room to say what the references are"),
  mark("{model} takes no {list}; it draws with its own"),
  mark("{model} draws the same picture from the first {n} words of this prompt of {all} as from all of them: its server cuts the text there; give the server a longer text encoder, or briefs and goals in fewer words"),
];
const NUMBERS = ["n", "all"];
/** Characters of a sentence that is looked at; a longer one is none of these. */
const LONGEST = 1000;
/** Sentences inside each other. */
const DEEPEST = 4;

const FORMS = SENTENCES.map((words) => ({ words, form: formOf(words) }));

/** @param {string} words */
function formOf(words) {
  const escaped = words.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  const blank = (/** @type {string} */ name) => `(?<${name}>${NUMBERS.includes(name) ? "[\\d.,]+" : "[^]+?"})`;
  return new RegExp(`^${escaped.replace(/\{(\w+)\}/g, (_, name) => blank(name))}$`);
}

/** The sentence in the artist's language, where it is one of SENTENCES. @param {string} sentence @param {number} [depth] @returns {string} */
export function said(sentence, depth = 0) {
  if (sentence.length > LONGEST || depth > DEEPEST) return sentence;
  for (const { words, form } of FORMS) {
    const found = form.exec(sentence);
    if (!found) continue;
    const values = Object.entries(found.groups ?? {}).map(([name, value]) => {
      const parts = name === "list" ? value.split(", ") : [value];
      return [name, parts.map((part) => said(part, depth + 1)).join(t(", "))];
    });
    return t(words, Object.fromEntries(values));
  }
  return sentence;
}
