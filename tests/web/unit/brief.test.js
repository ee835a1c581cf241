import assert from "node:assert/strict";
import { test } from "node:test";

import { page } from "./page.js";
import { Checklist } from "../../../web/brief/checklist.js";
import { Forecast, inWords } from "../../../web/brief/forecast.js";
import { modelsOf, sizeOf } from "../../../web/brief/models.js";
import { linesOf, rowsOf } from "../../../web/brief/lines.js";

const TEXT = '[nice] [text] a sign "OPEN"\na barn\n[global] dusk';

test("lines and rows are the same list", () => {
  assert.deepEqual(rowsOf(TEXT), [
    { text: 'a sign "OPEN"', kind: "text", need: "nice" },
    { text: "a barn", kind: "local", need: "must" },
    { text: "dusk", kind: "global", need: "must" },
  ]);
  assert.equal(linesOf(rowsOf(TEXT)), TEXT);
});

test("a mark that is not ours stays in the words, for the server to refuse", () => {
  assert.equal(linesOf(rowsOf("[maybe] a cat")), "[maybe] a cat");
});

const list = () => {
  const kept = [];
  const made = new Checklist((lines) => kept.push(lines));
  return { kept, made, all: (selector) => [...made.host.shadowRoot.querySelectorAll(selector)] };
};
const change = (element, value, event) => {
  element.value = value;
  element.dispatchEvent(new page.window.Event(event));
};

test("what is edited is kept as lines", () => {
  const { kept, made, all } = list();
  made.read("a barn");
  change(all("textarea")[0], "a red barn", "input");
  change(all("select")[1], "nice", "change");
  change(all("select")[0], "global", "change");
  assert.deepEqual(kept, ["a red barn", "[nice] a red barn", "[nice] [global] a red barn"]);
  all("tbody button")[0].click();
  assert.equal(kept.at(-1), "");
  assert.equal(all("tbody tr").length, 0);
});

test("the drafted list is shown, and edited only when it is taken over", () => {
  const { kept, made, all } = list();
  made.suggest(["a barn", "[nice] <img src=x onerror=alert(1)>"]);
  assert.equal(all("textarea").length, 0);
  assert.deepEqual(kept, []);
  assert.equal(all("img").length, 0);
  made.take.click();
  assert.equal(kept.at(-1), "a barn\n[nice] <img src=x onerror=alert(1)>");
  assert.equal(all("textarea").length, 2);
  assert.equal(made.take.hidden, true);
});

test("a row that was just added stays though it has no words yet", () => {
  const { kept, made, all } = list();
  made.add.click();
  assert.equal(all("textarea").length, 1);
  assert.equal(kept.at(-1), "");
});

test("every field has a name", () => {
  const { made, all } = list();
  made.read(TEXT);
  for (const element of all("textarea, select, tbody button")) assert.match(element.getAttribute("aria-label"), /goal \d/i);
});

const memory = {
  device: "cuda:0",
  free: 20.5e9,
  weights: [
    { name: "VLM", bytes: 8.9e9, missing: false },
    { name: "DiT", bytes: 7.8e9, missing: false },
  ],
  mode: "resident",
  fits: true,
  owners: 2,
  largest: "VLM",
  server: [],
  unknown: [],
};

test("the forecast in words", () => {
  assert.equal(
    inWords({ rounds: 12, candidates: 4, calls: 60, seconds: 130, runs: 3, memory }),
    "At most 12 rounds of 4 pictures, 60 calls of the vision model; about 2 min 10 s by 3 earlier runs. cuda:0: VLM 8.9 GB, DiT 7.8 GB; 20.5 GB free: both fit.",
  );
  assert.match(inWords({ rounds: 1, candidates: 1, calls: 1, memory }), /^At most 1 round of 1 picture, 1 call of the vision model; no earlier run to estimate the time from\./);
  const [vlm, dit] = memory.weights;
  const asked = { ...memory, weights: [{ ...vlm, missing: true }, { ...dit, name: "checkpoint", bytes: 2e7 }], mode: "sequential", unknown: ["executor"] };
  assert.match(inWords({ rounds: 1, candidates: 1, calls: 1, memory: asked }), / cuda:0: VLM 8\.9 GB \(not downloaded\), checkpoint 20 MB; 20\.5 GB free: they take turns on the device; how large the executor is, is not known\.$/);
});

test("a forecast that fails says so", async () => {
  const asked = [];
  const line = new Forecast(async (...all) => (asked.push(all), Promise.reject(new Error("budget: rounds is 0"))), () => ({ strategy: "clvr", rounds: 0 }));
  await line.update();
  assert.deepEqual(asked, [["/clvr/forecast", { strategy: "clvr", rounds: 0 }]]);
  assert.equal(line.line.textContent, "budget: rounds is 0");
  line.close();
});

test("what does not fit stands out, and an answer that comes late is not shown", async () => {
  const answers = [];
  let rounds = 1;
  const line = new Forecast(() => new Promise((done) => answers.push(done)), () => ({ rounds }));
  const forecast = (fits) => ({ rounds, candidates: 1, calls: 1, memory: { ...memory, fits } });
  const first = line.update();
  rounds = 2;
  const second = line.update();
  answers[1](forecast(false));
  answers[0](forecast(true));
  await Promise.all([first, second]);
  assert.match(line.line.textContent, /^At most 2 rounds/);
  assert.equal(line.line.className, "note wrong");
  line.close();
});

