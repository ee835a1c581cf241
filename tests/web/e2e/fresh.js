/** New nodes: wide enough for what stands on them, the prompt before all else, rare inputs folded. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { PATIENCE, RENDERERS, draw, page, still } from "./comfy.js";

const KINDS = ["CLVR_Executor", "CLVR_Quick", "CLVR_Generate", "CLVR_Brief", "CLVR_LoopEnd", "CLVR_ViewTrajectory"];
const GOALS = "[nice] a small red square to the left of the very large and yellow circle that stands in the middle of the picture\n[global] dusk";

/** Puts a new node of each kind into an empty graph. @param {boolean} vue */
async function fresh(vue) {
  await draw(vue);
  await page.evaluate(() => {
    const { sidebarTab, command } = globalThis.app.extensionManager;
    if (sidebarTab.activeSidebarTabId) command.execute(`Workspace.ToggleSidebarTab.${sidebarTab.activeSidebarTabId}`);
    globalThis.app.graph.clear();
    globalThis.app.api.dispatchEvent(new CustomEvent("graphChanged", { detail: globalThis.app.graph.serialize() }));
  });
  await page.waitForFunction(() => !document.querySelector("[data-node-id], .clvr-before, .clvr-panel"), PATIENCE);
  await page.evaluate(
    (kinds, goals) => {
      const { app, LiteGraph } = globalThis;
      for (const [place, kind] of kinds.entries()) {
        const node = LiteGraph.createNode(kind);
        node.pos = [500 * place, 0];
        app.graph.add(node);
      }
      const list = globalThis.clvr.node("CLVR_Brief").widgets.find(({ name }) => name === "goals");
      list.value = goals;
      list.callback?.(goals);
      app.canvas.ds.scale = 0.5;
      app.canvas.ds.offset = [80, 130];
      app.canvas.setDirty(true, true);
    },
    KINDS,
    GOALS,
  );
  await page.waitForFunction((count) => document.querySelectorAll(".clvr-panel").length === count, PATIENCE, 4);
  await still();
}

/** Heights on the new node, by what has them. @param {string} kind @param {boolean} vue */
const heights = (kind, vue) =>
  page.evaluate((kind, vue) => {
    const { id, widgets } = globalThis.clvr.node(kind);
    const parts = widgets.filter(({ name }) => /^(prompt|clvr_(forecast|viewer))$/.test(name));
    const inDom = ({ name, element }) => (name === "prompt" ? document.querySelector(`[data-node-id="${id}"] textarea`) : element).getBoundingClientRect().height;
    return Object.fromEntries(parts.map((each) => [each.name, vue ? inDom(each) : each.computedHeight]));
  }, kind, vue);

/** How many widgets the node shows, without the row that folds. Runs in the page. @param {string} kind @param {boolean} vue */
function counted(kind, vue) {
  const node = globalThis.clvr.node(kind);
  if (vue) return document.querySelectorAll(`[data-node-id="${node.id}"] [data-testid="node-widget"]`).length;
  return node.getLayoutWidgets().filter((each) => node.isWidgetVisible(each) && each.name !== "clvr_fold").length;
}
const rows = (kind, vue) => page.evaluate(counted, kind, vue);

/** Once the node shows so many: Nodes 2.0 draws them one after the other. @param {number} count @param {string} kind @param {boolean} vue */
async function has(count, kind, vue) {
  await page.waitForFunction(`(${counted})(${JSON.stringify(kind)}, ${vue}) === ${count}`, PATIENCE).catch(() => {}); // what it is then is said below
  assert.equal(await rows(kind, vue), count, kind);
}

for (const vue of RENDERERS)
  test(`new nodes have room for what they show: ${vue ? "Nodes 2.0" : "LiteGraph"}`, async () => {
    await fresh(vue);
    const widths = await page.evaluate((kinds) => kinds.map((kind) => globalThis.clvr.node(kind).size[0]), KINDS.slice(1));
    assert.ok(Math.min(...widths) >= 430, String(widths));
    for (const kind of ["CLVR_Quick", "CLVR_Generate"]) {
      const { prompt, ...others } = await heights(kind, vue);
      assert.equal(Object.keys(others).length, 2, JSON.stringify(others));
      assert.ok(prompt > Math.max(...Object.values(others)), JSON.stringify({ kind, prompt, ...others }));
    }
    const list = await page.evaluate(() => {
      const table = globalThis.clvr.before("table");
      const room = table.getRootNode().host.getBoundingClientRect();
      const cut = (element) => element.getBoundingClientRect().right > room.right || element.scrollHeight > element.clientHeight + 1;
      return { head: [...table.querySelectorAll("th")].map(({ textContent }) => textContent), fields: table.querySelectorAll("textarea").length, cut: [...table.querySelectorAll("th, textarea, select")].filter(cut).length };
    });
    assert.deepEqual(list, { head: ["Goal", "Kind", "Need", ""], fields: 2, cut: 0 });
    // LiteGraph shows in a row of its own what is done to the seed after a run.
    for (const [kind, count] of [["CLVR_Executor", 3], ["CLVR_Generate", vue ? 6 : 7], ["CLVR_Quick", vue ? 10 : 11]]) await has(count, kind, vue);
    if (vue) return;
    await click("CLVR_Executor");
    assert.ok((await rows("CLVR_Executor", vue)) > 5);
    const high = await page.evaluate(() => globalThis.clvr.node("CLVR_Executor").size[1]);
    await click("CLVR_Executor");
    assert.equal(await rows("CLVR_Executor", vue), 3);
    assert.ok((await page.evaluate(() => globalThis.clvr.node("CLVR_Executor").size[1])) < high);
  });

/**
 * Presses the row of the node that folds and unfolds its rare inputs. Not by the mouse: a veil of ComfyUI's own, which it lays over the page
 * while it loads a graph, may still lie there. @param {string} kind
 */
async function click(kind) {
  await page.evaluate((kind) => {
    globalThis.clvr.node(kind).widgets.find(({ name }) => name === "clvr_fold").callback();
    globalThis.app.canvas.setDirty(true, true);
  }, kind);
  await still(3);
}
