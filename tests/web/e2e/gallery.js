/** The gallery of 500 runs in the sidebar, and what can be done with a run there. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FRONT, OUT, PATIENCE, draw, load, page, queue, still, waitForText } from "./comfy.js";

const MADE = 500;
const toggle = () => page.evaluate(() => globalThis.app.extensionManager.command.execute("Workspace.ToggleSidebarTab.clvr"));

/** What the gallery shows. */
const gallery = () =>
  page.evaluate(() => {
    const root = globalThis.clvr.panels().find((root) => root.querySelector(".gallery"));
    const rows = [...root.querySelectorAll(".runs [data-run]")];
    return { count: root.querySelector("[role=status]").textContent, elements: root.querySelectorAll("*").length, runs: rows.map(({ dataset }) => dataset.run), texts: rows.map(({ textContent }) => textContent) };
  });

/** Works a part of the tab. @param {(root: ShadowRoot, given?: any) => unknown} work @param {any} [given] */
const inside = (work, given) => page.evaluate(`(${work})(globalThis.clvr.panels().find((root) => root.querySelector(".gallery")), ${JSON.stringify(given)})`);

const press = (words) =>
  inside((root, words) => {
    [...root.querySelectorAll(".tools button, .both")].find((button) => button.checkVisibility() && button.textContent === words).click();
  }, words);

test("of 500 runs only those in sight are in the page, and they scroll, are found and have a small picture", async () => {
  await draw(false);
  await load(process.env.GRAPH, { CLVR_Generate: [700, 0, 430, 700] });
  await toggle();
  await page.waitForFunction((made) => globalThis.clvr.texts().some((text) => Number(/(\d+) runs/.exec(text)?.[1]) > made), PATIENCE, MADE);
  const top = await gallery();
  assert.ok(top.runs.length < 40 && top.elements < 1000, JSON.stringify([top.runs.length, top.elements]));
  assert.match(top.texts[0], /a large red cat.*of \d.*strokes|clvr.*seed/s);
  await page.waitForFunction(() => globalThis.clvr.panels().some((root) => root.querySelector(".runs img")?.naturalWidth > 0), PATIENCE);
  const small = await inside((root) => root.querySelector(".runs img").naturalWidth);
  assert.ok(small <= 128, String(small));
  await page.screenshot({ path: `${OUT}/gallery-${FRONT}.png` });
  await inside((root) => (root.querySelector(".gallery").scrollTop = 1e9));
  await page.waitForFunction(() => globalThis.clvr.texts().some((text) => text.includes("an old brief, number 0")), PATIENCE);
  assert.ok((await gallery()).runs.length < 40);
  await inside((root) => {
    const search = root.querySelector("input[type=search]");
    search.value = "old number 321";
    search.dispatchEvent(new Event("input"));
  });
  const found = await gallery();
  assert.deepEqual([found.count, found.texts.length], ["1 run", 1]);
  assert.match(found.texts[0], /number 321/);
});

test("two runs are seen side by side", async () => {
  await inside((root) => {
    const search = root.querySelector("input[type=search]");
    search.value = "";
    search.dispatchEvent(new Event("input"));
    root.querySelector(".gallery").scrollTop = 0;
    for (const place of [0, 1]) [...root.querySelectorAll(".runs input")][place].click();
  });
  await press("Compare the two side by side");
  await page.waitForFunction(() => globalThis.clvr.panels().some((root) => root.querySelectorAll(".sides .hero h1").length === 2), PATIENCE);
  await still(3);
  await page.screenshot({ path: `${OUT}/compare-${FRONT}.png` });
  await press("All runs");
});

for (const vue of [false, true])
  test(`seed and brief of a run are used again: ${vue ? "Nodes 2.0" : "LiteGraph"}`, async () => {
    await draw(vue);
    const run = (1 + Number(vue)).toString(16).padStart(16, "0");
    await inside((root, words) => {
      const search = root.querySelector("input[type=search]");
      search.value = words;
      search.dispatchEvent(new Event("input"));
    }, `${run}-1`);
    await inside((root) => root.querySelector(".runs [data-run]").click());
    await waitForText(/Spent and left/);
    for (const words of ["Use this seed", "Use this brief"]) await press(words);
    await page.waitForFunction(
      (wanted) => {
        const { widgets } = globalThis.clvr.node("CLVR_Generate");
        return JSON.stringify(["seed", "prompt"].map((name) => widgets.find((each) => each.name === name).value)) === wanted;
      },
      PATIENCE,
      JSON.stringify([1 + Number(vue), `an old brief, number ${1 + Number(vue)}`]),
    );
    if (!vue) return press("All runs");
    // The run is deleted, if it is said so in ComfyUI's own dialog.
    await press("Delete");
    const button = await page.waitForFunction(() => [...document.querySelectorAll("[role=dialog] button, [role=alertdialog] button")].find((each) => each.innerText.trim() === "Delete"), PATIENCE);
    await page.screenshot({ path: `${OUT}/delete-${FRONT}.png` });
    await button.asElement().click();
    await page.waitForFunction(() => globalThis.clvr.texts().some((text) => /0 runs/.test(text)), PATIENCE);
    await page.waitForFunction(() => document.body.innerText.includes("clvr-trash"), PATIENCE);
    await toggle();
    await page.waitForFunction(() => !globalThis.clvr.panels().some((root) => root.querySelector(".gallery")), PATIENCE);
  });

test("a candidate that the judge did not choose is picked in the viewer, and the next run goes on from it", async () => {
  await draw(FRONT === "newest");
  await load(process.env.GRAPH, { CLVR_Generate: [40, 0, 560, 1000] });
  await page.evaluate(() => {
    for (const [name, value] of [["prompt", "a small blue cross at the bottom left"], ["candidates", 2], ["rounds", 1]]) globalThis.clvr.node("CLVR_Generate").widgets.find((each) => each.name === name).value = value;
  });
  await queue();
  await waitForText(/Brief (not )?met.*Go on from this one/);
  const old = await page.evaluate(() => {
    globalThis.clvr.panels()[0].querySelector("[data-pick]").click();
    return globalThis.clvr.node("CLVR_Generate").properties.clvr_run;
  });
  await page.waitForFunction(() => document.body.innerText.includes("the run goes on from canvas"), PATIENCE);
  await queue();
  await page.waitForFunction((old) => globalThis.clvr.node("CLVR_Generate").properties.clvr_run !== old, PATIENCE, old);
  await waitForText(/the artist picked this candidate/);
  await page.screenshot({ path: `${OUT}/picked-${FRONT}.png` });
});
