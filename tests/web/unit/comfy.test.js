/** The parts inside ComfyUI, over a front end that is only as much as they use. */

import assert from "node:assert/strict";
import { deflateSync } from "node:zlib";
import { beforeEach, test } from "node:test";

import { all, page } from "./page.js";
import { HOSTILE, drawn, run } from "./runs.js";
import { attach, restore } from "../../../web/comfy/node.js";
import { again, menuOf } from "../../../web/comfy/again.js";
import { attachFailure } from "../../../web/comfy/failure.js";
import { keepGraph, openPicture } from "../../../web/comfy/drop.js";
import { textsIn } from "../../../web/comfy/png.js";
import { Runs } from "../../../web/comfy/runs.js";
import { Sidebar } from "../../../web/comfy/sidebar.js";

const { brief, goals, models, steps, outcome } = run();
const LINES = [
  { event: "start", schema: 1, brief, models },
  { event: "planned", goals },
  { event: "action", result: { action: steps[0].action } },
  { event: "drawn", result: { candidates: drawn(0, 1, 2, 3) } },
  { event: "step", steps: [steps[0]], current: 2, best: 2 },
  { event: "end", steps: steps.slice(1), current: 6, best: 6, outcome },
].map((line) => JSON.stringify(line));

class FakeApi extends page.window.EventTarget {
  listening = new Map();
  asked = [];
  known = LINES.length;
  addEventListener(type, listener, options) {
    this.listening.set(listener, type);
    super.addEventListener(type, listener, options);
  }
  removeEventListener(type, listener) {
    this.listening.delete(listener);
    super.removeEventListener(type, listener);
  }
  apiURL(route) {
    return `/api${route}`;
  }
  posted = [];
  listed = [
    { run: "r-1", prompt: HOSTILE, steps: 5, met: true, first: "0", seed: "42", strategy: "clvr", goals: 3, goals_met: 3, best: null, changed: 2e9 },
    { run: "saved/x-1", prompt: "y", steps: 1, met: null, first: "", seed: "7", strategy: "director", goals: 0, goals_met: 0, best: 0, changed: 1e9 },
  ];
  async fetchApi(route, { body } = {}) {
    this.asked.push(route);
    if (body) this.posted.push([route, JSON.parse(body)]);
    if (route === "/clvr/runs/delete") return { ok: true, json: async () => ({ folder: "clvr-trash/r-1" }) };
    if (route === "/clvr/runs/open") return { ok: true, json: async () => ({ shown: false, folder: "output/clvr/r-1" }) };
    if (route === "/clvr/runs/stop") return { ok: false, status: 400, json: async () => ({ error: "the run r-1 has ended already" }) };
    if (route === "/clvr/runs/anew") return { ok: true, json: async () => ({}) };
    if (route === "/clvr/runs/take-back") return { ok: false, status: 400, json: async () => ({ error: "you have said nothing" }) };
    const { pathname, searchParams } = new URL(route, "http://127.0.0.1");
    const answer = (ok, body) => ({ ok, status: ok ? 200 : 404, json: async () => body });
    if (pathname === "/queue") return answer(true, { queue_running: [[0, "running", {}, { extra_pnginfo: { workflow: { id: "mine" } } }]] });
    if (pathname.startsWith("/history/")) return answer(true, { over: { prompt: [0, "over", {}, { extra_pnginfo: { workflow: { id: "another" } } }] } });
    if (pathname === "/clvr/runs") return answer(true, { runs: this.listed });
    if (searchParams.get("run") !== "r-1") return answer(false, { error: "the run is not there any more" });
    return answer(true, { total: this.known, lines: LINES.slice(Number(searchParams.get("from")), this.known) });
  }
  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

class FakeNode {
  properties = {};
  inputs = [];
  widgets = [];
  constructor(id, graph = { getNodeById: () => null }) {
    Object.assign(this, { id, graph });
  }
  getInputLink(slot) {
    const { link } = this.inputs[slot];
    return link === null ? null : { origin_id: link };
  }
  removeWidget(widget) {
    this.widgets.splice(this.widgets.indexOf(widget), 1);
  }
  addDOMWidget(name, type, element, options) {
    const made = { name, type, element, options };
    this.widgets.push(made);
    document.body.append(element);
    return made;
  }
}

/** The viewer on a node that comes into its workflow. */
function attached(node, noted = () => {}) {
  const panel = attach(node, runs, noted);
  node.onAdded();
  return panel;
}

const settled = async () => {
  for (let turn = 0; turn < 12; turn++) await new Promise((done) => setTimeout(done, 0));
};
const inside = (panel) => panel.host.shadowRoot;
let api;
let runs;
beforeEach(() => {
  document.body.replaceChildren();
  api = new FakeApi();
  runs = new Runs(api);
});

test("a node shows the run it is at work on, as it grows", async () => {
  const node = new FakeNode(3);
  let noted = 0;
  const panel = attached(node, () => noted++);
  assert.match(inside(panel).textContent, /Press Run/);
  api.known = 4;
  api.tell("clvr.node", { run: "r-1", node: "3" });
  await settled();
  assert.match(inside(panel).textContent, /judging 4 pictures/);
  api.known = 5;
  api.tell("clvr.run", { run: "r-1" });
  await settled();
  assert.match(inside(panel).textContent, /Not finished/);
  api.known = 6;
  api.tell("clvr.run", { run: "r-1" });
  api.tell("clvr.run", { run: "r-1" });
  api.tell("clvr.run", { run: "another" });
  await settled();
  assert.match(inside(panel).textContent, /Brief met/);
  assert.deepEqual(api.asked.map((route) => route.match(/from=(\d+)/)[1]), ["0", "4", "5", "6"]);
  assert.equal(inside(panel).querySelector("#canvas-2 img").getAttribute("src"), "/api/clvr/canvas?run=r-1&canvas=2");
  api.tell("clvr.node", { run: "r-1", node: "3" });
  assert.deepEqual([node.properties.clvr_run, noted], ["r-1", 1], "the workflow changes once a run");
});

test("a node shows what a node that feeds it does, and no other's", async () => {
  const nodes = {};
  const graph = { getNodeById: (id) => nodes[id] };
  for (const id of [1, 2, 3, 9]) nodes[id] = new FakeNode(id, graph);
  nodes[3].inputs = [{ link: null }, { link: 2 }];
  nodes[2].inputs = [{ link: 1 }, { link: 3 }];
  const panel = attached(nodes[3]);
  for (const node of ["9", "", null]) api.tell("clvr.node", { run: "r-1", node });
  assert.equal(panel.run, null);
  api.tell("clvr.node", { run: "r-1", node: "12:1" });
  assert.equal(panel.run, "r-1");
});

test("a node of another workflow with the same number shows nothing", () => {
  const node = new FakeNode(3, { id: "mine", getNodeById: () => null });
  const panel = attached(node);
  api.tell("clvr.node", { run: "r-1", node: "3", workflow: "another" });
  assert.equal(panel.run, null);
  api.tell("clvr.node", { run: "r-1", node: "3", workflow: "mine" });
  assert.equal(panel.run, "r-1");
});

test("a node that ComfyUI did not execute, since its result was in the cache, shows the run that its output names", async () => {
  const node = new FakeNode(3, { id: "mine", getNodeById: () => null });
  node.widgets.push({ name: "$$node-text-preview", value: "what an earlier run said" });
  const panel = attached(node);
  for (const [prompt_id, display_node, output] of [["over", "3", { clvr_run: ["r-1"] }], ["running", "4", { clvr_run: ["r-1"] }], ["running", "3", null]]) api.tell("executed", { node: "9", display_node, prompt_id, output });
  await settled();
  assert.deepEqual([panel.run, node.widgets.length], [null, 2], "another workflow, another node, no run");
  api.tell("executed", { node: "12:3", prompt_id: "running", output: { clvr_run: ["r-1"], images: [] } });
  await settled();
  assert.equal(panel.run, "r-1");
  assert.deepEqual(node.widgets.map(({ name }) => name), ["clvr_viewer"]);
  assert.match(inside(panel).textContent, /Brief met/);
});

test("what stopped a run stands in the viewers of its node and of those behind it, until the next run", async () => {
  const nodes = {};
  const graph = { id: "mine", getNodeById: (id) => nodes[id] };
  for (const id of [2, 3]) nodes[id] = new FakeNode(id, graph);
  nodes[3].inputs = [{ link: 2 }];
  nodes[2].title = "Draw";
  const [own, behind] = [attached(nodes[2]), attached(nodes[3])];
  const shown = (panel) => [...inside(panel).querySelectorAll(".notice")].filter((each) => !each.closest("[hidden]")).map(({ textContent }) => textContent);
  const fails = async (prompt_id) => {
    api.tell("execution_error", { node_id: "2", node_type: "KSampler", prompt_id, exception_message: "out of memory\n\n" });
    await settled();
  };
  await fails("over");
  assert.match(String(shown(own)), /^Press Run/, "that was another workflow");
  await fails("running");
  assert.deepEqual([shown(own), shown(behind)], [["out of memory"], ["Draw: out of memory"]]);
  api.tell("execution_start", { prompt_id: "next" });
  assert.match(String(shown(own)), /^Press Run/);
  own.follow("r-1");
  await settled();
  await fails("running");
  assert.match(inside(own).textContent, /^out of memory.*Brief met/s, "above what there is of the run");
});

test("on a node without a viewer an error's sentence makes room for itself, and goes with it", async () => {
  const node = new FakeNode(2, { id: "mine", getNodeById: () => null });
  node.size = [200, 100];
  node.setSize = (size) => (node.size = size);
  attachFailure(node, runs);
  node.onAdded();
  for (const words of ["one", "two"]) {
    api.tell("execution_error", { node_id: "2", node_type: "CLVR_Brief", prompt_id: "running", exception_message: words });
    await settled();
    assert.deepEqual(node.widgets.map(({ element }) => element.shadowRoot.querySelector("[role=alert]").textContent), [words]);
    node.size = [200, 250]; // as ComfyUI does for a new widget
  }
  api.tell("execution_start", {});
  assert.deepEqual([node.widgets, node.size], [[], [200, 100]]);
});

test("a node that never comes into a workflow listens to nothing", () => {
  const panel = attach(new FakeNode(3, null), runs, () => {});
  api.tell("clvr.node", { run: "r-1", node: "3" });
  assert.deepEqual([api.listening.size, panel.run], [0, null]);
});

test("a node removed with its subgraph, without a call of onRemoved, stops listening at the next event", () => {
  const root = { id: "root", subgraphs: new Map(), getNodeById: () => null };
  const graph = { id: "inner", rootGraph: root, getNodeById: () => null };
  root.subgraphs.set("inner", graph);
  const node = new FakeNode(3, graph);
  const panel = attached(node);
  api.tell("clvr.node", { run: "r-1", node: "7:3", workflow: "root" });
  assert.equal(panel.run, "r-1");
  root.subgraphs = new Map([["inner", { ...graph }]]);
  api.tell("clvr.node", { run: "r-2", node: "7:3", workflow: "root" });
  assert.deepEqual([api.listening.size, panel.host.isConnected], [0, false]);
});

test("after a reload it shows the run that the workflow remembers, or says that it is gone", async () => {
  const node = new FakeNode(3);
  node.properties.clvr_run = "gone";
  const panel = attach(node, runs, () => assert.fail("nothing has changed"));
  restore(node, panel);
  await settled();
  assert.match(inside(panel).querySelector("[role=alert]").textContent, /the run is not there any more/);
  node.properties.clvr_run = { not: "a name" };
  restore(node, panel);
  assert.equal(panel.run, "gone");
});

test("a run whose record became shorter is read anew", async () => {
  const panel = attach(new FakeNode(3), runs, () => {});
  panel.follow("r-1");
  await settled();
  api.known = 5;
  api.tell("clvr.run", { run: "r-1" });
  await settled();
  assert.match(inside(panel).textContent, /Not finished/);
});

test("what is being drawn is shown in the viewer of the node, and no longer once it is drawn", async () => {
  const node = new FakeNode(3);
  const panel = attached(node);
  const live = () => inside(panel).querySelector(".live:not([hidden]) figcaption")?.textContent ?? "";
  const preview = async (displayNodeId) => {
    api.tell("b_preview_with_metadata", { blob: new Blob(["x"]), displayNodeId, jobId: "running" });
    await settled();
    return live();
  };
  api.known = 2;
  panel.follow("r-1");
  await settled();
  assert.equal(await preview("3"), "", "nothing is drawn yet");
  api.known = 3;
  api.tell("clvr.run", { run: "r-1" });
  await settled();
  assert.deepEqual([await preview("4"), await preview("3")], ["", "Step 1 is drawn"]);
  api.known = 4;
  api.tell("clvr.run", { run: "r-1" });
  await settled();
  assert.deepEqual([live(), await preview("3")], ["", ""]);
  panel.destroy();
});

test("a candidate of a run can be picked in its viewer, of a saved run or a lone picture none", async () => {
  const panel = attached(new FakeNode(3));
  const picked = [];
  panel.pick = (...what) => picked.push(what);
  panel.follow("r-1");
  await settled();
  const buttons = () => all(inside(panel), "[data-pick]");
  assert.deepEqual(buttons().map((button) => button.dataset.pick), ["0", "1", "3"]);
  buttons()[1].click();
  assert.deepEqual(picked, [["r-1", 1]]);
  panel.show(run(), () => ({ missing: "" }));
  assert.equal(buttons().length, 0);
  panel.destroy();
});

test("nothing listens any more when the node is removed", async () => {
  let called = 0;
  const node = new FakeNode(3);
  node.onRemoved = function (...details) {
    assert.equal(this, node);
    called += details.length;
  };
  const panel = attached(node);
  panel.follow("r-1");
  assert.equal(api.listening.size, 8);
  node.onRemoved(1, 2);
  assert.deepEqual([api.listening.size, called, panel.host.isConnected], [0, 2, false]);
  const before = api.asked.length;
  api.tell("clvr.node", { run: "r-1", node: "3" });
  api.tell("clvr.run", { run: "r-1" });
  await settled();
  assert.equal(api.asked.length, before);
  assert.equal(inside(panel).textContent, "");
});

test("a key pressed in the panel does not reach the graph, a shortcut does", () => {
  const panel = attach(new FakeNode(3), runs, () => {});
  const heard = [];
  const listen = (event) => heard.push(event.key);
  document.addEventListener("keydown", listen);
  for (const [key, ctrlKey] of [["Delete", false], ["Enter", true]]) inside(panel).querySelector(".clvr").dispatchEvent(new KeyboardEvent("keydown", { key, ctrlKey, bubbles: true, composed: true }));
  document.removeEventListener("keydown", listen);
  assert.deepEqual(heard, ["Enter"]);
});

class FakeManager {
  toasts = [];
  toast = { add: (toast) => this.toasts.push(toast) };
  tabs = [];
  sidebarTab = { activeSidebarTabId: null, registerSidebarTab: (tab) => this.tabs.push(tab) };
  command = {
    execute: () => {
      this.sidebarTab.activeSidebarTabId = "clvr";
      this.tabs[0].render(this.place);
    },
  };
  place = document.body.appendChild(document.createElement("div"));
}

test("the sidebar lists the runs and opens one", async () => {
  const manager = new FakeManager();
  new Sidebar(runs, manager).register();
  manager.command.execute();
  await settled();
  const root = manager.place.firstChild.shadowRoot;
  const buttons = all(root, ".runs button");
  assert.deepEqual(buttons.map((button) => button.querySelector(".row").textContent), ["brief met3 of 3", "not finished"]);
  assert.match(buttons[0].textContent, /<img src=x/);
  assert.deepEqual(all(root, ".runs img, .runs b").map((image) => image.getAttribute("src")), ["/api/clvr/thumb?run=saved%2Fx-1&canvas=0&at=1000000000"]);
  buttons[0].click();
  await settled();
  assert.match(root.querySelector(".clvr-panel").shadowRoot.textContent, /Brief met/);
  assert.equal(root.querySelector(".choosing").hidden, true);
  root.querySelector(".viewing button").click();
  assert.equal(root.querySelector(".choosing").hidden, false);
  assert.equal(api.listening.size, 3);
  manager.tabs[0].destroy();
  assert.deepEqual([api.listening.size, manager.place.childNodes.length], [2, 0], "of errors it hears all the time");
});

test("an error is said in the sidebar and in a toast, that of another pack is not", () => {
  const manager = new FakeManager();
  new Sidebar(runs, manager).register();
  api.tell("execution_error", { node_type: "KSampler", exception_message: "out of memory" });
  api.tell("execution_error", { node_type: "CLVR_Generate", exception_message: "rounds is 0\n" });
  assert.deepEqual(manager.toasts.map(({ severity, detail }) => [severity, detail]), [["error", "rounds is 0"]]);
  manager.command.execute();
  const root = manager.place.firstChild.shadowRoot;
  assert.equal(root.querySelector("[role=alert]").textContent, "rounds is 0");
  api.tell("execution_start", {});
  assert.equal(root.querySelector("[role=alert]"), null);
});

test("a run is set aside from the sidebar and from the menu of a node, a saved run is not", async () => {
  const manager = new FakeManager();
  new Sidebar(runs, manager).register();
  manager.command.execute();
  await settled();
  const root = manager.place.firstChild.shadowRoot;
  const [first, saved] = all(root, ".runs button");
  first.click();
  for (const button of all(root, ".afresh button").slice(1)) button.click();
  const node = new FakeNode(3);
  assert.deepEqual(menuOf(node, () => {}, () => {}), []);
  node.properties.clvr_run = "r-1";
  const items = menuOf(node, (way, run) => again(runs, manager.toast, way, run), () => {});
  assert.deepEqual(items.map(({ content }) => content), ["CLVR: Stop after this round", "CLVR: Start anew", "CLVR: Take back what I said"]);
  await settled();
  items[1].callback();
  await settled();
  assert.deepEqual(api.posted, [["/clvr/runs/anew", { run: "r-1" }], ["/clvr/runs/take-back", { run: "r-1" }], ["/clvr/runs/anew", { run: "r-1" }]]);
  assert.deepEqual(manager.toasts.map(({ severity, detail }) => [severity, detail.slice(0, 21)]), [["info", "Press Run: the same b"], ["error", "you have said nothing"], ["info", "Press Run: the same b"]]);
  root.querySelector(".viewing button").click();
  saved.click();
  assert.equal(root.querySelector(".afresh").hidden, true);
  node.properties.clvr_run = "saved/x-1";
  assert.deepEqual(menuOf(node, () => {}, () => {}), []);
});

/** A PNG with these text chunks and nothing else: only its texts are read. */
function png(chunks) {
  const part = (kind, content) => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(content.length, 0);
    head.write(kind, 4, "latin1");
    return Buffer.concat([head, content, Buffer.alloc(4)]);
  };
  const parts = chunks.map(([kind, key, rest]) => part(kind, Buffer.concat([Buffer.from(`${key}\0`), Buffer.from(rest)])));
  return new File([Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]), ...parts], "a.png", { type: "image/png" });
}
const plain = (text) => Buffer.concat([Buffer.from([0, 0, 0, 0]), Buffer.from(text)]);
const packed = (text) => Buffer.concat([Buffer.from([1, 0, 0, 0]), deflateSync(text)]);

