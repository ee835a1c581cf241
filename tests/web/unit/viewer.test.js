import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { all, page, texts, until } from "./page.js";
import { HOSTILE, drawn, judged, long, pictures, run } from "./runs.js";
import { WORDS } from "../../../web/viewer/words.js";
import { Viewer } from "../../../web/viewer/viewer.js";

let element;
let viewer;
beforeEach(() => {
  element = document.body.appendChild(document.createElement("div"));
  viewer = new Viewer(element, pictures);
});
afterEach(() => {
  viewer.destroy();
  element.remove();
});
const show = (record) => assert.equal(viewer.show(record), true, element.textContent);
const one = (selector) => {
  const found = all(element, selector);
  assert.equal(found.length, 1, selector);
  return found[0];
};

test("everything that happened is shown", () => {
  show(run());
  for (const words of [
    ...["a red circle and two blue squares", "Brief met", "all goals met", "beat the one-shot picture", "the prompt was shortened"],
    ...["nothing else", "Is there a red circle?", "staged: one shot is unlikely", "best of four", "the circle is gone", "the scene"],
    ...["add a blue square", "only there", "over-edit 40\u00a0%", "edit not carried out", "edit not judged", "evidence g2", "75\u00a0% sure"],
    ...["4 min 15 s", "500 in 3 calls", "seed 1006", "4 NFE", "of 20, 4 left", "director", "exact", "of 5 min, 45 s left", "3 of 3 met", "score 0.6"],
    ...["left 50\u00a0%, top 0\u00a0%, right 100\u00a0%, bottom 50\u00a0%", "64 s \u00b7 4 pictures \u00b7 16 NFE \u00b7 500 tokens"],
  ]) {
    assert.ok(element.textContent.includes(words), words);
  }
  assert.deepEqual(texts(element, "article h3"), ["Step 1", "Step 2", "Step 3", "Step 4", "Step 5"]);
  for (let canvas = 0; canvas < 7; canvas++) one(`figure#canvas-${canvas}`);
  assert.deepEqual(all(element, "figure.chosen").map(({ id }) => id), ["canvas-2"]);
});

test("a card says what an edit did to the rest, and how many edits lie behind it", () => {
  const record = run();
  record.steps[1].edit.change = { outside: 0.08, meant: [[0.5, 0, 1, 0.5]] };
  record.steps[3].edit = { change: { offset: [1.2, 0] }, drift: {} };
  show(record);
  assert.deepEqual(texts(element, ".measured"), [
    "Edit 1 since the source; the rest of the picture: 8\u00a0% repainted.",
    "Edit 2 since the source; the rest of the picture: moved 1.2 px; against the source: as it was.",
  ]);
});

test("the references of the brief are named in their order, with what is kept of them", () => {
  const record = run();
  record.brief.references = [{ name: "ann", sha256: "0", keeps: "face" }, { name: "mug", sha256: "1" }];
  show(record);
  assert.deepEqual(texts(element, ".hero ol li"), ["ann \u00b7 face", "mug \u00b7 subject"]);
});

/** With what a reader found wrong on the canvas of the second step, and what an edit was to leave alone. */
function faulty() {
  const record = run();
  const boxes = [[0.1, 0.2, 0.4, 0.3], [0.5, 0.2, 2, 0.3]];
  record.steps[1].verdicts[1].witnesses = [{ witness: "text", says: "no", boxes, words: "reads" }, { witness: "objects", says: "yes", boxes: [[0, 0, 1, 1]] }];
  record.steps[1].verdicts[0].witnesses = [{ witness: "objects", says: "no", boxes: [[0, 0, 1, 1]] }];
  record.steps[1].edit.witnesses = [{ witness: "changes", says: "no", boxes: [[0.8, 0.8, 1, 1]] }];
  return record;
}

