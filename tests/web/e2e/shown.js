/** The viewer on the faces of nodes and in the sidebar. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FRONT, OUT, PATIENCE, draw, load, over, page, queue, seen, shoot, still, texts, waitForText } from "./comfy.js";

const { GRAPH } = process.env;
/** As tests/web/test_comfy.py makes it. */
const DRAWING = "d0d0d0d0d0d0d0d0-1";

test("a run is shown on the node as it grows", async () => {
  await load(GRAPH, { CLVR_Generate: [40, 40, 520, 1000] });
  await waitForText(/Press Run/);
  // Every change of the panels, since a run of half a second is over between two looks of a clock on a busy machine.
  await page.evaluate(() => {
    globalThis.grown = new Set();
    const look = () => globalThis.clvr.texts().forEach((text) => globalThis.grown.add(/(Press Run|drawing|judging|Not finished|Brief met|Brief not met)/.exec(text)?.[0]));
    globalThis.growing = new MutationObserver(look);
    globalThis.clvr.panels().forEach((root) => globalThis.growing.observe(root, { subtree: true, childList: true, characterData: true, attributes: true }));
  });
  await page.waitForFunction(() => /embedded models \d+ MB; [\d.]+ GB free: it fits/.test(globalThis.clvr.before("[role=status]")?.textContent), PATIENCE);
  let grown = [];
  // A run of half a second can be over before a busy server answers what its first step was: then another one is looked at.
  for (let seed = 0; seed < 5 && !grown.some((words) => /Not finished|drawing|judging/.test(words)); seed += 1) {
    if (seed) await page.evaluate((seed) => (globalThis.clvr.node("CLVR_Generate").widgets.find(({ name }) => name === "seed").value = seed), seed);
    await queue();
    await over();
    await waitForText(/Brief (not )?met/);
    grown = await page.evaluate(() => [...globalThis.grown]);
  }
  await page.evaluate(() => globalThis.growing.disconnect());
  assert.ok(grown.includes("Not finished") || grown.includes("drawing") || grown.includes("judging"), String(grown));
  assert.match((await texts()).join(), /a large red cat at the top left/);
  await shoot(`${FRONT}-litegraph`);
});

test("a node that is fed by the one at work shows the same run", async () => {
  const shown = await texts();
  assert.equal(shown.length, 2, "Generate in a Loop and View Trajectory");
  assert.ok(shown.every((text) => /Brief (not )?met/.test(text)), String(shown));
});

test("the same in Nodes 2.0", async () => {
  await draw(true);
  await page.waitForFunction(() => document.querySelector("[data-node-id] .clvr-panel"), PATIENCE);
  await waitForText(/Brief (not )?met/);
  const size = await page.$eval("[data-node-id] .clvr-panel", (host) => [host.clientWidth, host.clientHeight]);
  assert.ok(size[0] > 300 && size[1] >= 340 && size[1] < 1000, String(size));
  assert.match(await page.evaluate(() => globalThis.clvr.before("[role=status]").textContent), /by 1 earlier run.*it fits/);
  await page.evaluate(() => {
    globalThis.app.canvas.ds.scale = 1;
    globalThis.app.canvas.ds.offset = [80, 130];
    globalThis.app.canvas.setDirty(true, true);
  });
  await still();
  await shoot(`${FRONT}-nodes2`);
});

/** Of Generate: its run, what is said under it, and the pictures on it outside the viewer. */
const face = () =>
  page.evaluate(() => {
    const { id, properties, imgs, widgets } = globalThis.clvr.node("CLVR_Generate");
    const pictures = [...document.querySelectorAll(`[data-node-id="${id}"] img`), ...(imgs ?? [])].filter((image) => !image.isConnected || image.checkVisibility()).map(({ alt, src }) => `${alt} ${src}`);
    return { run: properties.clvr_run, words: widgets.find(({ name }) => name === "$$node-text-preview")?.value ?? "", pictures };
  });

test("a new run that is cancelled does not stand beside words and picture of the old", async () => {
  const old = await face();
  assert.ok(FRONT !== "bundled" || /goals met in/.test(old.words), "later front ends take the words away themselves");
  assert.deepEqual(old.pictures, [], "the viewer has them");
  await page.evaluate(() => (globalThis.clvr.node("CLVR_Generate").widgets.find(({ name }) => name === "prompt").value = "two small green crosses"));
  await queue();
  await page.waitForFunction((old) => globalThis.clvr.node("CLVR_Generate").properties.clvr_run !== old, PATIENCE, old.run);
  await page.evaluate(() => globalThis.app.api.interrupt());
  await page.waitForFunction(async () => !(await (await fetch("/queue")).json()).queue_running.length, PATIENCE);
  const { words, pictures } = await face();
  // On a busy machine the run may have ended before it was cancelled.
  const ended = await page.evaluate(async () => !JSON.stringify(await (await fetch("/history?max_items=1")).json()).includes("execution_interrupted"));
  assert.ok(ended || !/goals met in/.test(words), words);
  assert.deepEqual(pictures, []);
});

test("a run that ComfyUI answers from its cache is shown in a fresh graph", async () => {
  await load(GRAPH, {});
  await waitForText(/Press Run/);
  await queue();
  await waitForText(/Brief (not )?met/);
});

