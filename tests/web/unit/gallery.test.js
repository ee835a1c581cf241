/** The gallery of runs, and what can be done with one of them. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { all, texts } from "./page.js";
import { Gallery, ROW } from "../../../web/comfy/gallery.js";
import { giveWidget } from "../../../web/comfy/given.js";
import { Sidebar, stopAfterRound } from "../../../web/comfy/sidebar.js";

const listed = (number, more = {}) => ({ run: `r-${number}`, prompt: `brief ${number}`, steps: 3, met: true, first: "", seed: String(number), strategy: "clvr", goals: 4, goals_met: number % 5, best: 0, changed: 1e9 + 60 * number, ...more });
const RUNS = Array.from({ length: 500 }, (_, number) => listed(number));

function gallery() {
  const [opened, compared] = [[], []];
  const made = new Gallery(({ run }) => `/thumb/${run}`, (run) => opened.push(run), (...both) => compared.push(both.map(({ run }) => run)));
  document.body.replaceChildren(made.element);
  const rows = () => all(made.list, "button").map((button) => button.dataset.run);
  const type = (element, value) => {
    element.value = value;
    element.dispatchEvent(new Event(element.localName === "select" ? "change" : "input"));
  };
  return { made, opened, compared, rows, type };
}

test("of 500 runs only the rows in sight are in the page, also further down", () => {
  const { made, rows, opened } = gallery();
  made.show(RUNS);
  assert.equal(made.count.textContent, "500 runs");
  assert.deepEqual(rows().slice(0, 2), ["r-499", "r-498"]);
  assert.ok(made.list.querySelectorAll("*").length < 500, `${made.list.querySelectorAll("*").length} elements`);
  assert.equal(made.list.style.height, `${500 * ROW}px`);
  made.scroller.scrollTop = 250 * ROW;
  made.scroller.dispatchEvent(new Event("scroll"));
  assert.ok(rows().includes("r-249") && !rows().includes("r-499"), rows().join());
  const [one] = all(made.list, "[data-run='r-249']");
  assert.deepEqual([one.parentElement.style.top, one.parentElement.getAttribute("aria-posinset")], [`${250 * ROW}px`, "251"]);
  one.click();
  assert.deepEqual(opened, ["r-249"]);
  made.scroller.dispatchEvent(new Event("scroll"));
  assert.equal(all(made.list, "[data-run='r-249']")[0], one, "a row that stays is not built again");
  made.search.value = "brief 321";
  made.search.dispatchEvent(new Event("input"));
  assert.deepEqual(rows(), ["r-321"], "what is found is seen, however far down the list was");
});

test("runs are found by each word, and sorted", () => {
  const { made, rows, type } = gallery();
  made.show([...RUNS.slice(0, 3), listed(3, { prompt: "a red Circle", strategy: "strokes", met: null, best: null })]);
  type(made.search, "CIRCLE strokes 3");
  assert.deepEqual(rows(), ["r-3"]);
  assert.match(made.list.textContent, /a red Circle.*not finished.*3 of 4.*strokes.*seed 3/s);
  type(made.search, "none such");
  assert.deepEqual([rows(), made.count.textContent], [[], "0 runs"]);
  type(made.search, "");
  const orders = ["newest", "oldest", "goals", "brief"].map((order) => (type(made.order, order), rows().join(" ")));
  assert.deepEqual(orders, ["r-3 r-2 r-1 r-0", "r-0 r-1 r-2 r-3", "r-3 r-2 r-1 r-0", "r-3 r-0 r-1 r-2"]);
});

test("two runs are marked for comparison, of three the last two", () => {
  const { made, compared } = gallery();
  made.show(RUNS);
  const boxes = () => all(made.list, "input");
  for (const place of [0, 1, 2]) boxes()[place].click();
  assert.deepEqual(boxes().slice(0, 3).map(({ checked }) => checked), [false, true, true]);
  assert.equal(made.both.disabled, false);
  made.both.click();
  assert.deepEqual(compared, [["r-498", "r-497"]]);
  made.show(RUNS.slice(0, 498));
  assert.equal(made.both.disabled, true, "one of them is gone");
});

test("seed and brief of a run go to the node that is selected, else to the first that takes them", () => {
  const node = (id, seed) => ({ id, title: `node ${id}`, comfyClass: "CLVR_Generate", widgets: [{ name: "prompt", value: "" }, { name: "seed", value: seed }] });
  const [first, second] = [node(1, 5), node(2, 5)];
  const app = { graph: { nodes: [{ comfyClass: "CLVR_LoopEnd", widgets: [] }, first, second] }, canvas: { selected_nodes: {} }, extensionManager: {} };
  assert.equal(giveWidget(app, "seed", "77"), "node 1");
  app.canvas.selected_nodes = { 2: second };
  assert.equal(giveWidget(app, "prompt", "a circle"), "node 2");
  assert.deepEqual([first.widgets[1].value, second.widgets[0].value, second.widgets[1].value], [77, "a circle", 5]);
  assert.throws(() => giveWidget(app, "seed", "9223372036854775807"), /too large/);
  app.graph.nodes = [];
  assert.equal(giveWidget(app, "seed", "1"), "");
});

/** The sidebar with a run in it, over routes that answer with `answers`. */
async function opened(answers, confirm = true) {
  const [toasts, asked, tabs, given] = [[], [], [], []];
  const runs = {
    api: { addEventListener: () => {}, removeEventListener: () => {} },
    list: async () => [listed(1)],
    thumbOf: () => "/thumb",
    cleanOf: () => "/clean",
    picturesOf: () => () => ({ missing: "" }),
    follow: () => () => {},
    recordOf: async () => ({ brief: { seed: "42", prompt: "a circle" } }),
    doWith: async (...what) => {
      asked.push(what);
      const answer = answers[what[0]];
      if (answer instanceof Error) throw answer;
      return answer;
    },
  };
  const manager = { toast: { add: ({ detail }) => toasts.push(detail) }, dialog: { confirm: async () => confirm }, registerSidebarTab: (tab) => tabs.push(tab) };
  new Sidebar(runs, manager, (...what) => (given.push(what), "Generate")).register();
  const place = document.body.appendChild(document.createElement("div"));
  tabs[0].render(place);
  const settle = async () => {
    for (let turn = 0; turn < 8; turn++) await new Promise((done) => setTimeout(done, 0));
  };
  await settle();
  const root = place.firstChild.shadowRoot;
  root.querySelector("[data-run]").click();
  await settle();
  const press = async (words) => {
    all(root, ".tools button").find(({ textContent }) => textContent === words).click();
    await settle();
  };
  return { root, press, toasts, asked, given, runs, manager };
}