test("what witnesses found wrong is drawn on the canvas and told in words", () => {
  show(faulty());
  const drawn = all(element, "#canvas-4 .faults rect").map((rect) => ["data-goal", "x", "y", "width"].map((key) => rect.getAttribute(key)));
  assert.deepEqual(drawn.map(([goal, ...edges]) => [goal, ...edges.map(Number).map(Math.round)]), [["g2", 10, 20, 30], ["g2", 50, 20, 50], ["", 80, 80, 20]]);
  assert.equal(one("#canvas-4 .faults").getAttribute("aria-hidden"), "true", "the same places are told in words");
  const [[words], [elsewhere]] = [texts(element, ".judged .places"), texts(element, ".check .places")];
  assert.ok(words.includes("left 10\u00a0%, top 20\u00a0%, right 40\u00a0%, bottom 30\u00a0%") && elsewhere.includes("left 80\u00a0%"), words);
  assert.equal(all(element, ".faults").length, 1, "no other canvas has any");
});

test("a button brings the places of one goal out, and back", () => {
  show(faulty());
  const button = all(element, ".judged button.where")[0];
  const out = () => all(element, ".faults rect.on").map((rect) => rect.getAttribute("data-goal"));
  assert.equal(button.textContent, "Show where");
  button.click();
  assert.deepEqual([out(), button.getAttribute("aria-pressed")], [["g2", "g2"], "true"]);
  button.click();
  assert.deepEqual([out(), button.getAttribute("aria-pressed")], [[], "false"]);
});

test("a thousand boxes are drawn, and three of them told", () => {
  const record = faulty();
  record.steps[1].verdicts[1].witnesses[0].boxes = Array.from({ length: 1000 }, () => [0.1, 0.1, 0.2, 0.2]);
  show(record);
  assert.equal(all(element, '.faults rect[data-goal="g2"]').length, 1000);
  assert.equal(all(element, ".judged .places li").length, 4);
  assert.ok(element.textContent.includes("and 997 more"));
});

test("a rolled-back branch is nested under the step it started from, with its reason", () => {
  show(run());
  const items = [...one(".run > section > ol.line").children];
  assert.deepEqual(items.map((item) => item.querySelector("h3").textContent), ["Start", "Step 1", "Step 2", "Step 4", "Step 5"]);
  const [branch, ...others] = all(element, "ol.line ol.line");
  assert.equal(others.length, 0);
  assert.equal(items[2].contains(branch), true);
  assert.equal(branch.getAttribute("aria-label"), "Tried from step 2");
  assert.match(branch.textContent, /Step 3.*Rolled back.*the circle is gone/);
});

test("the goals over the rounds: a row a goal, a column a step", () => {
  show(run());
  assert.deepEqual(texts(element, "tbody th > p:first-child"), ["a red circle", "two blue squares", "nothing else"]);
  assert.deepEqual(all(element, "tbody tr").map((row) => texts(row, "td")), [
    ["met", "met", "met", "newly broken", "met", "\u2013not judged"],
    ["met", "pending", "unmet", "judge error", "met", "\u2013not judged"],
    ["met", "met", "unsure", "unsure", "met", "\u2013not judged"],
  ]);
  assert.deepEqual(texts(element, "tfoot td"), ["3 of 3", "2 of 3", "1 of 3", "0 of 3", "3 of 3", "\u2013"]);
});

test("each state has a sign and a word of its own, on the cards too", () => {
  show(run());
  const signs = Object.keys(WORDS).map((state) => one(`.legend .chip.${state}`).querySelector("svg").getAttribute("data-icon"));
  assert.equal(new Set(signs).size, 7);
  const [card] = all(element, "article").slice(2);
  assert.deepEqual(texts(card, ".chips li"), ["a red circle: newly broken", "two blue squares: judge error", "nothing else: unsure"]);
});

/** The run of runs.js whose third goal is nice to have and missed at the end. */
function niceMissed() {
  const record = run();
  record.goals = record.goals.map((goal, place) => (place === 2 ? { ...goal, need: "nice" } : goal));
  record.steps[3].verdicts = judged("met", "met", "unmet");
  return record;
}

