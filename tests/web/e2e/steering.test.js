/** Before and between rounds, on a real ComfyUI: the checklist and the forecast on Brief, the Review node's question in every tab. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open } from "./browser.js";

const { URL: address, OUT, GRAPH } = process.env;
const PATIENCE = { timeout: 120_000 };
let chromium;
let page;
before(async () => {
  const settings = { "Comfy.TutorialCompleted": true, "Comfy.Workflow.Persist": false, "Comfy.VueNodes.Enabled": false };
  await fetch(`${address}/api/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(settings) });
  chromium = await open({ width: 1400, height: 1000 }, ["--use-gl=swiftshader"]);
  page = await arrive();
});
after(() => chromium.close());

async function arrive() {
  const tab = await chromium.browser.newPage();
  tab.on("dialog", (dialog) => dialog.accept());
  await tab.goto(address, { waitUntil: "domcontentloaded" });
  await tab.waitForFunction(() => globalThis.app?.graph && document.querySelector(".clvr-review"), PATIENCE);
  return tab;
}
const asked = (tab) => tab.waitForFunction(() => document.querySelector(".clvr-review").shadowRoot.querySelector(".review"), PATIENCE);
const quiet = (tab) => tab.waitForFunction(() => !document.querySelector(".clvr-review").shadowRoot.querySelector(".review"), PATIENCE);
/** Works in the panel of a tab. @param {import("puppeteer-core").Page} tab */
const work = (tab, how, what) =>
  tab.evaluate(
    (how, what) => {
      const panel = document.querySelector(".clvr-review").shadowRoot.querySelector(".review");
      if (how === "press") panel.querySelector(`.say.${what}`).click();
      if (how === "wish") panel.querySelector("textarea").value = what;
      return panel.textContent;
    },
    how,
    what,
  );
const history = () => page.evaluate(async () => Object.values(await (await fetch("/history")).json()));

test("Brief shows its checklist and what the run will cost", async () => {
  await page.evaluate((graph) => globalThis.app.loadApiJson(JSON.parse(graph), "clvr"), GRAPH);
  const brief = () => page.evaluate(() => [...document.querySelectorAll(".clvr-before")].map((host) => host.shadowRoot.querySelector(".brief").textContent));
  await page.waitForFunction(() => [...document.querySelectorAll(".clvr-before")].some((host) => /At most 3 rounds/.test(host.shadowRoot.textContent)), PATIENCE);
  assert.match((await brief()).join(), /Empty: the model draws the list up/);
  const lines = await page.evaluate(() => {
    const { app } = globalThis;
    const node = app.graph.nodes.find(({ comfyClass }) => comfyClass === "CLVR_Brief");
    const root = [...document.querySelectorAll(".clvr-before")].map(({ shadowRoot }) => shadowRoot).find((shadow) => shadow.querySelector("table"));
    root.querySelector(".buttons button").click();
    const field = root.querySelector("input");
    field.value = "a small red square";
    field.dispatchEvent(new Event("input"));
    const [, need] = root.querySelectorAll("select");
    need.value = "nice";
    need.dispatchEvent(new Event("change"));
    const kept = node.widgets.find(({ name }) => name === "goals").value;
    root.querySelector("tbody button").click();
    return [kept, node.widgets.find(({ name }) => name === "goals").value, JSON.stringify(node.serialize().widgets_values).includes("small red square")];
  });
  assert.deepEqual(lines.slice(0, 2), ["[nice] a small red square", ""]);
});

test("a question is put, survives a reload, and is put in a second tab too", async () => {
  await page.evaluate(() => globalThis.app.queuePrompt(0));
  await asked(page);
  assert.match(await work(page), /Round 1: your word\?.*then go on/s);
  await new Promise((done) => setTimeout(done, 500));
  await page.screenshot({ path: `${OUT}/review.png` });
  await page.reload({ waitUntil: "domcontentloaded" });
  await page.waitForFunction(() => document.querySelector(".clvr-review"), PATIENCE);
  await asked(page);
  const other = await arrive();
  await asked(other);
  await work(other, "wish", "a small black cross");
  await work(other, "press", "go-on");
  await page.bringToFront(); // behind another tab it draws no frames, and waiting looks once a frame
  await page.waitForFunction(() => /Round 2/.test(document.querySelector(".clvr-review").shadowRoot.textContent), PATIENCE);
  assert.match(await work(page), /a small black cross/);
  await work(page, "press", "accept");
  await quiet(page);
  await other.close();
});

test("what was said ended the run", async () => {
  await page.waitForFunction(async () => Object.values(await (await fetch("/history")).json()).some(({ status }) => status.completed), PATIENCE);
  assert.match(JSON.stringify((await history()).map(({ outputs }) => outputs)), /the artist accepted the picture/);
});
