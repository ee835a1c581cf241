/** Before and between rounds: the checklist and the forecast on Brief, the Review node's question in every tab, the run on Loop End meanwhile. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { cutTexts } from "./browser.js";
import { EVERYTHING, FRONT, OUT, PATIENCE, RENDERERS, draw, element, load, page, queue, ready, still, tab, texts, waitForText } from "./comfy.js";

const GRAPHS = JSON.parse(process.env.REVIEWED);
const PLACES = { CLVR_Brief: [40, 0, 560, 900], CLVR_LoopEnd: [640, 0, 560, 900] };
const FULL = { bundled: false, newest: true };

const asked = (at, step) => at.waitForFunction((step) => new RegExp(`Step ${step}: your word`).test(globalThis.clvr.review()?.textContent), PATIENCE, step);
const left = () => page.evaluate(() => Number.parseInt(globalThis.clvr.review().querySelector(".left").textContent, 10));
const kept = () => page.evaluate(() => globalThis.clvr.node("CLVR_Brief").widgets.find(({ name }) => name === "goals").value);
/** The line before the run says this, and is seen wholly. @param {RegExp} pattern */
const cost = (pattern) =>
  page.waitForFunction(
    (source) => {
      const line = globalThis.clvr.before("[role=status]");
      const room = line?.getRootNode().host.getBoundingClientRect();
      const box = line?.getBoundingClientRect();
      return new RegExp(source).test(line?.textContent) && box.height > 10 && box.top >= room.top && box.bottom <= room.bottom + 1;
    },
    PATIENCE,
    pattern.source,
  );

/** In the one renderer with the dark theme, in the other with the light one. @param {boolean} vue */
async function steer(vue) {
  const renderer = vue ? "nodes2" : "litegraph";
  await page.evaluate((palette) => globalThis.app.extensionManager.setting.set("Comfy.ColorPalette", palette), vue ? "light" : "dark");
  await draw(vue);
  await load(GRAPHS[Number(vue)], PLACES);
  await cost(/At most 12 rounds of 1 picture/);
  assert.match(await page.evaluate(() => globalThis.clvr.before("table").parentElement.textContent), /Empty: the model draws the list up/);
  // By hand: with a real mouse and real keys, of which none is to reach the graph.
  await (await element((clvr) => clvr.before(".buttons button"))).click();
  await page.keyboard.type("a small red squareX");
  await page.keyboard.press("Backspace");
  assert.equal(await kept(), "a small red square");
  await page.evaluate(() => {
    globalThis.clvr.node("CLVR_Brief").stays = true;
    globalThis.clvr.heard = [];
    window.addEventListener("keydown", ({ key }) => globalThis.clvr.heard.push(key));
  });
  await press("Control", "z");
  await still();
  assert.ok(await page.evaluate(() => globalThis.clvr.node("CLVR_Brief").stays), "a word is taken back, not the graph");
  await press("Control", "Shift", "z");
  await still();
  assert.deepEqual(await page.evaluate(() => globalThis.clvr.heard), [], "no key reached those who listen for all of them");
  assert.equal(await kept(), "a small red square");
  await (await element((clvr) => clvr.before("tbody td:nth-child(3) select"))).select("nice");
  assert.equal(await kept(), "[nice] a small red square");
  assert.match(JSON.stringify(await page.evaluate(() => globalThis.app.graph.serialize())), /\[nice\] a small red square/);
  await reads('globalThis.clvr.before("table").parentElement');
  await shoot(await element((clvr) => clvr.before("table").parentElement), `brief-${renderer}`, 496, 128);
  await (await element((clvr) => clvr.before("tbody button"))).click();
  assert.equal(await kept(), "");
  await page.evaluate(() => {
    const rounds = globalThis.clvr.node("CLVR_Brief").widgets.find(({ name }) => name === "rounds");
    rounds.value = 5;
    rounds.callback?.(5);
  });
  await cost(/At most 5 rounds/);

  await queue();
  await asked(page, 1);
  await waitForText(/Not finished/);
  assert.match(await page.evaluate(() => globalThis.clvr.review().textContent), /then go on/);
  const drafted = await page.evaluate(() => globalThis.clvr.before(".drafted")?.textContent);
  assert.match(drafted, /number 0/, "the list that the model drew up is shown");
  if (EVERYTHING && vue === FULL[FRONT]) await reload();
  else await say("a small black cross");
  await asked(page, 2);
  await waitForText(/a small black cross/);
  assert.match(await page.evaluate(() => globalThis.clvr.review().textContent), /a small black cross/);
  await reads("globalThis.clvr.review()");
  await page.screenshot({ path: `${OUT}/review-${FRONT}.png` });
  await shoot(await element((clvr) => clvr.review()), `review-${renderer}`, 416, 896);
  if (vue) await page.evaluate(() => globalThis.app.collectNodeMenuItems(globalThis.clvr.node("CLVR_LoopEnd")).find(({ content }) => /Stop after this round/.test(content)).callback());
  else await (await element((clvr) => clvr.review().querySelector(".accept"))).click();
  await page.waitForFunction(() => !globalThis.clvr.review(), PATIENCE);
  await waitForText(vue ? /the artist stopped the run/ : /the artist accepted the picture/);
}

