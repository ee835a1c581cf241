/** Pictures of the pack that are dropped on the graph. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FRONT, PATIENCE, RENDERERS, address, draw, drop, page, texts, waitForText } from "./comfy.js";

const PROMPT = /^a large red cat at the top left/;
/** Of the run of the first test, by who saved them: their addresses. */
let pictures;

async function made() {
  const entries = Object.values(await (await fetch(`${address}/history`)).json());
  const { outputs } = entries.find(({ prompt }) => Object.values(prompt[2]).some(({ inputs }) => PROMPT.test(inputs.prompt)));
  const [run] = outputs["2"].clvr_run;
  const saved = (node) => `/view?${new URLSearchParams(outputs[node].images[0])}`;
  const own = (filename) => `/view?${new URLSearchParams({ filename, subfolder: `clvr/${run}`, type: "output" })}`;
  return { run, canvas: own("canvas-000.png"), best: own("best.png"), saved: saved("3"), sheet: saved("30") };
}

/** Drops it on an empty graph, and waits for workflow and trajectory. @param {string} route */
async function opens(route) {
  await page.evaluate(() => {
    globalThis.app.graph.clear();
    if (globalThis.app.extensionManager.sidebarTab.activeSidebarTabId) globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr");
  });
  await page.waitForFunction(() => !globalThis.clvr.panels().length, PATIENCE);
  await drop(route);
  await page.waitForFunction(() => globalThis.clvr.node("CLVR_Generate"), PATIENCE);
  await sees(`/clvr/canvas?run=${pictures.run}&canvas=`);
  const remembered = await page.evaluate(() => globalThis.clvr.node("CLVR_Generate").properties.clvr_run);
  assert.equal(remembered, pictures.run, "the node shows it too");
}

/** A picture from there is in the sidebar. @param {string} source */
async function sees(source) {
  await page.waitForFunction(
    (source) => {
      const inner = globalThis.clvr.panels().map((root) => root.querySelector(".clvr-panel")?.shadowRoot).find(Boolean);
      const picture = inner?.querySelector("figure img");
      return picture?.src.includes(source) && picture.naturalWidth === 192;
    },
    PATIENCE,
    source,
  );
}

for (const vue of RENDERERS) {
  const renderer = vue ? "Nodes 2.0" : "LiteGraph";
  test(`a picture of a run that is dropped opens its workflow, and its trajectory in the viewer: ${renderer}`, async () => {
    pictures ??= await made();
    await draw(vue);
    await opens(pictures.best);
    assert.match((await texts()).join(), /Brief (not )?met/);
  });
}

test("so does a canvas on the way, and what other nodes saved of the run", async () => {
  for (const route of [pictures.canvas, pictures.saved, pictures.sheet]) await opens(route);
});

test("a picture whose run is elsewhere is shown by itself", async () => {
  await drop(pictures.canvas, { workflow: "{}", clvr: JSON.stringify({ brief: { prompt: "from afar", width: 192, height: 192 } }) });
  await waitForText(/from afar/);
  await sees("blob:");
  // Later front ends say in a dialog that {} is no graph; it would lie over all that the tests after this one look at.
  const said = () => [...document.querySelectorAll("[role=dialog]")].some((dialog) => /Loading aborted/.test(dialog.innerText));
  if (FRONT === "newest") await page.waitForFunction(said, PATIENCE);
  await page.keyboard.press("Escape");
  await page.waitForFunction(`!(${said})()`, PATIENCE);
});

test("hostile metadata in a dropped picture is refused in words", async () => {
  await drop(pictures.canvas, { clvr: "x" });
  await waitForText(/This trajectory is damaged/);
  await drop(pictures.canvas, { clvr: '{"schema": 9, "brief": {"prompt": "x"}}' });
  await waitForText(/schema version 9; this viewer reads up to 1/);
});