test("a workflow that is opened again shows its last run", async () => {
  const workflow = await page.evaluate(() => {
    const workflow = JSON.stringify(globalThis.app.graph.serialize());
    globalThis.app.graph.clear();
    return workflow;
  });
  await page.waitForFunction(() => globalThis.clvr.texts().length === 0, PATIENCE); // no panel outlives its node
  const run = await page.evaluate(async (workflow) => {
    await globalThis.app.loadGraphData(JSON.parse(workflow));
    return globalThis.clvr.node("CLVR_Generate").properties.clvr_run;
  }, workflow);
  assert.match(run, /^[0-9a-f]{16}-\d+$/);
  await waitForText(/Brief (not )?met/);
});

test("started anew from the menu of the node, the same brief begins another run", async () => {
  const old = await page.evaluate(() => {
    const node = globalThis.clvr.node("CLVR_Generate");
    globalThis.app.collectNodeMenuItems(node).find(({ content }) => /Start anew/.test(content)).callback();
    return node.properties.clvr_run;
  });
  await toasted("the same brief begins another run");
  await queue();
  await page.waitForFunction((old) => globalThis.clvr.node("CLVR_Generate").properties.clvr_run !== old && globalThis.clvr.texts().every((text) => /Brief (not )?met/.test(text)), PATIENCE, old);
});

for (const vue of [false, true])
  test(`what is being drawn is shown in the viewer: ${vue ? "Nodes 2.0" : "LiteGraph"}`, async () => {
    await draw(vue);
    // A run of the disk stands where its picture is drawn; the models of these tests preview nothing themselves.
    const shown = await page.evaluate(async (run) => {
      const workflow = globalThis.app.graph.serialize();
      workflow.nodes.find(({ type }) => type === "CLVR_Generate").properties.clvr_run = run;
      await globalThis.app.loadGraphData(workflow);
      return globalThis.clvr.node("CLVR_Generate").properties.clvr_run;
    }, DRAWING);
    assert.equal(shown, DRAWING);
    await waitForText(/Step 1.*drawing/);
    await page.evaluate(() => {
      const { api } = globalThis.app;
      const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
      canvas.toBlob((blob) => api.dispatchEvent(new CustomEvent("b_preview_with_metadata", { detail: { blob, displayNodeId: String(globalThis.clvr.node("CLVR_Generate").id) } })));
    });
    await page.waitForFunction(() => globalThis.clvr.panels().some((root) => root.querySelector(".live:not([hidden]) img")?.naturalWidth === 8), PATIENCE);
    assert.match((await texts()).join(), /Step 1 is drawn/);
  });

/** The page itself says so; what stands in the pack's panels does not count. @param {string} words */
const toasted = (words) => page.waitForFunction((words) => document.body.innerText.includes(words), PATIENCE, words);

test("an error's sentence stands on the node, in a toast and in the sidebar", async () => {
  await page.evaluate(() => {
    for (const [name, value] of [["met", 0.3], ["unmet", 0.6]]) globalThis.clvr.node("CLVR_Generate").widgets.find((each) => each.name === name).value = value;
  });
  await queue();
  await page.waitForFunction(() => globalThis.clvrFailure && globalThis.clvr.texts().every((text) => /they must satisfy/.test(text)), PATIENCE);
  const words = await page.evaluate(() => delete globalThis.clvrFailure && globalThis.clvr.panels()[0].querySelector("[role=alert]").textContent);
  assert.match(words, /^budget: unmet is 0.6/);
  await toasted(words);
  await page.screenshot({ path: `${OUT}/error-${FRONT}.png` });
  await toggle();
  await waitForText(new RegExp(`^${words.slice(0, 20)}.*Runs`));
  await toggle();
  await page.keyboard.press("Escape");
});

const toggle = () => page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));

test("a node that is removed asks for nothing any more", async () => {
  await page.evaluate(() => globalThis.app.graph.nodes.filter(({ comfyClass }) => comfyClass?.startsWith("CLVR_")).forEach((node) => globalThis.app.graph.remove(node)));
  await page.waitForFunction(() => globalThis.clvr.texts().length === 0, PATIENCE);
  assert.equal(await page.$$eval(".clvr-before", (found) => found.length), 0);
  const before = seen.requests.length;
  // What is put off runs in the next turn, and the last request is this test's own.
  const last = page.waitForRequest((request) => request.url().endsWith("/system_stats?last"), PATIENCE);
  await page.evaluate(async () => {
    const { api, graph } = globalThis.app;
    const { setTimeout } = globalThis;
    globalThis.setTimeout = (work, _, ...given) => setTimeout(() => work(...given), 0);
    api.dispatchEvent(new CustomEvent("clvr.run", { detail: { run: "x" } }));
    api.dispatchEvent(new CustomEvent("graphChanged", { detail: graph.serialize() }));
    globalThis.setTimeout = setTimeout;
    for (let turn = 0; turn < 20; turn++) await new Promise((done) => setTimeout(done, 0));
    await fetch("/system_stats?last");
  });
  await last;
  assert.deepEqual(seen.requests.slice(before).filter((url) => url.includes("/clvr/")), []);
});

test("the sidebar lists the runs of the output folder and shows one", async () => {
  await toggle();
  await waitForText(/Runs.*a large red cat/);
  await page.evaluate(() => globalThis.clvr.panels()[0].querySelector(".runs button").click());
  await waitForText(/Spent and left/);
  await toggle();
  await page.waitForFunction(() => document.querySelectorAll(".clvr-panel").length === 0, PATIENCE);
});
