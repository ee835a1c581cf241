/** No word of the front end stays in English where another language has it. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { all } from "./page.js";
import { drawn, judged, run } from "./runs.js";
import { Checklist } from "../../../web/brief/checklist.js";
import { inWords } from "../../../web/brief/forecast.js";
import { menuOf } from "../../../web/comfy/again.js";
import { Gallery } from "../../../web/comfy/gallery.js";
import { Language } from "../../../web/comfy/locale.js";
import { Reviews } from "../../../web/review/reviews.js";
import { many, pieces, speak, t } from "../../../web/viewer/language.js";
import { SENTENCES, said } from "../../../web/viewer/sentences.js";
import { Viewer } from "../../../web/viewer/viewer.js";

/** Each English word, in another script; what is in braces stays. */
const foreign = (words) => words.replace(/\{\w+\}|[A-Za-z]/g, (found) => (found.startsWith("{") ? found : "\u3042"));
const DICTIONARY = new Proxy({}, { get: (_, words) => foreign(String(words)), getOwnPropertyDescriptor: (_, words) => ({ value: foreign(String(words)), configurable: true, enumerable: true }) });
before(() => speak(() => DICTIONARY));
after(() => speak(() => undefined));

const CODES = ["kind", "state", "need", "say", "ruling", "ended", "route", "event"];
/** The record with its texts in another script: what is left in Latin letters is of the viewer. */
function translated(value, key = "") {
  if (typeof value === "string") return CODES.includes(key) ? value : value.replace(/[A-Za-z]/g, "\u753b");
  if (Array.isArray(value)) return value.map((item) => translated(item, key));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, translated(item, name)]));
}

/** Texts and labels under the element that have Latin letters. */
function english(element) {
  const found = [];
  const walk = (node) => {
    if (node.nodeType === 3) found.push(node.textContent);
    for (const name of ["aria-label", "title", "alt", "placeholder", "aria-valuetext"]) if (node.hasAttribute?.(name)) found.push(`${name}: ${node.getAttribute(name)}`);
    if (node.shadowRoot) walk(node.shadowRoot);
    if (node.localName !== "style") node.childNodes.forEach(walk);
  };
  walk(element);
  return found.filter((text) => /[A-Za-z]/.test(text.replace(/^[\w-]+: /, "")));
}

test("the words have their values, in the order of the language", () => {
  speak(() => ({ "{n} rounds": "rounds: {n}", "from {canvas}": "{canvas} <-", "a {word}": "{word} {other}" }));
  assert.deepEqual([many(2, "{n} round", "{n} rounds"), many(1, "{n} round", "{n} rounds"), t("a {word}", { word: "{other}" })], ["rounds: 2", "1 round", "{other} {other}"]);
  assert.deepEqual(pieces("from {canvas}", { canvas: "5" }), ["5", " <-"]);
  assert.equal(t("constructor"), "constructor");
  speak(() => DICTIONARY);
});

test("the viewer", () => {
  const record = run();
  record.steps[0].ruling = "first canvas";
  record.steps[2].ruling = "goals lost";
  record.steps[1].edit.change = { outside: 0.2, offset: [3, 4], scale: 1.1, colour: [2, 3, 4], sharpness: 0.5, noise: 3 };
  record.steps[1].edit.drift = { outside: 0, scale: 0.8, colour: [-2, 0, 0], sharpness: 1.5, noise: -3 };
  record.steps[3].candidates = [];
  record.goals[2].need = "nice";
  record.goals[0].check = "x".repeat(900);
  record.remarks = [{ after: 1, say: "accept", words: "w", corrected: { "\u753b1": "met" }, dropped: ["g2"], back_to: 2, mask: "m" }];
  record.warnings = ["step 2: something", "step 2: no check of the edit: vlm gave no usable answer", "the witness w failed: E"];
  const element = document.createElement("div");
  const viewer = new Viewer(element, (canvas) => (canvas === 5 ? { missing: "is not available" } : { url: `/${canvas}` }));
  assert.ok(viewer.show(translated(record)));
  assert.deepEqual(english(element), []);
  const { outcome, ...unfinished } = record;
  const given = { index: 0, action: { kind: "GIVEN" }, candidates: drawn(0), chosen: 0, verdicts: judged("met"), accepted: true };
  const doing = { action: { kind: "EDIT", edit_prompt: "e" }, candidates: drawn(9) };
  for (const other of [{ ...unfinished, best: null, steps: [] }, { ...unfinished, steps: [given, record.steps[1]], doing }, { ...record, outcome: { ...outcome, met: false, canvas: null, ended: "no improvement" } }]) {
    viewer.show(translated(other));
    assert.deepEqual(english(element), []);
  }
  viewer.show({ schema: 5 });
  assert.deepEqual(english(element), []);
});

