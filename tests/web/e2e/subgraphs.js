/** Nodes that are copied, put into a subgraph and taken out again. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { RENDERERS, draw, load, page, seen, still } from "./comfy.js";

const { LOOP } = process.env;
const NODES = ["CLVR_Brief", "CLVR_LoopEnd", "CLVR_ViewTrajectory"];
const LOST = /LGraph reference|NullGraph/;

/** How many listeners ComfyUI's api has, by type of event, of the types that the pack's nodes listen to. */
async function listeners() {
  await page.evaluate(() => globalThis.app.api.dispatchEvent(new CustomEvent("graphChanged", { detail: globalThis.app.graph.serialize() })));
  const client = await page.createCDPSession();
  const { result } = await client.send("Runtime.evaluate", { expression: "app.api" });
  const { listeners } = await client.send("DOMDebugger.getEventListeners", { objectId: result.objectId });
  await client.detach();
  const count = {};
  for (const { type } of listeners) if (/^clvr\.|graphChanged|execution_success/.test(type)) count[type] = (count[type] ?? 0) + 1;
  return count;
}

const run = (command) => page.evaluate((command) => globalThis.app.extensionManager.command.execute(command), command);
const select = (kinds) => page.evaluate((kinds) => globalThis.app.canvas.selectItems(globalThis.app.graph.nodes.filter(({ comfyClass, subgraph }) => (kinds ? kinds.includes(comfyClass) : subgraph))), kinds);
const count = () => page.evaluate(() => [globalThis.app.graph.nodes.length, globalThis.app.graph.subgraphs.size]);

for (const vue of RENDERERS)
  test(`no node that went listens, and none complains: ${vue ? "Nodes 2.0" : "LiteGraph"}`, async () => {
    const complaints = () => seen.errors.filter((error) => LOST.test(error));
    await draw(vue);
    await page.evaluate(() => globalThis.app.graph.clear());
    const none = await listeners();
    await load(LOOP, {});
    const [nodes] = await count();
    const all = await listeners();
    assert.ok(all["clvr.node"] > none["clvr.node"] && all.execution_success > none.execution_success, JSON.stringify([none, all]));
    for (const round of [1, 2]) {
      await select(NODES);
      await run("Comfy.Graph.ConvertToSubgraph");
      await still();
      assert.deepEqual(await count(), [nodes - 2, 1], `round ${round}`);
      assert.deepEqual(await listeners(), all, "in a subgraph they still listen, each once");
      await select(null);
      await run("Comfy.Graph.UnpackSubgraph");
      await still();
      assert.deepEqual([(await count())[0], await listeners()], [nodes, all]);
    }
    await select(NODES);
    await page.evaluate(() => {
      globalThis.app.canvas.copyToClipboard();
      globalThis.app.canvas.pasteFromClipboard();
    });
    await still();
    await page.evaluate(() => globalThis.app.graph.nodes.filter(({ selected }) => selected).forEach((node) => globalThis.app.graph.remove(node)));
    assert.deepEqual([(await count())[0], await listeners()], [nodes, all]);
    await select(NODES);
    await run("Comfy.Graph.ConvertToSubgraph");
    await still();
    await page.evaluate(() => globalThis.app.graph.clear());
    assert.deepEqual(await listeners(), none);
    assert.deepEqual(complaints(), []);
  });