test("files that are not here are linked, and said to be needed only if nothing is drawn without them", async () => {
  const offers = [{ name: "flux2-vae.safetensors", link: "https://huggingface.co/flux2-vae.safetensors", folder: "vae" }];
  let missing = true;
  const weights = () => memory.weights.map((each) => ({ ...each, missing }));
  const line = new Forecast(async () => ({ rounds: 1, candidates: 1, calls: 1, memory: { ...memory, weights: weights(), offers } }), () => ({ missing }));
  await line.update();
  const [link] = line.offers.querySelectorAll("a");
  assert.deepEqual([link.href, link.textContent, link.target], [offers[0].link, "vae/flux2-vae.safetensors", "_blank"]);
  assert.match(line.offers.textContent, /^Not here yet; /);
  missing = false;
  await line.update();
  assert.match(line.offers.textContent, /^For other pictures /);
  offers.pop();
  await line.update();
  assert.equal(line.offers.textContent, "");
  line.close();
});

test("the models of the one node are its own widgets", () => {
  const node = { id: 4, comfyClass: "CLVR_Quick", graph: { id: "g" }, inputs: [], widgets: [{ name: "model", value: "auto" }, { name: "width", value: 64 }] };
  const source = ["g:4", "CLVR_Quick", { model: "auto" }];
  assert.deepEqual(modelsOf(node), { vlm: [source], executor: [source] });
});

test("a knob that does not matter asks nothing, one that does asks once it rests", async (now) => {
  now.mock.timers.enable({ apis: ["setTimeout"] });
  let [asked, rounds] = [0, 1];
  const line = new Forecast(async () => (asked++, { rounds, candidates: 1, calls: 1, memory }), () => ({ rounds }));
  await line.update();
  line.soon();
  now.mock.timers.runAll();
  assert.equal(asked, 1);
  for (rounds = 2; rounds < 5; rounds++) {
    line.soon();
    now.mock.timers.tick(1);
  }
  assert.equal(asked, 1);
  now.mock.timers.runAll();
  assert.equal(asked, 2);
  line.close();
});

/** A graph by its nodes: number -> [kind, inputs as [name, type, number of the origin], widgets]. */
function graphOf(nodes) {
  const graph = { getNodeById: (id) => made[id] };
  const made = {};
  for (const [id, [comfyClass, inputs = [], widgets = {}]] of Object.entries(nodes)) {
    made[id] = {
      ...{ id, comfyClass, graph },
      inputs: inputs.map(([name, type]) => ({ name, type })),
      widgets: Object.entries(widgets).map(([name, value]) => ({ name, value })),
      getInputLink: (slot) => (inputs[slot][2] === undefined ? null : { origin_id: inputs[slot][2] }),
    };
  }
  return made;
}

test("the models of a node are named by their loaders", () => {
  const nodes = graphOf({
    1: ["CLVR_Generate", [["image", "IMAGE", 9], ["vlm", "CLVR_VLM", 2], ["executor", "CLVR_EXECUTOR", 4]]],
    2: ["CLVR_VisionModel", [["clip", "CLIP", 3]]],
    3: ["CLIPLoader", [], { clip_name: "eyes.safetensors", device: "default", secret: "x".repeat(301), number: 5 }],
    4: ["CLVR_Executor", [["model", "MODEL", 5], ["clip", "CLIP", 3], ["vae", "VAE"]]],
    5: ["ModelMerge", [["model1", "MODEL", 6], ["model2", "MODEL", 7], ["mask", "MASK", 9]]],
    6: ["Reroute", [["", "*", 8]]],
    7: ["UNETLoader", [], { unet_name: "other.safetensors" }],
    8: ["UNETLoader", [["again", "*", 4]], { unet_name: "base.safetensors" }],
    9: ["LoadImage", [], { image: "private.png" }],
  });
  const { vlm, executor } = modelsOf(nodes[1]);
  assert.deepEqual(vlm, [[":2", "CLVR_VisionModel", {}], [":3", "CLIPLoader", { clip_name: "eyes.safetensors", device: "default" }]]);
  assert.deepEqual(executor.map(([number]) => number).sort(), [":3", ":4", ":5", ":6", ":8"]);
  assert.deepEqual(modelsOf(nodes[9]), { vlm: [], executor: [] });
});

test("the canvas is the one of what draws", () => {
  const executor = [["executor", "CLVR_EXECUTOR", 2]];
  const sized = (kind, widgets) => sizeOf(graphOf({ 1: ["CLVR_Generate", executor], 2: [kind, [], widgets] })[1]);
  assert.deepEqual(sized("CLVR_Executor", { width: 1024, height: 768, recipe: "klein" }), { width: 1024, height: 768 });
  assert.deepEqual(sized("CLVR_ShapesModels", {}), { width: 192, height: 192 });
  assert.deepEqual(sized("Reroute", {}), {});
  assert.deepEqual(sizeOf(graphOf({ 1: ["CLVR_Brief", [["executor", "CLVR_EXECUTOR", null]]] })[1]), {});
});

test("what a subgraph holds counts with it", () => {
  const nodes = graphOf({ 1: ["CLVR_Brief", [["vlm", "CLVR_VLM", 2]]], 2: ["subgraph"], 3: ["CLIPLoader", [], { clip_name: "a" }] });
  nodes[2].subgraph = { nodes: [nodes[3]] };
  assert.deepEqual(modelsOf(nodes[1]).vlm.map(([, kind]) => kind), ["subgraph", "CLIPLoader"]);
});
