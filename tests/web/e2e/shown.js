/** The viewer on the faces of nodes and in the sidebar. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FRONT, PATIENCE, draw, load, page, pause, queue, seen, shoot, texts, waitForText } from "./comfy.js";

const { GRAPH } = process.env;

test("a run is shown on the node as it grows", async () => {
  await load(GRAPH, { CLVR_Generate: [40, 40, 520, 1000] });
  await page.evaluate(() => {
    globalThis.grown = new Set();
    setInterval(() => globalThis.clvr.texts().forEach((text) => globalThis.grown.add(/(Press Run|drawing|judging|Not finished|Brief met|Brief not met)/.exec(text)?.[0])), 20);
  });
  await waitForText(/Press Run/);
  await page.waitForFunction(() => /embedded models \d+ MB; [\d.]+ GB free: it fits/.test(globalThis.clvr.before("[role=status]")?.textContent), PATIENCE);
  await queue();
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
  await draw(true);
  await page.waitForFunction(() => document.querySelector("[data-node-id] .clvr-panel"), PATIENCE);
  await waitForText(/Brief (not )?met/);
  const size = await page.$eval("[data-node-id] .clvr-panel", (host) => [host.clientWidth, host.clientHeight]);
  assert.ok(size[0] > 300 && size[1] >= 340, String(size));
  assert.match(await page.evaluate(() => globalThis.clvr.before("[role=status]").textContent), /by 1 earlier run.*it fits/);
  await page.evaluate(() => {
    globalThis.app.canvas.ds.scale = 1;
    globalThis.app.canvas.ds.offset = [80, 130];
    globalThis.app.canvas.setDirty(true, true);
  });
  await pause(500);
  await shoot(`${FRONT}-nodes2`);
});

test("a workflow that is opened again shows its last run", async () => {
  const run = await page.evaluate(async () => {
    const { app } = globalThis;
    const workflow = JSON.parse(JSON.stringify(app.graph.serialize()));
    app.graph.clear();
    await new Promise((done) => setTimeout(done, 300));
    const left = globalThis.clvr.texts().length;
    await app.loadGraphData(workflow);
    return { left, property: globalThis.clvr.node("CLVR_Generate").properties.clvr_run };
  });
  assert.equal(run.left, 0, "a panel outlived its node");
  assert.match(run.property, /^[0-9a-f]{16}-\d+$/);
  await waitForText(/Brief (not )?met/);
});

test("a node that is removed asks for nothing any more", async () => {
  await page.evaluate(() => globalThis.app.graph.nodes.filter(({ comfyClass }) => comfyClass?.startsWith("CLVR_")).forEach((node) => globalThis.app.graph.remove(node)));
  await page.waitForFunction(() => globalThis.clvr.texts().length === 0, PATIENCE);
  assert.equal(await page.$$eval(".clvr-before", (found) => found.length), 0);
  const before = seen.requests.length;
  await page.evaluate(() => {
    const { api, graph } = globalThis.app;
    api.dispatchEvent(new CustomEvent("clvr.run", { detail: { run: "x" } }));
    api.dispatchEvent(new CustomEvent("graphChanged", { detail: graph.serialize() }));
  });
  await pause(600);
  assert.deepEqual(seen.requests.slice(before).filter((url) => url.includes("/clvr/")), []);
});

test("the sidebar lists the runs of the output folder and shows one", async () => {
  await page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));
  await waitForText(/Runs.*a large red circle/);
  await page.evaluate(() => globalThis.clvr.panels()[0].querySelector(".runs button").click());
  await waitForText(/Spent and left/);
  await page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));
  await page.waitForFunction(() => document.querySelectorAll(".clvr-panel").length === 0, PATIENCE);
});
