/** The pack's part of the front end on a real ComfyUI, in both renderers. In this order: the tests share one page. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EVERYTHING, address, seen } from "./comfy.js";

// What a front end draws is tested in each; what the pack does there is the same in all, and is tested in the newest.
await import("./shown.js");
if (EVERYTHING) await import("./gallery.js");
await import("./steered.js");
if (EVERYTHING) await import("./dropped.js");
await import("./subgraphs.js");
await import("./fresh.js");
if (EVERYTHING) await import("./quick.js");
await import("./workflows.js");
if (EVERYTHING) await import("./languages.js");

test("the pack made the page complain of nothing", () => {
  assert.deepEqual(seen.errors.filter((error) => /clvr/i.test(error)), []);
  const elsewhere = seen.requests.filter((url) => /^https?:/.test(url) && !url.startsWith(address));
  assert.deepEqual(elsewhere.filter((url) => url.includes("clvr")), []);
});
