/** A real Chromium, and what all tests in it need. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import puppeteer from "puppeteer-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--no-first-run",
  "--force-color-profile=srgb",
  "--hide-scrollbars",
  "--font-render-hinting=none",
];

/** @param {{ width: number, height: number }} viewport @param {string[]} [more] */
export async function open(viewport, more = []) {
  const folder = await mkdtemp(join(tmpdir(), "clvr-browser-"));
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    headless: true,
    userDataDir: folder,
    args: [...FLAGS, ...more],
    defaultViewport: { deviceScaleFactor: 1, ...viewport },
    protocolTimeout: 600_000,
  });
  return {
    browser,
    async close() {
      await browser.close();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** What a page complains of: errors, refused by its policy, and requests to anywhere. @param {import("puppeteer-core").Page} page */
export function watch(page) {
  const errors = [];
  const requests = [];
  // A busy machine is slow to load a page, which is no fault of the page.
  page.setDefaultTimeout(180_000);
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("request", (request) => requests.push(request.url()));
  return { errors, requests };
}

/** Elements in which text is cut: their content is larger than they are, and what is over is hidden. Runs in the page. */
export function cutTexts(root = document) {
  const found = [];
  for (const element of root.querySelectorAll("*")) {
    if (element.closest(".unseen, .stage, .skip, .scroll, svg") || !element.textContent.trim()) continue;
    const style = getComputedStyle(element);
    const hides = [style.overflowX, style.overflowY].some((value) => value === "hidden" || value === "clip");
    if (hides && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1)) found.push(element.className || element.localName);
    if (style.textOverflow === "ellipsis") found.push(`ellipsis ${element.className}`);
  }
  return found;
}
