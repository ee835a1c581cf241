/** The pack's part of the front end on a real ComfyUI, in both renderers. In this order: the tests share one page. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { address, seen } from "./comfy.js";
import "./shown.js";
import "./gallery.js";
import "./steered.js";
import "./dropped.js";
import "./subgraphs.js";
import "./fresh.js";
import "./quick.js";
import "./workflows.js";
import "./languages.js";

test("the pack made the page complain of nothing", () => {
  assert.deepEqual(seen.errors.filter((error) => /clvr/i.test(error)), []);
  const elsewhere = seen.requests.filter((url) => /^https?:/.test(url) && !url.startsWith(address));
  assert.deepEqual(elsewhere.filter((url) => url.includes("clvr")), []);
});
