import assert from "node:assert/strict";
import { test } from "node:test";

import { many } from "../../../web/viewer/language.js";
import { clean, figure, metWords, percent, seconds, shorten } from "../../../web/viewer/words.js";

test("times", () => {
  assert.deepEqual([0.123, 3.21, 42.4, 99.9, 120, 255, 3720, NaN].map(seconds), ["0.12 s", "3.2 s", "42 s", "100 s", "2 min", "4 min 15 s", "1 h 2 min", "unknown"]);
});

test("numbers", () => {
  assert.deepEqual([many(1, "{n} goal", "{n} goals"), many(1234, "{n} goal", "{n} goals"), percent(0.4), percent(Infinity), figure(0.66666)], ["1 goal", "1,234 goals", "40\u00a0%", "unknown", "0.667"]);
});

const share = (met, all) => ({ met, all });

for (const [must, nice, words] of [
  [share(1, 1), share(0, 0), "1 of 1 goal met"],
  [share(8, 8), share(0, 1), "8 of 8 must-have goals met, 0 of 1 nice to have"],
  [share(0, 0), share(1, 2), "1 of 2 nice to have met"],
]) {
  test(`goals in words: ${words}`, () => assert.equal(metWords({ must, nice }), words));
}

for (const [text, short] of [["a b", "a b"], ["one  two\nthree", "one two\u2026"], ["x".repeat(50), `${"x".repeat(11)}\u2026`]]) {
  test(`shortened: ${short}`, () => assert.equal(shorten(text, 12), short));
}

test("what no page may hold is the replacement character; whole emoji stay", () => {
  assert.equal(clean("a\u0000b\r\nc\ud800d\udc00e\u{1f600}"), "a\ufffdb\nc\ufffdd\ufffde\u{1f600}");
});
