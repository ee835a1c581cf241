/** A real ComfyUI in a real browser, for all tests that share its one page: what it shows, and what a person does to it. */

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { open, watch } from "./browser.js";

export const { URL: address, OUT, FRONT } = process.env;
export const PATIENCE = { timeout: 150_000 };
/** Whether Nodes 2.0 draws, for each renderer that this front end is tested with. */
export const RENDERERS = (process.env.RENDERERS ?? "litegraph nodes2").split(" ").map((name) => name === "nodes2");
/** Whether this front end is tested with all there is, and not only with what it draws itself. */
export const EVERYTHING = process.env.EVERYTHING !== "";
const FRAMES = 20;
const SETTINGS = {
  "Comfy.TutorialCompleted": true,
  "Comfy.VueNodes.Enabled": false,
  "Comfy.Workflow.Persist": true,
  "Comfy.ColorPalette": "dark",
  "Comfy.Minimap.Visible": false,
  "Comfy.Workflow.ShowMissingModelsWarning": false,
};
let chromium;
/** @type {import("puppeteer-core").Page} */
export let page;
export let seen;
before(async () => {
  await fetch(`${address}/api/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(SETTINGS) });
  chromium = await open({ width: 1400, height: 1300 }, ["--use-gl=swiftshader"]);
  page = await tab();
  seen = watch(page);
});
after(() => chromium.close());

/** Another tab, with the pack at work in it. */
export async function tab() {
  const fresh = await chromium.browser.newPage();
  fresh.setDefaultTimeout(180_000);
  fresh.on("dialog", (dialog) => dialog.accept());
  await fresh.evaluateOnNewDocument(helpers);
  await fresh.goto(address, { waitUntil: "domcontentloaded" });
  await ready(fresh);
  return fresh;
}

/** @param {import("puppeteer-core").Page} at */
export async function ready(at) {
  await at.waitForFunction(
    () => globalThis.app?.graph && globalThis.app.extensionManager?.sidebarTab?.sidebarTabs.some(({ id }) => id === "clvr") && document.querySelector(".clvr-review"),
    PATIENCE,
  );
  await at.evaluate(() => {
    const { api } = globalThis.app;
    const { begun, over } = globalThis.clvr;
    api.addEventListener("execution_error", ({ detail }) => (globalThis.clvrFailure = detail.exception_message));
    for (const type of ["execution_start", "executed", "progress_state"]) api.addEventListener(type, ({ detail }) => begun.add(detail.prompt_id));
    for (const type of ["execution_success", "execution_error", "execution_interrupted"]) api.addEventListener(type, ({ detail }) => over.add(detail.prompt_id));
    const queuePrompt = api.queuePrompt.bind(api);
    api.queuePrompt = async (...given) => {
      const answer = await queuePrompt(...given);
      begun.add(answer.prompt_id);
      return answer;
    };
  });
}

/**
 * Once the page has heard that all that it queued is over. A viewer says that a run has ended before its node has: what the server
 * says of the node after that would be taken for news by a graph that was loaded meanwhile.
 */
export const over = () => page.waitForFunction(() => [...globalThis.clvr.begun].every((id) => globalThis.clvr.over.has(id)), PATIENCE);

/** Stands in the page as globalThis.clvr: the roots of the pack's panels, those in a sidebar's shadow too, and their texts. */
function helpers() {
  const panels = (root) => [...root.querySelectorAll(".clvr-panel")].flatMap(({ shadowRoot }) => [shadowRoot, ...panels(shadowRoot)]);
  globalThis.clvr = {
    // The prompts that this page queued or heard of, and those that are over.
    begun: new Set(),
    over: new Set(),
    panels: () => panels(document),
    texts: () => panels(document).map((root) => root.querySelector(".clvr").textContent),
    review: () => document.querySelector(".clvr-review")?.shadowRoot.querySelector(".review"),
    before: (selector) => [...document.querySelectorAll(".clvr-before")].map(({ shadowRoot }) => shadowRoot.querySelector(selector)).find(Boolean),
    node: (kind) => globalThis.app.graph.nodes.find(({ comfyClass }) => comfyClass === kind),
  };
}

export const texts = () => page.evaluate(() => globalThis.clvr.texts());

export async function waitForText(pattern) {
  const found = await page.waitForFunction(
    (source) => globalThis.clvrFailure || globalThis.clvr.texts().some((text) => new RegExp(source, "s").test(text)),
    PATIENCE,
    pattern.source,
  );
  assert.equal(await found.jsonValue(), true);
}

/** Opens a graph with these nodes in sight, each with its place and size, and the others out of it. @param {string} graph @param {Record<string, number[]>} places */
export async function load(graph, places) {
  await over();
  await page.evaluate(
    async (graph, places) => {
      const { app } = globalThis;
      await app.loadApiJson(JSON.parse(graph), "clvr");
      app.graph.nodes.forEach((node, number) => {
        const [x, y, width, height] = places[node.comfyClass] ?? [2500, 200 * number, 300, 150];
        node.pos = [x, y];
        node.setSize([width, height]);
      });
      app.canvas.ds.scale = 1;
      app.canvas.ds.offset = [80, 130];
      app.canvas.setDirty(true, true);
      app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState();
    },
    graph,
    places,
  );
  await still();
}

/** Once nothing runs any more. @param {boolean} vue whether Nodes 2.0 draws */
export async function draw(vue) {
  await over();
  await page.evaluate((vue) => globalThis.app.extensionManager.setting.set("Comfy.VueNodes.Enabled", vue), vue);
  await page.waitForFunction((vue) => Boolean(document.querySelector("[data-node-id]")) === vue || !globalThis.app.graph.nodes.length, PATIENCE, vue);
}


/** Once the page has drawn so many frames in which no node and none of the pack's elements moved or said anything else. */
export async function still(frames = FRAMES) {
  await page.waitForFunction(
    (frames) => {
      const hosts = [...document.querySelectorAll(".clvr-panel, .clvr-before, .clvr-review")];
      const boxes = hosts.map((host) => Object.values(host.getBoundingClientRect().toJSON()));
      const nodes = globalThis.app.graph.nodes.map(({ boundingRect }) => [...boundingRect]);
      const now = JSON.stringify([window.innerWidth, window.innerHeight, boxes, nodes, globalThis.clvr.texts(), globalThis.clvr.before(".clvr")?.textContent]);
      globalThis.clvr.alike = now === globalThis.clvr.drawn ? globalThis.clvr.alike + 1 : 0;
      globalThis.clvr.drawn = now;
      return globalThis.clvr.alike >= frames || ((globalThis.clvr.alike %= frames), false);
    },
    { ...PATIENCE, polling: "raf" },
    frames,
  );
  await page.evaluate(() => delete globalThis.clvr.drawn);
}

export const queue = () => page.evaluate(() => globalThis.app.queuePrompt(0));

/** Drops on the graph the picture at this address, with these texts behind its own, where decoders look no more and readers of metadata do. @param {string} route @param {Record<string, string>} [texts] */
export async function drop(route, texts = {}) {
  await page.evaluate(
    async (route, texts) => {
      const blob = await (await fetch(route)).blob();
      const chunks = Object.entries(texts).map(([key, text]) => {
        const content = new TextEncoder().encode(`tEXt${key}\0${text}`);
        const chunk = new Uint8Array(8 + content.length);
        new DataView(chunk.buffer).setUint32(0, content.length - 4);
        chunk.set(content, 4);
        return chunk;
      });
      const data = new DataTransfer();
      data.items.add(new File([blob, ...chunks], "dropped.png", { type: "image/png" }));
      document.querySelector("#graph-canvas").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true, composed: true, clientX: 700, clientY: 500 }));
    },
    route,
    texts,
  );
}

/** The upper left of the first panel, once its pictures are there. @param {string} name */
export async function shoot(name) {
  await still();
  const [host] = await page.$$(".clvr-panel");
  await page.evaluate(async () => {
    const images = globalThis.clvr.panels().flatMap((root) => [...root.querySelectorAll("img")]);
    await Promise.all(images.map((image) => ((image.loading = "eager"), image.decode().catch(() => {}))));
  });
  const box = await host.boundingBox();
  await page.screenshot({ path: `${OUT}/${name}.png`, captureBeyondViewport: false, clip: { x: Math.ceil(box.x), y: Math.ceil(box.y), width: 480, height: 330 } });
}

/** An element in one of the pack's shadow roots, to click and to type into. @param {(clvr: any) => Element} find @param {import("puppeteer-core").Page} [at] */
export async function element(find, at = page) {
  const handle = await at.evaluateHandle(`(${find})(globalThis.clvr)`);
  const found = handle.asElement();
  assert.ok(found, String(find));
  return found;
}
