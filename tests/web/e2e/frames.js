/** Milliseconds between frames while a page is scrolled from top to end. PAGE is its address; prints one line of JSON. */

import { open, watch } from "./browser.js";

const chromium = await open({ width: 1100, height: 900 });
const page = await chromium.browser.newPage();
watch(page);
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

// The same once more, a frame at a time, by the processor time of the page's main thread: what other programs take does not count in it.
const client = await page.createCDPSession();
await client.send("Performance.enable", { timeDomain: "threadTicks" });
const spent = async () => (await client.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value;
await page.evaluate(() => window.scrollTo(0, 0));
const work = [];
for (let [end, before] = [false, await spent()]; !end; ) {
  end = await page.evaluate(
    () =>
      new Promise((done) => {
        window.scrollBy(0, 100);
        const last = window.scrollY + window.innerHeight >= document.documentElement.scrollHeight - 1;
        requestAnimationFrame(() => requestAnimationFrame(() => done(last)));
      }),
  );
  const now = await spent();
  work.push(1000 * (now - before));
  before = now;
}
console.log(JSON.stringify({ loaded, frames, work }));
await chromium.close();
