/** The pictures of the README from a real run: URL is a ComfyUI, WORKFLOW the graph as it is saved, RUNS its runs, OUT where they go. */

import { readdir, stat } from "node:fs/promises";
import { pathToFileURL } from "node:url";

import { open, watch } from "./browser.js";

const { URL: address, WORKFLOW, RUNS, OUT } = process.env;
const PATIENCE = { timeout: 400_000 };
await fetch(`${address}/api/settings`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ "Comfy.TutorialCompleted": true, "Comfy.Workflow.Persist": false, "Comfy.VueNodes.Enabled": true, "Comfy.Minimap.Visible": false }),
});
const chromium = await open({ width: 1600, height: 1000 }, ["--use-gl=swiftshader"]);
const page = await chromium.browser.newPage();
watch(page);
const pause = (/** @type {number} */ time) => new Promise((done) => setTimeout(done, time));

await page.goto(address, { waitUntil: "domcontentloaded" });
await page.waitForFunction(() => globalThis.app?.graph && globalThis.app.extensionManager?.sidebarTab?.sidebarTabs.some(({ id }) => id === "clvr"), PATIENCE);
await page.evaluate(async (workflow) => {
  const { app } = globalThis;
  await app.loadGraphData(JSON.parse(workflow), true, true, "shapes");
  app.api.addEventListener("execution_error", ({ detail }) => (globalThis.over = detail.exception_message));
  app.api.addEventListener("execution_success", () => (globalThis.over = "done"));
  app.queuePrompt(0);
}, WORKFLOW);
await page.waitForFunction(() => globalThis.over, PATIENCE);
const over = await page.evaluate(() => globalThis.over);
if (over !== "done") throw new Error(over);
await page.evaluate(() => {
  const { app } = globalThis;
  const node = app.graph.nodes.find(({ comfyClass }) => comfyClass === "CLVR_Generate");
  for (const [place, other] of app.graph.nodes.filter((each) => each !== node).entries()) other.pos = [1060 + 460 * (place % 2), 60 + 460 * Math.floor(place / 2)];
  node.pos = [120, 60];
  node.setSize([880, 1250]);
  app.canvas.ds.scale = 0.62;
  app.canvas.ds.offset = [20, 150];
  app.canvas.setDirty(true, true);
});
await pause(3000);
await page.screenshot({ path: `${OUT}/viewer-node.png`, clip: { x: 60, y: 90, width: 1240, height: 880 } });

await page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));
await page.waitForFunction(() => [...document.querySelectorAll(".clvr-panel")].some(({ shadowRoot }) => shadowRoot.querySelector(".runs button")), PATIENCE);
await pause(500);
const handle = await page.$(".p-splitter-gutter, .splitter-gutter, [data-pc-name='splittergutter']");
const box = await handle?.boundingBox();
if (box) {
  await page.mouse.move(box.x + 1, 500);
  await page.mouse.down();
  await page.mouse.move(800, 500, { steps: 5 });
  await page.mouse.up();
}
await page.evaluate(() => [...document.querySelectorAll(".clvr-panel")].find(({ shadowRoot }) => shadowRoot.querySelector(".runs")).shadowRoot.querySelector(".runs button").click());
await pause(2500);
await page.evaluate(() => {
  const outer = [...document.querySelectorAll(".clvr-panel")].find(({ shadowRoot }) => shadowRoot.querySelector(".runs")).shadowRoot;
  outer.querySelector(".clvr-panel").shadowRoot.querySelector("#goals").scrollIntoView();
});
await pause(800);
await page.screenshot({ path: `${OUT}/viewer-sidebar.png`, clip: { x: 0, y: 40, width: 1100, height: 940 } });

const folders = await Promise.all((await readdir(RUNS)).filter((name) => name !== "saved").map(async (name) => ({ name, at: (await stat(`${RUNS}/${name}`)).mtimeMs })));
const newest = folders.sort((one, other) => other.at - one.at)[0].name;
// A page of its own: ComfyUI would ask whether to leave its unsaved graph.
const report = await chromium.browser.newPage();
await report.setViewport({ width: 1160, height: 900, deviceScaleFactor: 1 });
await report.goto(`${pathToFileURL(RUNS).href}/${newest}/report.html`, { waitUntil: "load" });
await report.$$eval("img", (images) => Promise.all(images.map((image) => ((image.loading = "eager"), image.decode()))));
await report.$eval("#steps", (heading) => heading.scrollIntoView());
await pause(500);
await report.screenshot({ path: `${OUT}/viewer-report.png` });
await report.$eval("#compare", (heading) => heading.scrollIntoView());
await pause(300);
// From the first canvas to the last, so that one sees what the loop did.
const first = await report.$eval(".compare select", (choice) => choice.options[0].value);
await (await report.$(".compare select"))?.select(first);
await report.$eval(".stage input", (slider) => {
  slider.value = "42";
  slider.dispatchEvent(new Event("input"));
});
await pause(500);
const stage = await report.$(".stage");
await stage?.screenshot({ path: `${OUT}/viewer-before-after.png` });
console.log(newest);
await chromium.close();