test("the trajectory of a picture is read, however its text is written", async () => {
  const text = '{"brief": {"prompt": "\u00e9"}}';
  for (const chunk of [["iTXt", "clvr", plain(text)], ["iTXt", "clvr", packed(text)], ["zTXt", "clvr", Buffer.concat([Buffer.alloc(1), deflateSync(Buffer.from(text, "latin1"))])], ["tEXt", "clvr", Buffer.from(text, "latin1")]]) {
    assert.deepEqual(await textsIn(png([chunk, ["iTXt", "clvr_canvas", plain("6")]])), { json: text, canvas: 6, workflow: "" });
  }
});

test("pictures of others carry no trajectory", async () => {
  const broken = png([["iTXt", "workflow", Buffer.from([1, 0, 0, 0, 9])]]);
  for (const file of [broken, png([]), new File(["GIF89a"], "a.png"), new File([], "a.png")]) assert.deepEqual(await textsIn(file), { json: undefined, canvas: null, workflow: "" });
});

test("hostile metadata is refused in words", async () => {
  await assert.rejects(textsIn(png([["iTXt", "clvr", packed("x".repeat((16 << 20) + 1))]])), /larger than 16 MB/);
  await assert.rejects(textsIn(png([["iTXt", "clvr", plain("x".repeat((16 << 20) + 1))]])), /larger than 16 MB/);
  await assert.rejects(textsIn(png([["iTXt", "clvr", Buffer.concat([Buffer.from([1, 0, 0, 0]), Buffer.from("junk")])]])), /cannot be unpacked/);
  await assert.rejects(textsIn(png([["iTXt", "clvr", Buffer.from([0, 0])]])), /no beginning/);
  const { size } = png([]);
  const cut = png([["iTXt", "clvr", plain("{}")]]);
  assert.equal((await textsIn(new File([cut.slice(0, size + 12)], "a.png"))).json, undefined);
});

