import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { page } from "./page.js";
import { Reviews } from "../../../web/review/reviews.js";

const HOSTILE = "<img src=x onerror=alert(1)>";
const review = (changes = {}) => ({
  id: "q1",
  prompt: "a red circle",
  width: 96,
  height: 96,
  subfolder: "clvr/run-1",
  first: 1,
  current: 1,
  canvases: [
    { canvas: 0, file: "canvas-000.png", step: 0, accepted: true },
    { canvas: 1, file: "canvas-001.png", step: 1, accepted: true },
  ],
  goals: [
    { id: "g1", text: `a red circle ${HOSTILE}`, state: "met", need: "must" },
    { id: "g2", text: "nothing else", state: "unmet", need: "must" },
  ],
  step: { index: 1, kind: "EDIT", summary: "I add.", reason: HOSTILE },
  seconds: 60,
  otherwise: "go on",
  ...changes,
});

let asked;
let fails;
let left;
let reviews;
beforeEach(() => {
  asked = [];
  fails = null;
  const ask = async (path, body) => {
    asked.push([path, body]);
    if (fails) throw new Error(fails);
    return { seconds: 60 };
  };
  left = [];
  reviews = new Reviews(document.body, ask, (_, file) => `/view?${file}`, (...all) => left.push(all));
});
afterEach(() => {
  reviews.show([]);
  reviews.host.remove();
});
const find = (selector) => reviews.list.querySelector(selector);
const settle = () => new Promise((done) => setTimeout(done, 0));

test("in place of an answer the run is begun anew, or goes on before what was said last", () => {
  reviews.show([review()]);
  for (const way of ["anew", "take-back"]) find(`.others .${way}`).click();
  assert.deepEqual(left, [["anew", "run-1"], ["take-back", "run-1"]]);
});

test("a nice-to-have goal that is missed does not look like a failure", () => {
  const [first, second] = review().goals;
  reviews.add(review({ goals: [first, { ...second, need: "nice" }] }));
  assert.deepEqual([...reviews.list.querySelectorAll(".marks .chip")].map(({ textContent }) => textContent), ["met", "nice to have, not met"]);
});

test("where a goal was found wrong is drawn on the canvas, and a button paints the mask there", () => {
  const [first, second] = review().goals;
  reviews.add(review({ goals: [first, { ...second, places: [[0.25, 0.5, 0.75, 1]] }] }));
  assert.deepEqual(["x", "y", "width", "height"].map((edge) => find(".paper .faults rect").getAttribute(edge)), ["25", "50", "50", "50"]);
  assert.ok(find(".marks .places").textContent.includes("left 25\u00a0%, top 50\u00a0%"));
  find(".marks .where").click();
  assert.ok(find(".paper .faults rect").classList.contains("on"));
  const filled = [];
  const sheet = find(".paper canvas");
  sheet.getContext = () => ({ fillRect: (...edges) => filled.push(edges), clearRect: () => {} });
  find(".marks .paint").click();
  assert.deepEqual(filled, [[24, 48, 48, 48]]);
  const back = find(".field select");
  back.value = "0";
  back.dispatchEvent(new Event("change"));
  assert.ok(find(".paper .faults").hasAttribute("hidden"), "another canvas has other faults");
});

test("what was chosen is what is answered", async () => {
  reviews.add(review());
  find("textarea").value = "  warmer light ";
  const [first, second] = reviews.list.querySelectorAll(".marks select");
  first.value = "dropped";
  second.value = "met";
  find(".field select").value = "0";
  find(".go-on").click();
  await settle();
  assert.deepEqual(asked, [
    ["/clvr/reviews/q1", { say: "go on", words: "warmer light", corrected: { g2: "met" }, dropped: ["g1"], back_to: 0, mask: "" }],
  ]);
  assert.equal(reviews.panels.size, 0);
});

test("a candidate of the round is picked by a click", async () => {
  const candidates = [{ canvas: 1, file: "canvas-001.png", chosen: true }, { canvas: 2, file: "canvas-002.png", chosen: false }];
  reviews.add(review({ candidates }));
  reviews.panels.get("q1").mask.clear = () => {}; // there is no canvas to draw on
  const [first, second] = reviews.list.querySelectorAll(".candidate");
  assert.deepEqual([first.getAttribute("aria-pressed"), second.getAttribute("aria-pressed")], ["true", "false"]);
  second.click();
  assert.deepEqual([first.getAttribute("aria-pressed"), second.getAttribute("aria-pressed")], ["false", "true"]);
  assert.match(find(".paper img").src, /canvas-002/);
  find(".go-on").click();
  await settle();
  assert.equal(asked.at(-1)[1].back_to, 2);
});

