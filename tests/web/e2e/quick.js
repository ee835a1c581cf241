/** CLVR Quick as a newcomer meets it: found by search, as a blueprint, and as an App. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { PATIENCE, draw, page, still } from "./comfy.js";

const FOLDER = new URL("../../../workflows/", import.meta.url);
const BLUEPRINT = "Picture in a Loop (FLUX.2 Klein 4B)";
/** Words of artists, and how many results may stand before the node. */
const WORDS = { "clvr quick": 0, "one node": 0, "prompt to picture": 0, "fix hands": 1, critique: 2, "improve prompt": 2, "self correct": 2, "quality check": 2, "text to image": 20, klein: 4 };

/** A store of the front end's own. @param {string} name @param {(store: any, given: any) => any} work @param {any} [given] */
const store = (name, work, given) =>
  page.evaluate(
    (name, work, given) => {
      const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
      return new Function("store", "given", `return (${work})(store, given)`)($pinia._s.get(name), given);
    },
    name,
    String(work),
    given,
  );

test("search finds the node by artists' words, and the blueprint by its title", async () => {
  const found = await store("nodeDef", (store, words) => words.map((each) => store.nodeSearchService.searchNode(each, [], { limit: 64 }).map(({ display_name }) => display_name)), [...Object.keys(WORDS), "picture in a loop"]);
  const blueprints = found.pop();
  const places = Object.fromEntries(Object.keys(WORDS).map((each, at) => [each, found[at].indexOf("CLVR Quick")]));
  assert.deepEqual(Object.entries(WORDS).filter(([each, most]) => places[each] < 0 || places[each] > most), [], JSON.stringify(places));
  assert.ok(blueprints.includes(BLUEPRINT), String(blueprints));
});

test("the blueprint stands on the graph as one node, and inside it the loaders with their links", async () => {
  await draw(false);
  await page.evaluate(() => globalThis.app.graph.clear());
  // As the front end puts what the search box gives onto the graph.
  await page.evaluate((title) => {
    const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
    const { name } = $pinia._s.get("nodeDef").visibleNodeDefs.find(({ display_name }) => display_name === title);
    const { nodes, definitions } = $pinia._s.get("subgraph").getBlueprint(name);
    globalThis.app.canvas._deserializeItems({ nodes, subgraphs: definitions.subgraphs }, { position: [100, 100] });
  }, BLUEPRINT);
  await still(3);
  const { kinds, widgets, links, prompt } = await page.evaluate(async () => {
    const [node] = globalThis.app.graph.nodes;
    const inner = node.subgraph.nodes;
    return {
      kinds: inner.map(({ comfyClass }) => comfyClass).sort(),
      widgets: node.widgets.map(({ name }) => name),
      links: inner.flatMap(({ properties }) => properties.models ?? []).map(({ url }) => url),
      prompt: Object.values((await globalThis.app.graphToPrompt()).output),
    };
  });
  assert.deepEqual(kinds, ["CLIPLoader", "CLIPLoader", "CLVR_Executor", "CLVR_Generate", "CLVR_VisionModel", "UNETLoader", "VAELoader"]);
  assert.ok(["prompt", "seed", "rounds", "unet_name", "vae_name"].every((name) => widgets.includes(name)), String(widgets));
  assert.equal(links.filter((url) => url.startsWith("https://huggingface.co/")).length, 4);
  const { inputs } = prompt.find(({ class_type }) => class_type === "CLVR_Generate");
  assert.ok([inputs.vlm, inputs.executor].every(Array.isArray) && inputs.rounds === 8 && inputs.prompt.includes("lighthouse"), JSON.stringify(inputs));
  await page.evaluate(() => globalThis.app.graph.clear());
});

test("the App shows the inputs that a newcomer needs", async () => {
  const app = JSON.parse(readFileSync(new URL("0-one-node.app.json", FOLDER), "utf8"));
  await page.evaluate((graph) => globalThis.app.loadGraphData(graph, true, true, "0-one-node.app"), app);
  const shown = await page.waitForFunction(
    () => {
      const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
      const { selectedInputs, hasOutputs } = $pinia._s.get("appMode");
      return hasOutputs && selectedInputs.length && selectedInputs.map(([, name]) => name);
    },
    PATIENCE,
  );
  assert.deepEqual(await shown.jsonValue(), ["prompt", "model", "width", "height", "rounds", "seed"]);
  await page.evaluate(async () => {
    const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
    await globalThis.app.loadGraphData({ ...globalThis.app.graph.serialize(), nodes: [], links: [], extra: {} }, true, true, "plain");
    return $pinia._s.get("appMode").viewMode;
  });
});
