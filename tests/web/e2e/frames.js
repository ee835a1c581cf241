/** Milliseconds between frames while a page is scrolled from top to end. PAGE is its address; prints one line of JSON. */

import { open } from "./browser.js";

const chromium = await open({ width: 1100, height: 900 });
const page = await chromium.browser.newPage();
const started = performance.now();
await page.goto(process.env.PAGE, { waitUntil: "load" });
await page.waitForSelector("article");
const loaded = performance.now() - started;
const frames = await page.evaluate(
  () =>
    new Promise((done) => {
      const times = [];
      let before = performance.now();
      const turn = (now) => {
        times.push(now - before);
        before = now;
        window.scrollBy(0, 100);
        if (window.scrollY + window.innerHeight >= document.documentElement.scrollHeight - 1) done(times.slice(1));
        else requestAnimationFrame(turn);
      };
      requestAnimationFrame(turn);
    }),
);
console.log(JSON.stringify({ loaded, frames }));
await chromium.close();
