/** The pictures of the docs from real runs: URL is a ComfyUI, WORKFLOW the graph as it is saved, PROMPT what to paint, SEED its seed, RUNS its runs, OUT where they go. */

import { readdir, stat } from "node:fs/promises";
import { pathToFileURL } from "node:url";

import { open, watch } from "./browser.js";

const { URL: address, WORKFLOW, PROMPT, SEED, RUNS, OUT } = process.env;
// By the clock, since a busy machine paints few frames.
const PATIENCE = { timeout: 400_000, polling: 500 };
const SETTINGS = {
  "Comfy.TutorialCompleted": true,
  "Comfy.Workflow.Persist": false,
  "Comfy.VueNodes.Enabled": true,
  "Comfy.Minimap.Visible": false,
  "Comfy.Graph.CanvasInfo": false,
  "Comfy.ColorPalette": "dark",
};
await fetch(`${address}/api/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(SETTINGS) });
const chromium = await open({ width: 1600, height: 1000 }, ["--use-gl=swiftshader"]);
const page = await chromium.browser.newPage();
watch(page);
const pause = (/** @type {number} */ time) => new Promise((done) => setTimeout(done, time));

await page.goto(address, { waitUntil: "domcontentloaded" });
await page.waitForFunction(() => globalThis.app?.graph && globalThis.app.extensionManager?.sidebarTab?.sidebarTabs.some(({ id }) => id === "clvr"), PATIENCE);
await page.evaluate(
  async (workflow, prompt, seed) => {
    const { app } = globalThis;
    await app.loadGraphData(JSON.parse(workflow), true, true, "stickers");
    app.api.addEventListener("execution_error", ({ detail }) => (globalThis.over = detail.exception_message));
    app.api.addEventListener("execution_success", () => (globalThis.over = "done"));
    const node = app.graph.nodes.find(({ comfyClass }) => comfyClass === "CLVR_Generate");
    globalThis.set = (values) => Object.entries(values).forEach(([name, value]) => (node.widgets.find((each) => each.name === name).value = value));
    globalThis.set({ prompt, seed, strategy: "clvr" });
    const places = { CLVR_ShapesModels: [40, 60, 260, 110], CLVR_Generate: [350, 60, 880, 1250], SaveImage: [1280, 60, 460, 520] };
    for (const each of app.graph.nodes) {
      const [x, y, width, height] = places[each.comfyClass] ?? [40, 2500, 300, 200];
      each.pos = [x, y];
      each.setSize([width, height]);
    }
    app.canvas.ds.scale = 0.7;
    app.canvas.ds.offset = [70, 110];
    app.canvas.setDirty(true, true);
  },
  WORKFLOW,
  PROMPT,
  Number(SEED),
);

async function run() {
  await page.evaluate(() => {
    globalThis.over = "";
    globalThis.app.queuePrompt(0);
  });
}
async function ended() {
  await page.waitForFunction(() => globalThis.over, PATIENCE);
  const over = await page.evaluate(() => globalThis.over);
  if (over !== "done") throw new Error(over);
}

await run();
await ended();
await pause(3000);
await page.screenshot({ path: `${OUT}/viewer-node.png`, clip: { x: 60, y: 100, width: 1240, height: 880 } });

await page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));
await page.waitForFunction(() => [...document.querySelectorAll(".clvr-panel")].some(({ shadowRoot }) => shadowRoot.querySelector(".runs button")), PATIENCE);
// Wider, by the bar beside it.
const beside = () => page.evaluate(() => [...document.querySelectorAll(".clvr-panel")].find(({ shadowRoot }) => shadowRoot.querySelector(".runs")).getBoundingClientRect().right);
for (let tries = 0; (await beside()) < 700 && tries < 20; tries++) {
  const edge = await beside();
  await page.mouse.move(edge + 2, 500);
  await page.mouse.down();
  await page.mouse.move(edge + 100, 500, { steps: 5 });
  await page.mouse.move(860, 500, { steps: 5 });
  await page.mouse.up();
  await pause(500);
}
await page.evaluate(() => [...document.querySelectorAll(".clvr-panel")].find(({ shadowRoot }) => shadowRoot.querySelector(".runs")).shadowRoot.querySelector(".runs button").click());
const goals = () => {
  const outer = [...document.querySelectorAll(".clvr-panel")].find(({ shadowRoot }) => shadowRoot.querySelector(".runs")).shadowRoot;
  return outer.querySelector(".clvr-panel").shadowRoot.querySelector("#goals");
};
await page.waitForFunction(goals, PATIENCE);
await pause(3000);
// Asked for anew, since the viewer may have drawn its page again; and twice, since the pictures above may still be loading the first time.
for (let tries = 0; tries < 2; tries++) {
  const heading = await page.evaluateHandle(goals);
  await heading.evaluate((each) => each.scrollIntoView());
  await pause(1000);
}
await page.screenshot({ path: `${OUT}/viewer-sidebar.png`, clip: { x: 0, y: 40, width: 1100, height: 940 } });
await page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));

const folders = await Promise.all((await readdir(RUNS)).filter((name) => name !== "saved").map(async (name) => ({ name, at: (await stat(`${RUNS}/${name}`)).mtimeMs })));
const newest = folders.sort((one, other) => other.at - one.at)[0].name;

// Asked after the first round, and steered.
await page.setViewport({ width: 1600, height: 1400, deviceScaleFactor: 1 });
await page.evaluate(() => globalThis.set({ seed: 4, review: 600 }));
await run();
const review = await page.waitForFunction(() => document.querySelector(".clvr-review").shadowRoot.querySelector(".review"), PATIENCE);
await review.evaluate((panel) => {
  panel.querySelector("textarea").value = "make the umbrella touch the right edge";
  document.activeElement?.blur();
});
await pause(1000);
await review.asElement()?.screenshot({ path: `${OUT}/viewer-review.png` });
await review.evaluate((panel) => panel.querySelector(".accept").click());
await ended();

// A page of its own: ComfyUI would ask whether to leave its unsaved graph.
const report = await chromium.browser.newPage();
await report.setViewport({ width: 1160, height: 900, deviceScaleFactor: 1 });
await report.goto(`${pathToFileURL(RUNS).href}/${newest}/report.html`, { waitUntil: "load" });
await report.$$eval("img", (images) => Promise.all(images.map((image) => ((image.loading = "eager"), image.decode()))));
await report.$$eval("article", (cards) => {
  cards.find((card) => card.querySelector("h3").textContent === "Step 2").scrollIntoView();
  window.scrollBy(0, -24);
});
await pause(500);
await report.screenshot({ path: `${OUT}/viewer-report.png` });
await report.$eval("#compare", (heading) => heading.scrollIntoView());
await pause(300);
// From the first canvas to the last, so that one sees what the loop did.
const first = await report.$eval(".compare select", (choice) => choice.options[0].value);
await (await report.$(".compare select"))?.select(first);
await report.$eval(".stage input", (slider) => {
  slider.value = "50";
  slider.dispatchEvent(new Event("input"));
});
await pause(500);
const stage = await report.$(".stage");
await stage?.screenshot({ path: `${OUT}/viewer-before-after.png` });
console.log(newest);
await chromium.close();
