/** The viewer on a real ComfyUI: on the faces of nodes in both renderers, in the sidebar, and for a picture dropped on the graph. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open, watch } from "./browser.js";

const { URL: address, OUT, FRONT, GRAPH, LOOP } = process.env;
const PATIENCE = { timeout: 90_000 };
let chromium;
let page;
let seen;
before(async () => {
  await fetch(`${address}/api/settings`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ "Comfy.TutorialCompleted": true, "Comfy.VueNodes.Enabled": false, "Comfy.Workflow.Persist": false, "Comfy.ColorPalette": "dark" }),
  });
  chromium = await open({ width: 1400, height: 1300 }, ["--use-gl=swiftshader"]);
  page = await chromium.browser.newPage();
  seen = watch(page);
  await page.goto(address, { waitUntil: "domcontentloaded" });
  await page.waitForFunction(() => globalThis.app?.graph && globalThis.app.extensionManager?.sidebarTab?.sidebarTabs.some(({ id }) => id === "clvr"), PATIENCE);
});
after(() => chromium.close());

/** Text in the panels, those in a sidebar's shadow too. Stands in the page as globalThis.clvrTexts. */
const helpers = () => {
  const panels = (root) => [...root.querySelectorAll(".clvr-panel")].flatMap(({ shadowRoot }) => [shadowRoot, ...panels(shadowRoot)]);
  globalThis.clvrPanels = () => panels(document);
  globalThis.clvrTexts = () => panels(document).map((root) => root.querySelector(".clvr").textContent);
};
const texts = () => page.evaluate(() => globalThis.clvrTexts());
async function waitForText(pattern) {
  const found = await page.waitForFunction(
    (source) => globalThis.clvrFailure || globalThis.clvrTexts().some((text) => new RegExp(source, "s").test(text)),
    PATIENCE,
    pattern.source,
  );
  assert.equal(await found.jsonValue(), true);
}

async function shoot(name) {
  await new Promise((done) => setTimeout(done, 700));
  const [host] = await page.$$(".clvr-panel");
  await page.evaluate(async () => {
    const images = globalThis.clvrPanels().flatMap((root) => [...root.querySelectorAll("img")]);
    await Promise.all(images.map((image) => ((image.loading = "eager"), image.decode().catch(() => {}))));
  });
  const box = await host.boundingBox();
  await page.screenshot({ path: `${OUT}/${name}.png`, clip: { x: Math.ceil(box.x), y: Math.ceil(box.y), width: 480, height: 330 } });
}

test("a run is shown on the node as it grows", async () => {
  await page.evaluate(helpers);
  await page.evaluate((graph) => globalThis.app.loadApiJson(JSON.parse(graph), "clvr"), GRAPH);
  await page.evaluate(() => {
    const { app } = globalThis;
    const node = app.graph.nodes.find(({ comfyClass }) => comfyClass === "CLVR_Generate");
    app.graph.nodes.forEach((other, place) => (other.pos = [1500, 120 * place]));
    node.pos = [40, 40];
    node.setSize([520, 1000]);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [40, 130];
    app.canvas.setDirty(true, true);
    app.api.addEventListener("execution_error", ({ detail }) => (globalThis.clvrFailure = detail.exception_message));
    globalThis.grown = new Set();
    setInterval(() => globalThis.clvrTexts().forEach((text) => globalThis.grown.add(/(Press Run|drawing|judging|Not finished|Brief met|Brief not met)/.exec(text)?.[0])), 20);
  });
  await waitForText(/Press Run/);
  await page.evaluate(() => globalThis.app.queuePrompt(0));
  await waitForText(/Brief (not )?met/);
  const grown = await page.evaluate(() => [...globalThis.grown]);
  assert.ok(grown.includes("Not finished") || grown.includes("drawing") || grown.includes("judging"), String(grown));
  assert.match((await texts()).join(), /a large red circle at the top left/);
  await shoot(`${FRONT}-litegraph`);
});

test("a node that is fed by the one at work shows the same run", async () => {
  const shown = await texts();
  assert.equal(shown.length, 2, "Generate in a Loop and View Trajectory");
  assert.ok(shown.every((text) => /Brief (not )?met/.test(text)), String(shown));
});

test("the same in Nodes 2.0", async () => {
  await page.evaluate(() => globalThis.app.extensionManager.setting.set("Comfy.VueNodes.Enabled", true));
  await page.waitForFunction(() => document.querySelector("[data-node-id] .clvr-panel"), PATIENCE);
  await waitForText(/Brief (not )?met/);
  const size = await page.$eval("[data-node-id] .clvr-panel", (host) => [host.clientWidth, host.clientHeight]);
  assert.ok(size[0] > 300 && size[1] >= 340, String(size));
  await page.evaluate(() => {
    globalThis.app.canvas.ds.scale = 1;
    globalThis.app.canvas.ds.offset = [40, 130];
    globalThis.app.canvas.setDirty(true, true);
  });
  await new Promise((done) => setTimeout(done, 500));
  await shoot(`${FRONT}-nodes2`);
});

