/** The pack's words in other languages: on nodes, in their choices, in the notes of a shared workflow, in the sidebar. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { FRONT, OUT, PATIENCE, draw, load, page, still, texts, waitForText } from "./comfy.js";

const FILE = new URL("../../../workflows/1-quick-try.json", import.meta.url);
const LOCALES = Object.fromEntries(["zh", "ja", "ko"].map((locale) => [locale, JSON.parse(readFileSync(new URL(`../../../locales/${locale}/main.json`, import.meta.url), "utf8")).clvr]));

/** Sets the language, at which ComfyUI makes all nodes anew, and waits until the pack speaks it. @param {string} locale @param {string} words */
async function speak(locale, words) {
  await page.evaluate((locale) => globalThis.app.extensionManager.setting.set("Comfy.Locale", locale), locale);
  await page.waitForFunction((words) => globalThis.clvr.before("[role=status]")?.textContent.includes(words), PATIENCE, words);
  await still();
}

/** A loaded graph stands beside others that are open; this one is the one that ComfyUI reloads. */
const open = () => page.evaluate((workflow) => globalThis.app.loadGraphData(workflow, true, true, "clvr-languages"), JSON.parse(readFileSync(FILE, "utf8")));

/** Words in Latin letters that the viewer shows and that are not of the run itself. */
const english = () => {
  const found = [];
  for (const root of globalThis.clvr.panels())
    for (const element of root.querySelectorAll(".clvr *")) {
      const labels = ["aria-label", "title", "placeholder"].map((name) => element.getAttribute(name) ?? "");
      for (const text of [...labels, ...[...element.childNodes].filter(({ nodeType }) => nodeType === 3).map(({ data }) => data)])
        if (/[a-z]{2}/.test(text.replace(/\b(px|clvr-trash|clvr|ComfyUI)\b/g, "")) && !element.closest("bdi, .prose, h1, code, dd, textarea, .runs")) found.push(text);
    }
  return found;
};

/** Each front end in two languages, each language in one renderer. @type {[string, boolean][]} */
const SPOKEN = FRONT === "bundled" ? [["zh", false], ["ja", true]] : [["ko", false], ["zh", true]];
const LAST = LOCALES[SPOKEN[1][0]].words;

for (const [locale, vue] of SPOKEN)
  test(`the pack speaks ${locale}: ${vue ? "Nodes 2.0" : "LiteGraph"}`, async () => {
    const { words, values, notes } = LOCALES[locale];
    await draw(vue);
    await open();
    await speak(locale, words["it fits"]);
    // The nodes are made anew after the words over them.
    await page.waitForFunction((label) => globalThis.clvr.node("CLVR_Generate").widgets.find(({ name }) => name === "judging").options.getOptionLabel("each") === label, PATIENCE, values.judging.each);
    const rest = await page.evaluate((find) => globalThis.clvr.texts().length && eval(`(${find})`)(), String(english));
    assert.deepEqual(rest, []);
    const shown = await page.evaluate(() => {
      const { widgets } = globalThis.clvr.node("CLVR_Generate");
      const judging = widgets.find(({ name }) => name === "judging");
      const note = globalThis.app.graph.nodes.find(({ type }) => type === "MarkdownNote");
      const stored = globalThis.app.graph.serialize().nodes.find(({ type }) => type === "MarkdownNote");
      return { value: judging.value, label: judging.options.getOptionLabel("each"), title: note.title, note: note.widgets[0].value, stored: [stored.title, stored.widgets_values[0]] };
    });
    const file = JSON.parse(readFileSync(FILE, "utf8")).nodes.find(({ type }) => type === "MarkdownNote");
    assert.deepEqual(shown, {
      ...{ value: "each", label: values.judging.each, title: notes["Read me"] },
      ...{ note: file.widgets_values[0].replace(/^.+$/gm, (line) => notes[line]), stored: ["Read me", file.widgets_values[0]] },
    });
    if (vue) {
      const text = await page.evaluate(() => document.querySelector("[data-node-id]").parentElement.innerText);
      assert.ok(text.includes(notes["Read me"]), text);
    }
    await page.screenshot({ path: `${OUT}/${locale}-${FRONT}.png` });
  });