test("a nice-to-have goal that was missed does not look like a failure, and is counted apart", () => {
  show(niceMissed());
  assert.equal(one(".hero .verdict").textContent, "Brief met");
  assert.match(one(".hero").textContent, /2 of 2 must-have goals met, 0 of 1 nice to have, by the judge's word/);
  assert.deepEqual(texts(element, "tbody tr:last-child td"), ["nice to have, not met", "met", "unsure", "unsure", "nice to have, not met", "\u2013not judged"]);
  assert.match(texts(element, "tbody th")[2], /g3 \u00b7 global \u00b7 nice to have/);
  assert.deepEqual(all(element, "tfoot tr").map((row) => texts(row, "th, td")), [
    ["Must-have goals met", "2 of 2", "1 of 2", "1 of 2", "0 of 2", "2 of 2", "\u2013"],
    ["Nice-to-have goals met", "0 of 1", "1 of 1", "0 of 1", "0 of 1", "0 of 1", "\u2013"],
  ]);
  const card = all(element, "article")[2 + 1];
  assert.match(card.querySelector(".tally").textContent, /^2 of 2 must-have goals met, 0 of 1 nice to have/);
  assert.equal(texts(card, ".chips li")[2], "nothing else: nice to have, not met");
  const chip = card.querySelector(".verdicts .missed");
  assert.deepEqual([chip.textContent, chip.querySelector("svg").getAttribute("data-icon")], ["nice to have, not met", "missed"]);
  assert.equal(all(element, "article")[3].querySelectorAll(".unmet").length, 0);
});

test("where every goal is nice to have, a missed one is not met", () => {
  const record = niceMissed();
  record.goals = record.goals.map((goal) => ({ ...goal, need: "nice" }));
  show({ ...record, outcome: { ...record.outcome, met: false } });
  assert.equal(all(element, "tbody .missed, article .missed").length, 0);
  assert.match(one(".hero").textContent, /2 of 3 met by the judge's word/);
  assert.deepEqual(texts(element, "tfoot th"), ["Goals met"]);
});

test("a step that breaks a nice-to-have goal says so", () => {
  const record = niceMissed();
  record.steps[1].verdicts = judged("met", "unmet", "unmet");
  show(record);
  assert.equal(texts(element, "tbody tr:last-child td")[2], "newly broken");
});

test("one can get about without a mouse, and with a screen reader", () => {
  show(run());
  const levels = all(element, "h1, h2, h3, h4").map(({ localName }) => Number(localName[1]));
  assert.equal(levels.filter((level) => level === 1).length, 1);
  levels.reduce((before, after) => (assert.ok(after <= before + 1), after));
  for (const image of all(element, "img")) {
    assert.ok(image.getAttribute("alt") || image.closest("a")?.textContent.startsWith("canvas"), image.outerHTML);
    assert.ok(image.hasAttribute("width") && image.hasAttribute("height"));
  }
  assert.equal(one("#canvas-1 img").alt, "Canvas 1, drawn in step 1, not chosen among 4 candidates. Asked for: the scene");
  for (const head of all(element, "th")) assert.match(head.getAttribute("scope"), /row|col/);
  for (const field of all(element, "select, input")) assert.ok(field.getAttribute("aria-label") || field.closest("label")?.textContent.trim());
  for (const labelled of all(element, "[aria-labelledby]")) one(`#${labelled.getAttribute("aria-labelledby")}`);
  for (const link of all(element, "a")) one(link.getAttribute("href"));
  assert.equal(new Set(all(element, "[id]").map(({ id }) => id)).size, all(element, "[id]").length);
  assert.equal(one("[role=status].unseen").textContent, "Brief met: 5 steps");
});

test("a link leads to its canvas and gives it the focus", () => {
  show(run());
  all(element, "article a[href='#canvas-0']")[0].click();
  assert.equal(page.window.lastInView.id, "canvas-0");
  assert.equal(document.activeElement.id, "canvas-0");
});

test("compare with before sets the slider to the two canvases", () => {
  show(run());
  const { before, after, slider, stage } = viewer.compare;
  assert.deepEqual([before.value, after.value], ["4", "6"]);
  all(element, "article")[2].querySelector("button").click();
  assert.deepEqual([before.value, after.value], ["4", "5"]);
  assert.deepEqual(all(stage, "img").map((image) => image.getAttribute("src")), ["/canvas/4", "/canvas/5"]);
  slider.value = "20";
  slider.dispatchEvent(new Event("input"));
  assert.equal(stage.style.getPropertyValue("--at"), "20%");
  assert.equal(slider.getAttribute("aria-valuetext"), "canvas 5 on 80 of 100 parts");
  assert.equal(before.options.length, 7);
});

test("the comparison follows a run that grows until a person uses it", () => {
  const whole = run();
  const grown = (count, best) => show({ ...whole, steps: whole.steps.slice(0, count), outcome: null, best, current: best });
  const { before, after, slider } = viewer.compare;
  show({ ...whole, steps: [{ ...whole.steps[0], candidates: drawn(2) }], outcome: null, best: 2, current: 2 });
  assert.match(viewer.compare.stage.textContent, /no two canvases/);
  grown(2, 4);
  assert.deepEqual([before.value, after.value], ["2", "4"]);
  grown(4, 6);
  assert.deepEqual([before.value, after.value], ["4", "6"]);
  slider.dispatchEvent(new Event("input"));
  grown(2, 4);
  assert.deepEqual([before.value, after.value], ["2", "4"], "canvas 6 was taken back");
  slider.dispatchEvent(new Event("input"));
  grown(4, 6);
  assert.deepEqual([before.value, after.value], ["2", "4"], "a person has used it");
});

test("where no pixels are to be had the map of changes says so", async () => {
  show(run());
  viewer.compare.mapped.click();
  await until(() => /There is no map of changes: this browser gives no pixels/.test(viewer.compare.stage.textContent), "the words");
});

test("a run that grows leaves what stands alone", () => {
  const whole = run();
  show({ ...whole, steps: [], outcome: null, best: null, current: null, doing: { action: whole.steps[0].action, candidates: [] } });
  assert.match(one("li.doing").textContent, /Step 1.*drawing.*the scene/s);
  show({ ...whole, steps: [], outcome: null, best: null, current: null, doing: { action: whole.steps[0].action, candidates: drawn(0, 1) } });
  assert.match(one("li.doing").textContent, /judging 2 pictures/);
  show({ ...whole, steps: whole.steps.slice(0, 1), outcome: null, best: 2, current: 2 });
  assert.equal(all(element, "li.doing").length, 0);
  show({ ...whole, steps: whole.steps.slice(0, 2), outcome: null, best: 4, current: 4 });
  const first = all(element, "article")[0];
  const details = first.querySelector("details");
  details.open = true;
  details.querySelector("summary").focus();
  show({ ...whole, steps: whole.steps.slice(0, 3), outcome: null, best: 4, current: 4 });
  assert.equal(all(element, "article")[0], first);
  assert.equal(details.open && document.activeElement === details.querySelector("summary"), true);
  assert.equal(one("[role=status].unseen").textContent, "Not finished: 3 steps");
  show({ ...whole, steps: whole.steps.slice(0, 1), outcome: null, best: 2, current: 2 });
  assert.deepEqual(texts(element, "article h3"), ["Step 1"]);
});

test("the focus in the table outlives a new column", () => {
  const whole = run();
  show({ ...whole, steps: whole.steps.slice(0, 2), outcome: null, best: 4 });
  one("thead a[href='#step-1']").focus();
  show(whole);
  assert.equal(document.activeElement.getAttribute("href"), "#step-1");
  assert.equal(document.activeElement.isConnected, true);
});

test("words of a model are only words", () => {
  const step = {
    index: 0,
    action: { kind: "EDIT", summary: HOSTILE, scene_prompt: HOSTILE, edit_prompt: HOSTILE, references: [7], goals: [HOSTILE, "never made"] },
    candidates: [{ canvas: 0, file: HOSTILE, seed: 1 }, { canvas: 9, file: HOSTILE, seed: 1 }],
    chosen: 0,
    verdicts: [{ goal: HOSTILE, state: "met", evidence: HOSTILE }, { goal: "unknown", state: "unmet", evidence: HOSTILE }],
    edit: { success: true, over_edit: 0.5, evidence: HOSTILE },
    reason: HOSTILE,
    cost: { seconds: { [HOSTILE]: 1 } },
  };
  const goals = [{ id: HOSTILE, text: HOSTILE, kind: HOSTILE, check: HOSTILE, feasibility: 0.5, conflicts_with: [HOSTILE] }];
  const brief = { prompt: HOSTILE, strategy: HOSTILE };
  const outcome = { reason: HOSTILE, canvas: 0, met: false, choice: HOSTILE };
  show({ brief, goals, models: { [HOSTILE]: HOSTILE }, plan: [[HOSTILE]], gate: HOSTILE, steps: [step], current: 0, best: 0, outcome, warnings: [HOSTILE] });
  assert.equal(all(element, "b, script, iframe, object").length, 0);
  assert.equal(globalThis.hacked ?? page.window.hacked, undefined);
  for (const every of all(element, "*")) {
    assert.equal([...every.attributes].some(({ name }) => name.startsWith("on")), false);
    for (const child of every.childNodes) {
      if (child.nodeType !== 3) continue;
      assert.doesNotMatch(child.data, /[\u0000-\u0008\u001b]/);
      if (child.data.includes("\u202e")) assert.ok(["bdi", "option"].includes(every.localName) || every.getAttribute("dir") === "auto", every.outerHTML.slice(0, 200));
    }
  }
  assert.ok(element.textContent.split("</script><script>").length > 15);
});

test("words of 100 kB are folded, and those beyond 200 kB are cut in words", () => {
  const word = "endless".repeat(15_000);
  const record = run();
  record.steps = [{ ...record.steps[0], reason: word, verdicts: [{ goal: "g1", state: "met", evidence: word }] }];
  show({ ...record, warnings: [word, "x".repeat(300_000)] });
  const folds = all(element, "details.fold").filter((fold) => fold.textContent.includes(word));
  assert.equal(folds.length, 3);
  for (const fold of folds) {
    assert.match(fold.firstChild.textContent, /Show all 105,000 characters/);
    assert.ok(fold.firstChild.textContent.length < 400);
  }
  assert.match(element.textContent, /100,000 more characters stand in the trajectory file/);
});

test("a long brief is a short heading and the whole below", () => {
  const prompt = "one two three ".repeat(100);
  show({ ...run(), brief: { ...run().brief, prompt } });
  assert.ok(one("h1").textContent.length <= 140 && one("h1").textContent.endsWith("\u2026"));
  assert.ok(element.textContent.includes(prompt.trim()));
});

test("a missing picture says so, one that does not load too", () => {
  viewer.pictures = (canvas) => (canvas === 5 ? { missing: "is not in the run folder" } : pictures(canvas));
  show(run());
  assert.match(one("#canvas-5").textContent, /^No picturecanvas-005\.png is not in the run folder/);
  one("#canvas-6 img").dispatchEvent(new Event("error"));
  assert.match(one("#canvas-6").textContent, /^No picture/);
  assert.equal(one("#canvas-6 .missing").getAttribute("aria-label").startsWith("Missing picture. Canvas 6"), true);
  const small = all(element, "thead .thumb img").length;
  all(element, "thead .thumb img")[0].dispatchEvent(new Event("error"));
  assert.equal(all(element, "thead .thumb img").length, small - 1);
});

test("a run without any picture is no blank panel", () => {
  viewer.pictures = () => ({ missing: "is not in the PNG" });
  show(run());
  assert.equal(all(element, "img").length, 0);
  assert.ok(texts(element, ".missing").length >= 8);
});

for (const [name, record] of [
  ["a newer schema", { ...run(), schema: 2 }],
  ["no record", undefined],
  ["damage", { ...run(), steps: [{}] }],
]) {
  test(`${name} is refused in words, and a good run can follow`, () => {
    assert.equal(viewer.show(record), false);
    assert.match(one("[role=alert]").textContent, /trajectory/);
    show(run());
    assert.equal(all(element, "[role=alert]").length, 0);
    assert.equal(viewer.show(record), false);
    assert.equal(all(element, "article").length, 0);
  });
}

test("what goes wrong while drawing is said too", () => {
  viewer.pictures = () => {
    throw new Error("no address");
  };
  assert.equal(viewer.show(run()), false);
  assert.equal(element.textContent, "This run cannot be shown: no address");
});

test("fifty steps are cards with all that is in them", () => {
  show(long(50));
  assert.equal(all(element, "article").length, 50);
  assert.equal(all(element, "article > details.inside").length, 0);
  assert.equal(all(element, "thead th").length, 52);
  assert.equal(all(element, "ol.line ol.line").length, 9);
  assert.match(element.textContent, /Not finished/);
});

test("of a hundred steps the older cards are folded and open on demand", () => {
  show(long(100));
  assert.equal(all(element, "article").length, 100);
  assert.equal(all(element, "article > details.inside").length, 90);
  assert.match(element.textContent, /The newest 60 of 100 steps/);
  assert.equal(all(element, "#canvas-7").length, 0);
  viewer.reveal("canvas-7");
  assert.equal(document.activeElement.id, "canvas-7");
  const folded = all(element, "#step-20")[0].closest("article").querySelector("details.inside");
  folded.open = true;
  folded.dispatchEvent(new Event("toggle"));
  assert.equal(all(folded, "figure").length, 1);
});

test("what the artist said stands with the step it was said of", () => {
  const remark = { after: 1, say: "stop", words: "more light", corrected: { g1: "unmet" }, dropped: ["g2"], back_to: 2, mask: "mask-1.png" };
  show({ ...run(), remarks: [remark] });
  const remarked = one(".remark");
  assert.equal(remarked.closest("article").querySelector("h3").textContent, "Step 2");
  for (const words of ["stopped the run", "more light", "said unmet: a red circle", "no longer wants: two blue squares", "canvas 2", "painted"]) assert.ok(remarked.textContent.includes(words), words);
});

test("odd numbers and unknown canvases are shown as such", () => {
  for (const record of [
    { brief: { prompt: "x" } },
    { brief: { prompt: "x" }, outcome: { reason: "stopped by hand", canvas: null, met: false } },
    { brief: { prompt: "x" }, steps: [{ index: 0, action: { kind: "END" } }], outcome: { reason: "", canvas: 99, met: true } },
    { brief: { prompt: "x", budget: { rounds: null } }, steps: [{ index: 0, action: { kind: "EDIT", region: [null, 0, 9, -9], references: [4] }, parent: 5, cost: { seconds: { a: null } } }] },
  ]) {
    show(record);
    assert.equal(one("h1").textContent, "x");
  }
  assert.match(element.textContent, /canvas 5 \(never drawn\)/);
});

test("nothing is left after it is destroyed", () => {
  const listening = new Set();
  const { addEventListener, removeEventListener } = element;
  element.addEventListener = function (type, listener, options) {
    listening.add(type);
    options.signal.addEventListener("abort", () => listening.delete(type));
    addEventListener.call(this, type, listener, options);
  };
  element.removeEventListener = removeEventListener;
  const other = new Viewer(element, pictures);
  other.show(run());
  assert.ok(listening.size >= 2);
  other.destroy();
  assert.deepEqual([listening.size, element.childNodes.length], [0, 0]);
});

test("chips of a long list of goals end in a number", () => {
  const record = run();
  record.goals = Array.from({ length: 40 }, (_, place) => ({ id: `g${place}`, text: `goal ${place}` }));
  record.steps = [{ ...record.steps[0], verdicts: record.goals.map(({ id }) => ({ goal: id, state: "met" })) }];
  show(record);
  assert.equal(all(element, ".chips li").length, 24);
  assert.match(element.textContent, /and 16 more goals in the list of verdicts.*Show 39 more verdicts|Show 32 more verdicts/s);
  assert.deepEqual(judged("met").length, 1);
});

test("a picture that was given is the start of the line, and no step drew it", () => {
  const given = { index: 0, action: { kind: "GIVEN", summary: "The picture that was given." }, candidates: drawn(0), chosen: 0, verdicts: judged("met", "unmet"), accepted: true };
  const edit = { ...run().steps[1], index: 1, parent: 0, candidates: drawn(1), chosen: 1 };
  show({ ...run(), steps: [given, edit], current: 0, best: 0, outcome: { ...run().outcome, canvas: 0 } });
  assert.deepEqual(texts(element, "article h3"), ["The picture given", "Step 1"]);
  const [first] = all(element, "article");
  assert.match(first.textContent, /Given.*Handed over/);
  assert.doesNotMatch(first.textContent, /from the empty canvas/);
  assert.match(first.querySelector("figure img, figure [role=img]")?.getAttribute("alt") ?? first.innerHTML, /Canvas 0, given\./);
});