test("a run is deleted if the artist says so, and its folder opened or named", async () => {
  const answers = { delete: { folder: "clvr-trash/r-1" }, open: { shown: false, folder: "output/clvr/r-1" } };
  const { root, press, toasts, asked } = await opened(answers);
  await press("Open the folder");
  await press("Delete");
  assert.deepEqual(asked, [["open", "r-1"], ["delete", "r-1"]]);
  assert.deepEqual(toasts, ["ComfyUI cannot open a folder here. It is output/clvr/r-1 on the machine of ComfyUI.", "The run lies in clvr-trash/r-1 now."]);
  assert.equal(root.querySelector(".choosing").hidden, false);
  const kept = await opened(answers, false);
  await kept.press("Delete");
  assert.deepEqual(kept.asked, []);
});

test("seed and brief are taken from the run; what ended cannot stop", async () => {
  const { root, press, toasts, given, asked, runs, manager } = await opened({ stop: new Error("has ended") });
  await press("Use this seed");
  await press("Use this brief");
  assert.deepEqual(given, [["seed", "42"], ["prompt", "a circle"]]);
  assert.deepEqual(texts(root, ".tools button:not([hidden])").slice(0, 3), ["All runs", "Start anew", "Take back what I said"]);
  assert.equal(root.querySelector(".tools a").getAttribute("href"), "/clean");
  await stopAfterRound(runs, manager.toast, "r-1");
  assert.deepEqual([asked, toasts.at(-1)], [[["stop", "r-1"]], "has ended"]);
});
