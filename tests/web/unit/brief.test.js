import assert from "node:assert/strict";
import { test } from "node:test";

import { page } from "./page.js";
import { Checklist } from "../../../web/brief/checklist.js";
import { Forecast, inWords } from "../../../web/brief/forecast.js";
import { linesOf, rowsOf } from "../../../web/brief/lines.js";

const TEXT = '[nice] [text] a sign "OPEN"\na barn\n[global] dusk';

test("lines and rows are the same list", () => {
  assert.deepEqual(rowsOf(TEXT), [
    { text: 'a sign "OPEN"', kind: "text", need: "nice" },
    { text: "a barn", kind: "local", need: "must" },
    { text: "dusk", kind: "global", need: "must" },
  ]);
  assert.equal(linesOf(rowsOf(TEXT)), TEXT);
});

test("a mark that is not ours stays in the words, for the server to refuse", () => {
  assert.equal(linesOf(rowsOf("[maybe] a cat")), "[maybe] a cat");
});

const list = () => {
  const kept = [];
  const made = new Checklist((lines) => kept.push(lines));
  return { kept, made, all: (selector) => [...made.host.shadowRoot.querySelectorAll(selector)] };
};
const change = (element, value, event) => {
  element.value = value;
  element.dispatchEvent(new page.window.Event(event));
};

test("what is edited is kept as lines", () => {
  const { kept, made, all } = list();
  made.read("a barn");
  change(all("input")[0], "a red barn", "input");
  change(all("select")[1], "nice", "change");
  change(all("select")[0], "global", "change");
  assert.deepEqual(kept, ["a red barn", "[nice] a red barn", "[nice] [global] a red barn"]);
  all("tbody button")[0].click();
  assert.equal(kept.at(-1), "");
  assert.equal(all("tbody tr").length, 0);
});

test("the drafted list is shown, and edited only when it is taken over", () => {
  const { kept, made, all } = list();
  made.suggest(["a barn", "[nice] <img src=x onerror=alert(1)>"]);
  assert.equal(all("input").length, 0);
  assert.deepEqual(kept, []);
  assert.equal(all("img").length, 0);
  made.take.click();
  assert.equal(kept.at(-1), "a barn\n[nice] <img src=x onerror=alert(1)>");
  assert.equal(all("input").length, 2);
  assert.equal(made.take.hidden, true);
});

test("a row that was just added stays though it has no words yet", () => {
  const { kept, made, all } = list();
  made.add.click();
  assert.equal(all("input").length, 1);
  assert.equal(kept.at(-1), "");
});

test("every field has a name", () => {
  const { made, all } = list();
  made.read(TEXT);
  for (const element of all("input, select, tbody button")) assert.match(element.getAttribute("aria-label"), /goal \d/i);
});

const memory = { device: "cuda:0", free: 20.5, total: 24 };

test("the forecast in words", () => {
  assert.equal(
    inWords({ rounds: 12, candidates: 4, calls: 60, seconds: 130, runs: 3, memory }),
    "At most 12 rounds of 4 pictures, 60 calls of the vision model; about 2 min 10 s by 3 earlier runs. cuda:0: 20.5 of 24 GB free.",
  );
  assert.match(inWords({ rounds: 1, candidates: 1, calls: 1, memory }), /^At most 1 round of 1 picture, 1 call of the vision model; no earlier run tells the time\./);
});

test("a forecast that fails says so", async () => {
  const asked = [];
  const line = new Forecast(async (path) => (asked.push(path), Promise.reject(new Error("budget: rounds is 0"))), () => ({ strategy: "clvr", rounds: 0, width: undefined }));
  await line.tell();
  assert.deepEqual(asked, ["/clvr/forecast?strategy=clvr&rounds=0"]);
  assert.equal(line.line.textContent, "budget: rounds is 0");
  line.close();
});