test("a sentence that a run records is said with its values, and those that are sentences too", () => {
  const words = {
    "no goal list: {why}; the brief is judged as one goal": "\u76ee: {why}!",
    "{model} gave no reply: {why}": "{model} \u7121: {why}",
    "the executor edits from {n} of {all} pictures; left out: {list}": "{all}/{n}: {list}",
    "canvas {n}": "\u753b{n}",
    ", ": "\u3001",
  };
  speak(() => words);
  assert.equal(said("no goal list: qwen3vl gave no reply: timed out: 3 s; the brief is judged as one goal"), "\u76ee: qwen3vl \u7121: timed out: 3 s!");
  assert.equal(said("the executor edits from 2 of 4 pictures; left out: canvas 3, canvas 1"), "4/2: \u753b3\u3001\u753b1");
  for (const other of ["the executor edits from some of 4 pictures; left out: canvas 3", "a red door", "", "canvas {n}", `canvas 3 ${"x".repeat(100_000)}`]) assert.equal(said(other), other);
  speak(() => undefined);
  const whole = (form) => form.replace(/\{(?:n|all)\}/g, "7").replace(/\{\w+\}/g, "x, y");
  for (const form of SENTENCES) assert.equal(said(whole(form)), whole(form), "English says it as it was recorded");
  speak(() => DICTIONARY);
});

test("hostile sentences are looked at in bounded time", () => {
  let looks = 0;
  speak(() => new Proxy({}, { getOwnPropertyDescriptor: () => void looks++ }));
  const nested = "m gave no reply: ".repeat(40);
  for (const words of [nested, " is , not ".repeat(90), " of pictures were not drawn: ".repeat(30)]) assert.equal(typeof said(words), "string");
  assert.ok(looks < 100, String(looks));
  speak(() => DICTIONARY);
});

test("the checklist", () => {
  const list = new Checklist(() => {});
  list.suggest(["[nice] [global] 1"]);
  assert.deepEqual(english(list.host), []);
  list.read("[layout] 1\n[nice] 2");
  assert.deepEqual(english(list.host), []);
});

test("the forecast", () => {
  const weights = [{ name: "VLM", bytes: 9e9, missing: true }, { name: "text encoder", bytes: 1e7, missing: false }];
  for (const mode of ["resident", "sequential", "offloaded", "streamed"])
    for (const fits of [true, false]) {
      const memory = { device: "0", free: 1e9, weights, mode, fits, owners: 2, largest: "VLM", server: ["VLM"], unknown: ["executor"] };
      assert.doesNotMatch(inWords({ rounds: 2, candidates: 1, calls: 3, seconds: 4000, runs: 2, memory }), /[A-Za-z]/);
    }
});

test("the review, and the menu of a node", () => {
  const review = {
    ...{ id: "q", prompt: "", width: 8, height: 8, subfolder: "clvr/1", first: 1, current: 0, seconds: 9, otherwise: "go on" },
    canvases: [{ canvas: 0, file: "", step: 0, accepted: false }],
    goals: [{ id: "1", text: "1", state: "unmet", need: "must" }],
    step: { index: 0, kind: "EDIT", summary: "", reason: "it is not", ruling: "no gain" },
  };
  const reviews = new Reviews(document.body, async () => ({ seconds: 9 }), () => "/1", () => {});
  reviews.show([review]);
  assert.deepEqual(english(reviews.host), []);
  reviews.show([]);
  reviews.host.remove();
  const menu = menuOf({ graph: {}, properties: { clvr_run: "1-1" } }, () => {}, () => {}).map(({ content }) => content);
  assert.doesNotMatch(menu.join(), /[A-Za-z](?<!CLVR|CLV|CL|C)/);
});