test("the current canvas is not gone back to", async () => {
  reviews.add(review());
  find(".accept").click();
  await settle();
  assert.equal(asked[0][1].back_to, null);
});

test("a refused answer is said in words and can be given again", async () => {
  reviews.add(review());
  fails = `the mask is empty ${HOSTILE}`;
  find(".stop").click();
  await settle();
  assert.match(find("[role=alert]").textContent, /the mask is empty/);
  assert.equal(find(".review").hasAttribute("inert"), false);
  fails = null;
  find(".stop").click();
  await settle();
  assert.equal(reviews.panels.size, 0);
});

test("words of a model are words", () => {
  reviews.add(review());
  assert.equal(reviews.list.querySelectorAll("img").length, 1, "the canvas alone");
  assert.match(reviews.list.textContent, /<img src=x onerror=alert\(1\)>/);
});

test("a question that came twice stands once, and one that is over goes", () => {
  reviews.add(review());
  reviews.add(review());
  assert.equal(reviews.list.children.length, 1);
  reviews.show([review({ id: "q2" })]);
  assert.deepEqual([...reviews.panels.keys()], ["q2"]);
  reviews.remove("q2");
  assert.equal(reviews.list.children.length, 0);
});

test("who types is not hurried", async () => {
  reviews.add(review({ seconds: 2 }));
  find("textarea").dispatchEvent(new page.window.Event("input", { bubbles: true }));
  await settle();
  assert.deepEqual(asked, [["/clvr/reviews/q1/stay", {}]]);
  assert.match(find("[role=timer]").textContent, /^\d+ s, then go on$/);
});

test("a mask is painted with the keyboard too", () => {
  reviews.add(review());
  const { mask } = [...reviews.panels.values()][0];
  const lines = [];
  Object.defineProperty(mask, "pen", { value: { beginPath() {}, stroke() {}, moveTo: (x, y) => lines.push([x, y]), lineTo: (x, y) => lines.push([Math.round(x), y]) } });
  const key = (name) => {
    const event = new page.window.KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true });
    find(".mask canvas").dispatchEvent(event);
    return event.defaultPrevented;
  };
  mask.size.value = "25"; // of 96: a brush of 24 pixels, which moves by 12
  assert.deepEqual([key("ArrowLeft"), key("a"), mask.painted], [true, false, false]);
  key(" ");
  key("ArrowUp");
  assert.deepEqual(lines, [[36, 48], [36, 48], [36, 48], [36, 36]]);
  for (let press = 0; press < 9; press++) key("ArrowUp");
  assert.deepEqual(lines.at(-1), [36, 0], "not beyond the edge");
  key(" ");
  key("ArrowRight");
  assert.equal(lines.length, 22);
  assert.deepEqual([mask.painted, mask.brush.style.left], [true, "50%"]);
});

test("a question does not take the focus from a field in which a person is typing", () => {
  const field = document.body.appendChild(document.createElement("textarea"));
  field.focus();
  reviews.add(review());
  assert.equal(document.activeElement, field);
  assert.match(reviews.host.shadowRoot.querySelector("[role=status]").textContent, /Review of step 2/);
  field.remove();
  reviews.add(review({ id: "q2" }));
  assert.equal(reviews.host.shadowRoot.activeElement, reviews.list.lastChild);
});

test("a key that is typed does not reach the graph, and ComfyUI sees that a field has the focus", () => {
  reviews.add(review());
  const heard = [];
  const listen = (event) => heard.push(event.key);
  document.addEventListener("keydown", listen);
  find("textarea").dispatchEvent(new page.window.KeyboardEvent("keydown", { key: "Delete", bubbles: true, composed: true }));
  document.removeEventListener("keydown", listen);
  assert.deepEqual(heard, []);
  const { host } = reviews;
  assert.deepEqual([host.type, host.isContentEditable], ["", false]);
  find("textarea").focus();
  assert.deepEqual([host.type, host.isContentEditable], ["textarea", true]);
  find(".accept").focus();
  assert.deepEqual([host.type, host.isContentEditable], ["", false]);
});

test("everything that can be worked has a name", () => {
  reviews.add(review());
  for (const element of reviews.list.querySelectorAll("button, select, textarea, input, canvas, section")) {
    assert.ok(element.getAttribute("aria-label") || element.textContent.trim() || element.closest("label"), element.outerHTML);
  }
});