test("a workflow that is opened again shows its last run", async () => {
  const run = await page.evaluate(async () => {
    const { app } = globalThis;
    const workflow = JSON.parse(JSON.stringify(app.graph.serialize()));
    app.graph.clear();
    await new Promise((done) => setTimeout(done, 300));
    const left = globalThis.clvrTexts().length;
    await app.loadGraphData(workflow);
    return { left, property: app.graph.nodes.find(({ comfyClass }) => comfyClass === "CLVR_Generate").properties.clvr_run };
  });
  assert.equal(run.left, 0, "a panel outlived its node");
  assert.match(run.property, /^[0-9a-f]{16}-\d+$/);
  await waitForText(/Brief (not )?met/);
});

test("a loop drawn by hand is shown on its Loop End while its body is at work", async () => {
  await page.evaluate((graph) => {
    const { app } = globalThis;
    app.loadApiJson(JSON.parse(graph), "loop");
    globalThis.begun = new Promise((done) => app.api.addEventListener("clvr.node", ({ detail }) => done(detail.node)));
    app.queuePrompt(0);
  }, LOOP);
  const [begun, end] = await page.evaluate(async () => [await globalThis.begun, String(globalThis.app.graph.nodes.find(({ comfyClass }) => comfyClass === "CLVR_LoopEnd").id)]);
  assert.notEqual(begun, end, "another node of the body tells first");
  await waitForText(/Brief (not )?met/);
  assert.equal((await texts()).length, 1);
});

test("a node that is removed asks for nothing any more", async () => {
  await page.evaluate(() => globalThis.app.graph.nodes.filter(({ comfyClass }) => comfyClass?.startsWith("CLVR_")).forEach((node) => globalThis.app.graph.remove(node)));
  await page.waitForFunction(() => globalThis.clvrTexts().length === 0, PATIENCE);
  const before = seen.requests.length;
  await page.evaluate(() => globalThis.app.api.dispatchEvent(new CustomEvent("clvr.run", { detail: { run: "x" } })));
  await new Promise((done) => setTimeout(done, 300));
  assert.deepEqual(seen.requests.slice(before).filter((url) => url.includes("/clvr/")), []);
});

test("the sidebar lists the runs of the output folder and shows one", async () => {
  await page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));
  await waitForText(/Runs.*a large red circle/);
  await page.evaluate(() => globalThis.clvrPanels()[0].querySelector(".runs button").click());
  await waitForText(/Spent and left/);
  await page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));
  await page.waitForFunction(() => document.querySelectorAll(".clvr-panel").length === 0, PATIENCE);
});

async function drop(route, change) {
  await page.evaluate(
    async (route, change) => {
      let blob = await (await fetch(route)).blob();
      if (change) {
        const text = new TextEncoder().encode(change);
        const key = new TextEncoder().encode("clvr\0");
        const chunk = new Uint8Array(12 + key.length + text.length);
        new DataView(chunk.buffer).setUint32(0, key.length + text.length);
        chunk.set(new TextEncoder().encode("tEXt"), 4);
        chunk.set(key, 8);
        chunk.set(text, 8 + key.length);
        const bytes = new Uint8Array(await blob.arrayBuffer());
        blob = new Blob([bytes.slice(0, 33), chunk], { type: "image/png" });
      }
      const data = new DataTransfer();
      data.items.add(new File([blob], "dropped.png", { type: "image/png" }));
      document.querySelector("#graph-canvas").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true, composed: true, clientX: 700, clientY: 500 }));
    },
    route,
    change ?? "",
  );
}

let run;
test("a picture of the pack that is dropped opens its workflow, and its trajectory in the viewer", async () => {
  const { runs } = await (await fetch(`${address}/clvr/runs`)).json();
  run = runs.find(({ prompt }) => prompt.startsWith("a large red circle at the top left"));
  await page.evaluate(() => globalThis.app.graph.clear());
  await drop(`/view?filename=best.png&subfolder=clvr/${run.run}&type=output`);
  await page.waitForFunction(() => globalThis.app.graph.nodes.some(({ comfyClass }) => comfyClass === "CLVR_Generate"), PATIENCE);
  await page.waitForFunction(() => globalThis.clvrPanels().some((root) => root.querySelector(".hero img")?.src.startsWith("blob:") && root.querySelector(".hero img").naturalWidth === 96), PATIENCE);
});

test("hostile metadata in a dropped picture is refused in words", async () => {
  const canvas = `/clvr/canvas?run=${run.run}&canvas=0`;
  await drop(canvas, "x");
  await waitForText(/This trajectory is damaged/);
  await drop(canvas, '{"schema": 9, "brief": {"prompt": "x"}}');
  await waitForText(/schema version 9; this viewer reads up to 1/);
});

test("the pack made the page complain of nothing", () => {
  assert.deepEqual(seen.errors.filter((error) => /clvr/i.test(error)), []);
  const elsewhere = seen.requests.filter((url) => /^https?:/.test(url) && !url.startsWith(address));
  assert.deepEqual(elsewhere.filter((url) => url.includes("clvr")), []);
});