test("the gallery", () => {
  const gallery = new Gallery(() => "/1", () => {}, () => {});
  const listed = { run: "1-1", prompt: "", steps: 1, first: "", seed: "7", strategy: "", goals: 2, goals_met: 1, best: null, changed: 0 };
  for (const met of [null, true, false]) {
    gallery.show([{ ...listed, met }]);
    assert.deepEqual(english(gallery.element), []);
  }
  gallery.show([]);
  assert.deepEqual(english(gallery.element), []);
});

test("a node of ours is named in the language that is set, and so is an input that a choice adds", async () => {
  const inputs = { seed: { name: "\u79cd\u5b50" }, loras: { name: "\u5217\u8868" }, loras_lora_1: { name: "LoRA \u4e00" } };
  const zh = { clvr: { values: { lora: { none: "\u65e0" } } }, nodeDefs: { CLVR_X: { display_name: "\u5408\u5e76", inputs, outputs: { 0: { name: "\u6a21\u578b" } } } } };
  const all = { zh, ko: { nodeDefs: { CLVR_X: { display_name: "\ubcd1\ud569" } } }, en: { nodeDefs: { CLVR_X: { display_name: "Merge" } } } };
  const language = new Language(() => "zh");
  await language.load({ fetchApi: async () => ({ ok: true, json: async () => all }) });
  const node = {
    ...{ comfyClass: "CLVR_X", title: "\ubcd1\ud569" },
    widgets: [{ name: "seed", label: "\uc2dc\ub4dc", options: {} }, { name: "more", label: "kept", options: {} }],
    inputs: [{ name: "seed", localized_name: "\uc2dc\ub4dc", widget: { name: "seed" } }],
    outputs: [{ name: "model", localized_name: "\ubaa8\ub378" }],
  };
  language.nameNode(node);
  assert.deepEqual([node.title, node.inputs[0].localized_name, node.outputs[0].localized_name], ["\u5408\u5e76", "\u79cd\u5b50", "\u6a21\u578b"]);
  const added = { name: "loras.lora_1", localized_name: "lora_1", widget: { name: "loras.lora_1" } };
  node.widgets.push({ name: "loras.lora_1", label: "lora_1", options: {} });
  node.onInputAdded(added);
  assert.deepEqual(node.widgets.map(({ label }) => label), ["\u79cd\u5b50", "kept", "LoRA \u4e00"]);
  assert.deepEqual([added.localized_name, node.widgets[2].options.getOptionLabel("none"), node.widgets[2].options.getOptionLabel("a.sft")], ["LoRA \u4e00", "\u65e0", "a.sft"]);
  const renamed = { ...node, title: "mine", inputs: [], outputs: [], widgets: [] };
  language.nameTitle(renamed);
  assert.equal(renamed.title, "mine");
  speak(() => DICTIONARY);
});

test("choices, notes and titles are shown in other words and stored as they were", async () => {
  const clvr = { words: {}, values: { judging: { each: "\u5404" } }, notes: { "## Head": "## \u9898", "Read me": "\u8bf4\u660e" } };
  let locale = "zh";
  const language = new Language(() => locale);
  await language.load({ fetchApi: async () => ({ ok: true, json: async () => ({ zh: { clvr } }) }) });
  const choice = { name: "judging", options: {} };
  language.nameNode({ comfyClass: "CLVR_Generate", widgets: [choice, { name: "seed", options: {} }] });
  assert.deepEqual(["each", "new", null].map(choice.options.getOptionLabel), ["\u5404", "new", ""]);
  const text = { value: "## Head\n\nmy own" };
  const made = () => ({ title: "Read me", type: "MarkdownNote", widgets: [text], serialize: function () { return { title: this.title, widgets_values: [text.value] }; } });
  const note = made();
  language.nameNote(note);
  assert.deepEqual([note.title, text.value], ["\u8bf4\u660e", "## \u9898\n\nmy own"]);
  assert.deepEqual(note.serialize(), { title: "Read me", widgets_values: ["## Head\n\nmy own"] });
  text.value = "changed";
  assert.deepEqual(note.serialize().widgets_values, ["changed"]);
  locale = "en";
  const plain = made();
  language.nameNote(plain);
  assert.equal(plain.title, "Read me");
  assert.equal(all(document.body, ".clvr-review").length, 0);
  speak(() => DICTIONARY);
});