async function dropped(file) {
  URL.createObjectURL = () => "blob:own";
  URL.revokeObjectURL = () => {};
  const manager = new FakeManager();
  const sidebar = new Sidebar(runs, manager);
  sidebar.register();
  await openPicture(file, runs, sidebar);
  await settled();
  const root = manager.place.firstChild?.shadowRoot.querySelector(".clvr-panel").shadowRoot;
  return { root, close: () => manager.tabs[0].destroy() };
}

test("ComfyUI opens no graph for a picture of the pack that has none, and every other file as before", async () => {
  const opened = [];
  const app = { handleFile: async (file, ...rest) => opened.push([file.name, ...rest]) };
  keepGraph(app);
  const named = (file, name) => new File([file], name, { type: "image/png" });
  await app.handleFile(named(png([["iTXt", "clvr", plain("{}")], ["tEXt", "parameters", Buffer.from("x\nSteps: 1")]]), "own"));
  await app.handleFile(named(png([["iTXt", "clvr", plain("{}")], ["iTXt", "workflow", plain("{}")]]), "with workflow"), "drop");
  await app.handleFile(named(png([["tEXt", "parameters", Buffer.from("x\nSteps: 1")]]), "another's"));
  await app.handleFile(new File(["{}"], "graph.json", { type: "application/json" }));
  assert.deepEqual(opened, [["with workflow", "drop"], ["another's"], ["graph.json"]]);
});

