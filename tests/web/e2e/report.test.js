/** report.html as a person opens it: from the disk, in a real browser. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import { cutTexts, open, watch } from "./browser.js";

const { FOLDER } = process.env;
const address = (name) => `${pathToFileURL(FOLDER).href}/${name}.html`;
let chromium;
before(async () => (chromium = await open({ width: 1100, height: 900 })));
after(() => chromium.close());

async function visit(name, { script = true, width = 1100, scheme = "light", languages = ["en-GB"] } = {}) {
  const page = await chromium.browser.newPage();
  const seen = watch(page);
  await page.setViewport({ width, height: 900 });
  await page.setJavaScriptEnabled(script);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
  await page.evaluateOnNewDocument((languages) => Object.defineProperty(navigator, "languages", { get: () => languages }), languages);
  await page.goto(address(name), { waitUntil: "load" });
  return { page, ...seen };
}

async function shoot(page, name) {
  await page.$$eval("img", (images) => Promise.all(images.map((image) => ((image.loading = "eager"), image.decode()))));
  await page.screenshot({ path: `${FOLDER}/${name}.png` });
}

const text = (page, selector) => page.$$eval(selector, (found) => found.map((element) => element.textContent));

test("the page shows the whole run, loads nothing and complains of nothing", async () => {
  const { page, errors, requests } = await visit("run");
  assert.deepEqual(errors, []);
  assert.deepEqual(requests.filter((url) => !url.startsWith("data:")), [address("run")]);
  assert.deepEqual(await text(page, "article h3"), ["Step 1", "Step 2", "Step 3", "Step 4", "Step 5"]);
  assert.equal(await page.$("#clvr-essentials"), null);
  const sizes = await page.$$eval(".hero img, .plates img", (found) => found.map((image) => image.loading === "lazy" || image.naturalWidth));
  assert.ok(sizes.every(Boolean) && sizes.length === 8, String(sizes));
  await shoot(page, "report-light");
  await page.close();
});

test("it is dark where the person likes it dark, and reads well at the size of a telephone", async () => {
  const { page } = await visit("run", { scheme: "dark", width: 400 });
  await page.$eval("#steps", (heading) => heading.scrollIntoView());
  await shoot(page, "report-dark-narrow");
  await page.close();
});

for (const [languages, lang, compare] of [
  [["zh-CN", "en"], "zh", "\u6bd4\u8f83"],
  [["fr", "ja"], "ja", "\u6bd4\u8f03"],
  [["ko-KR"], "ko", "\ube44\uad50"],
  [["en-GB", "ko"], "en", "Compare"],
  [["fr"], "en", "Compare"],
]) {
  test(`a browser that speaks ${languages} sees the page in ${lang}`, async () => {
    const { page, errors } = await visit("run", { languages });
    assert.deepEqual(errors, []);
    assert.equal(await page.evaluate(() => document.documentElement.lang), lang);
    assert.equal(await page.$eval("#compare", (heading) => heading.textContent), compare);
    assert.equal((await text(page, "nav a"))[1], compare);
    if (lang !== "en") {
      // What is left in Latin letters is of the run: prompts, names, the model's words.
      const own = ["header.top", "footer", ".skip", "h2", "h4", "dt", ".warnings li", "summary", "button"];
      for (const part of own) for (const words of await text(page, part)) assert.doesNotMatch(words.replace(/CLVR|clvr|NFE/g, ""), /[a-z]{3}/i, part);
    }
    if (lang === "ja") await shoot(page, "report-ja");
    await page.close();
  });
}

test("at 200 % no text is cut and nothing but the table scrolls sideways", async () => {
  for (const name of ["run", "hostile"]) {
    const { page } = await visit(name, { width: 550 });
    await page.$$eval("details", (found) => found.forEach((details) => (details.open = true)));
    assert.deepEqual(await page.evaluate(cutTexts), [], name);
    const { scroll, client } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth }));
    assert.ok(scroll <= client, `${name}: ${scroll} of ${client} pixels`);
    await page.close();
  }
});

test("everything is reached with the keyboard", async () => {
  const { page } = await visit("run");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the steps");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "steps");
  await page.focus(".stage input");
  const before = await page.$eval(".stage", (stage) => stage.style.getPropertyValue("--at"));
  await page.keyboard.press("ArrowRight");
  assert.notEqual(await page.$eval(".stage", (stage) => stage.style.getPropertyValue("--at")), before);
  await page.focus("article button");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.type), "range");
  await page.close();
});

test("the map of changes is drawn from the pixels", async () => {
  const { page, errors } = await visit("run");
  const [before, after] = await page.$$(".compare select");
  await before.select("2");
  await after.select("4");
  await page.click(".compare input[type=checkbox]");
  await page.waitForSelector(".stage canvas");
  assert.match((await text(page, ".compare .note[role=status]"))[0], /Outside the edit 100\u00a0% of the pixels changed \(red\), inside it 100\u00a0% \(blue\)/);
  assert.deepEqual(errors, []);
  await page.close();
});

test("hostile words are shown and run nothing", async () => {
  const { page, errors, requests } = await visit("hostile");
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.deepEqual(errors, []);
  assert.deepEqual(requests.filter((url) => !url.startsWith("data:")), [address("hostile")]);
  assert.equal(await page.$("b"), null);
  assert.match((await text(page, "h1"))[0], /<img src=x/);
  await page.close();
});

test("the policy of the page would stop markup that slipped through", async () => {
  const { page } = await visit("run");
  await page.evaluate(async () => {
    document.body.insertAdjacentHTML("beforeend", "<img src='data:,x' onerror='globalThis.hacked = 1'>");
    await new Promise((done) => document.body.lastElementChild.addEventListener("error", done)); // what the markup asks for comes first
  });
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  await page.close();
});

test("500 steps and missing pictures are shown", async () => {
  const { page, errors } = await visit("long");
  assert.equal((await text(page, "article h3")).length, 500);
  assert.match((await text(page, "figure .missing"))[0], /No picture/);
  assert.deepEqual(errors, []);
  await page.close();
});

test("a newer schema is refused in words, over what the page says by itself", async () => {
  const { page } = await visit("newer");
  assert.match((await text(page, "[role=alert]"))[0], /schema version 99; this viewer reads up to 1/);
  assert.match((await text(page, "#clvr-essentials h1"))[0], /a red circle/);
  await page.close();
});

test("without scripts the essentials are there", async () => {
  const { page } = await visit("run", { script: false });
  const words = (await text(page, "#clvr-essentials"))[0];
  for (const wanted of ["a red circle and two blue squares", "Brief met", "all goals met", "two blue squares: met"]) assert.ok(words.includes(wanted), wanted);
  assert.equal((await page.$$("#clvr-essentials img")).length, 1);
  await page.close();
});