/** So much of the element's upper left, with the focus nowhere: where it lies after a click differs from run to run. */
async function shoot(handle, name, width, height) {
  await page.evaluate(() => document.activeElement instanceof HTMLElement && document.activeElement.blur());
  const box = await handle.boundingBox();
  // Beyond the viewport, which is the default with a clip, Chromium lays the page out anew, and may draw it without what is fixed in it.
  await page.screenshot({ path: `${OUT}/${name}.png`, captureBeyondViewport: false, clip: { x: Math.round(box.x), y: Math.round(box.y), width, height } });
}

async function press(...keys) {
  for (const key of keys) await page.keyboard.down(key);
  for (const key of keys.reverse()) await page.keyboard.up(key);
}

/** What is drawn twice as large is whole, and what can be worked has a name for those who do not see it. @param {string} find the element, in words of the page */
async function reads(find) {
  await page.setViewport({ width: 700, height: 650, deviceScaleFactor: 2 });
  await still();
  assert.deepEqual(await page.evaluate(`(${cutTexts})(${find})`), []);
  const { scroll, client } = await page.evaluate(`(({ scrollWidth, clientWidth }) => ({ scroll: scrollWidth, client: clientWidth }))(${find})`);
  assert.ok(scroll <= client, `${scroll} of ${client} pixels`);
  const handle = (await page.evaluateHandle(find)).asElement();
  const tree = await page.accessibility.snapshot({ root: handle, interestingOnly: false });
  const todo = [tree];
  let count = 0;
  for (let at = todo.pop(); at; at = todo.pop()) {
    todo.push(...(at.children ?? []));
    if (!["button", "textbox", "combobox", "slider", "application", "checkbox"].includes(at.role)) continue;
    count++;
    assert.ok(at.name, JSON.stringify(at));
  }
  assert.ok(count > 1, `${count} in ${JSON.stringify(tree).slice(0, 300)}`);
  await page.setViewport({ width: 1400, height: 1300, deviceScaleFactor: 1 });
  await still();
}

async function say(words, at = page) {
  await (await element((clvr) => clvr.review().querySelector("textarea"), at)).click();
  await at.keyboard.type(words);
  await (await element((clvr) => clvr.review().querySelector(".go-on"), at)).click();
}

/** The run waits, this tab is loaded again, and the answer is given in another one. */
async function reload() {
  const whole = await left();
  const other = await tab(); // open all the while, so that however slow the machine is there is one who looks
  await asked(other, 1);
  await other.waitForFunction((whole) => Number.parseInt(globalThis.clvr.review().querySelector(".left").textContent, 10) < whole, PATIENCE, whole);
  const before = await left();
  await page.bringToFront(); // behind another tab it draws no frames, and waiting looks once a frame
  await page.reload({ waitUntil: "domcontentloaded" });
  await ready(page);
  await asked(page, 1);
  const after = await left();
  assert.ok(before < whole && after > 0 && after <= before, `${before} s, then ${after}: the countdown goes on where it was`);
  await waitForText(/Not finished/);
  assert.match((await texts()).join(), /Step 1/, "Loop End shows the run as far as it came");
  await other.bringToFront();
  await say("a small black cross", other);
  await page.bringToFront();
  await asked(page, 2);
  await waitForText(/Step 2/);
  await other.close();
}

for (const vue of RENDERERS) test(`the artist is asked and heard: ${vue ? "Nodes 2.0" : "LiteGraph"}`, () => steer(vue));