const showing = (run) => ({ id: 3, type: "CLVR_Generate", properties: { clvr_run: run } });
const carrying = (record, canvas, ...more) => png([["iTXt", "clvr", packed(JSON.stringify(record))], ["iTXt", "clvr_canvas", plain(canvas)], ...more]);

test("a dropped picture of the pack opens its run as it lies in the output folder", async () => {
  const { root, close } = await dropped(carrying({ ...run(), steps: run().steps.slice(0, 1), outcome: null }, "6"));
  assert.match(root.textContent, /Brief met/);
  assert.equal(root.querySelector("#canvas-2 img").getAttribute("src"), "/api/clvr/canvas?run=r-1&canvas=2");
  assert.equal(root.querySelector(".shown"), null, "the one that was handed over stands on top");
  close();
});

test("a canvas on the way is brought into view, found by the name in its workflow if it was the first", async () => {
  const workflow = ["tEXt", "workflow", Buffer.from(JSON.stringify({ nodes: [showing("r-1")] }))];
  const { root, close } = await dropped(carrying({ ...run(), steps: [], outcome: null, best: null }, "1", workflow));
  assert.match(root.textContent, /Brief met/);
  assert.equal(root.querySelector(".shown").id, "canvas-1");
  close();
});

test("a picture whose run is elsewhere shows itself, and words for the other canvases", async () => {
  const record = run();
  record.steps[0].candidates[0].sha256 = "f";
  const { root, close } = await dropped(carrying(record, "6"));
  assert.match(root.querySelector("#canvas-2").textContent, /is not in this picture, and its run not in the output folder/);
  assert.equal(root.querySelector("#canvas-6 img").getAttribute("src"), "blob:own");
  close();
  const first = await dropped(carrying({ ...record, steps: [], outcome: null, best: null }, "0"));
  assert.equal(first.root.querySelector(".doing img").getAttribute("src"), "blob:own");
  first.close();
});

