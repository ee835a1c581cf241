/** Two runs beside each other: their pictures, what they came to, and each goal. */

import { stateOf } from "../viewer/card.js";
import { chip, el, name } from "../viewer/dom.js";
import { t } from "../viewer/language.js";
import { hero } from "../viewer/overview.js";
import { replaceBroken } from "../viewer/pictures.js";
import { read } from "../viewer/record.js";
import { handedOver, known } from "../viewer/tree.js";
import { viewOf } from "../viewer/viewer.js";
import { WORDS } from "../viewer/words.js";

/** @param {import("./runs.js").Runs} runs @param {string[]} names @returns {Promise<HTMLElement>} */
export async function sideBySide(runs, names) {
  const views = await Promise.all(names.map((run) => load(runs, run)));
  const goals = new Map(views.flatMap(({ goals }) => [...goals.values()]).map((goal) => [goal.text || goal.id, goal]));
  const element = el("div", { class: "sides" }, ...views.map((view, place) => el("section", { "aria-label": names[place] }, hero(view))));
  const heads = [t("Goal"), ...names].map((words) => el("th", { scope: "col" }, name(words, 40)));
  const rows = [...goals.keys()].map((text) => el("tr", {}, el("th", { scope: "row" }, name(text, 160)), ...views.map((view) => el("td", {}, verdict(view, text)))));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
  const both = el("div", {}, element, el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": t("Goals of both runs") }, table));
  both.addEventListener("error", replaceBroken, { capture: true });
  return both;
}

/** @param {import("./runs.js").Runs} runs @param {string} run */
async function load(runs, run) {
  return viewOf(read(await runs.recordOf(run)), runs.picturesOf(run));
}

/** What was judged of the goal with this text on the canvas handed over. @param {import("../viewer/card.js").RunView} view @param {string} text */
function verdict(view, text) {
  const goal = [...view.goals.values()].find((each) => (each.text || each.id) === text);
  const found = goal && known(view.run.steps, handedOver(view.run)).get(goal.id);
  if (!found) return "\u2013";
  const state = stateOf(found, new Set(), view.optional);
  return chip(state, t(WORDS[state]));
}