/** What stands on the first node of this kind: its title, and by name the labels of its inputs and of its widgets. @param {string} kind */
const labels = (kind) =>
  page.evaluate((kind) => {
    const { title, inputs, outputs, widgets } = globalThis.clvr.node(kind);
    const named = (things, label) => Object.fromEntries(things.map((each) => [each.name, each[label]]));
    return { title, inputs: named(inputs, "localized_name"), outputs: outputs.map((each) => each.localized_name), widgets: named(widgets, "label") };
  }, kind);

test("inputs are named in a language whose words ComfyUI has not loaded yet, and so is a LoRA that is added", async () => {
  // The languages of ComfyUI itself come in modules of their own; a slow net brings them after the nodes were made anew.
  const unknown = FRONT === "bundled" ? "ko" : "ja";
  const words = JSON.parse(readFileSync(new URL(`../../../locales/${unknown}/nodeDefs.json`, import.meta.url), "utf8")).CLVR_DSWMMergeLive;
  const { values } = LOCALES[unknown];
  await page.evaluate(async () => {
    const node = globalThis.LiteGraph.createNode("CLVR_DSWMMergeLive");
    globalThis.app.graph.add(node);
    globalThis.app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState();
  });
  const held = [];
  const hold = (request) => (/\.js$/.test(new URL(request.url()).pathname) ? held.push(request) : request.continue());
  await page.setRequestInterception(true);
  page.on("request", hold);
  await page.evaluate((locale) => void globalThis.app.extensionManager.setting.set("Comfy.Locale", locale), unknown);
  await page.waitForFunction((title) => globalThis.clvr.node("CLVR_DSWMMergeLive")?.title === title, PATIENCE, words.display_name);
  assert.ok(held.length, "ComfyUI loads its own words of the language");
  const [alpha, loras] = ["alpha", "loras"].map((name) => words.inputs[name].name);
  const shown = await labels("CLVR_DSWMMergeLive");
  assert.deepEqual([shown.widgets.alpha, shown.inputs.alpha, shown.widgets.loras, shown.outputs[0]], [alpha, alpha, loras, words.outputs[0].name]);
  await page.evaluate(() => {
    const { widgets } = globalThis.clvr.node("CLVR_DSWMMergeLive");
    for (const name of ["loras", "loras.more_2"]) {
      const widget = widgets.find((each) => each.name === name);
      widget.value = "one more";
      widget.callback?.("one more");
    }
  });
  const grown = await labels("CLVR_DSWMMergeLive");
  for (const name of ["lora_1", "strength_1", "more_2", "more_2.lora_2", "more_2.strength_2"]) {
    const { name: label } = words.inputs[`loras_${name.replace(".", "_")}`];
    assert.deepEqual([grown.widgets[`loras.${name}`], grown.inputs[`loras.${name}`]], [label, label], name);
  }
  const said = await page.evaluate(() => {
    const of = (name, value) => globalThis.clvr.node("CLVR_DSWMMergeLive").widgets.find((each) => each.name === name).options.getOptionLabel(value);
    return [of("preset", "style"), of("loras", "one more"), of("loras.more_2", "none"), of("loras.more_2.lora_2", "none"), of("loras.lora_1", "mine.sft")];
  });
  assert.deepEqual(said, [values.preset.style, values.loras["one more"], values.more.none, values.lora.none, "mine.sft"]);
  page.off("request", hold);
  await Promise.all(held.map((request) => request.continue()));
  await page.setRequestInterception(false);
  await page.evaluate(() => globalThis.app.graph.remove(globalThis.clvr.node("CLVR_DSWMMergeLive")));
  await speak(SPOKEN[1][0], LAST["it fits"]);
});

test("a run in the sidebar is in the language too, and English comes back", async () => {
  const toggle = () => page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));
  await toggle();
  await waitForText(new RegExp(LAST.Runs));
  await page.waitForFunction(() => globalThis.clvr.panels()[0].querySelector("[data-run]"), PATIENCE);
  await page.evaluate(() => globalThis.clvr.panels()[0].querySelector("[data-run]").click());
  await waitForText(new RegExp(LAST["Spent and left"]));
  assert.deepEqual(await page.evaluate((find) => eval(`(${find})`)(), String(english)), []);
  await page.screenshot({ path: `${OUT}/sidebar-language-${FRONT}.png` });
  await toggle();
  await speak("en", "it fits");
  assert.match((await texts()).join(), /Press Run/);
  await load(process.env.GRAPH, {});
});