for (const [name, text, words] of [
  ["a newer schema", JSON.stringify({ ...run(), schema: 9 }), /schema version 9/],
  ["nonsense", "{", /damaged/],
  ["too much", "x".repeat((16 << 20) + 1), /larger than 16 MB/],
]) {
  test(`a dropped picture with ${name} is refused in words`, async () => {
    const { root, close } = await dropped(png([["iTXt", "clvr", packed(text)]]));
    assert.match(root.querySelector("[role=alert]").textContent, words);
    close();
  });
}

const saved = (workflow) => png([["tEXt", "workflow", Buffer.from(JSON.stringify(workflow))]]);

test("a picture that another node saved opens the run that its workflow names", async () => {
  for (const workflow of [{ nodes: [showing("gone"), showing("r-1"), {}, null] }, { definitions: { subgraphs: [{ nodes: [showing("r-1")] }] } }]) {
    const { root, close } = await dropped(saved(workflow));
    assert.match(root.textContent, /Brief met/);
    assert.equal(root.querySelector("#canvas-6 img").getAttribute("src"), "/api/clvr/canvas?run=r-1&canvas=6");
    close();
  }
});

test("a picture of someone else's opens nothing, whatever its workflow is", async () => {
  for (const workflow of [{}, null, [], { nodes: 5 }, { nodes: [showing(["r-1"]), showing("gone"), showing("../r-1")] }]) {
    assert.equal((await dropped(saved(workflow))).root, undefined);
  }
});
