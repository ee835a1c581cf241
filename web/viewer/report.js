/** Entry of report.html: shows the viewer with the data embedded in the page, in the language of the browser. */

import { el } from "./dom.js";
import { mark, pieces, speak, t } from "./language.js";
import { ending } from "./overview.js";
import { parse, read } from "./record.js";
import { Viewer } from "./viewer.js";
import { shorten } from "./words.js";

const SECTIONS = { goals: mark("Goals"), compare: mark("Compare"), steps: mark("Steps"), totals: mark("Totals") };

/** Shows the run embedded in the page and removes the summary for browsers without scripts. */
export function showReport() {
  const held = embedded("clvr-run");
  const language = choose(JSON.parse(embedded("clvr-words")));
  const { record, pictures } = parse(held);
  const essentials = /** @type {HTMLElement} */ (document.getElementById("clvr-essentials"));
  for (const image of essentials.querySelectorAll("img")) pictures[image.dataset.canvas ?? ""] = { url: image.src };
  const main = el("main", { class: "clvr" });
  const links = Object.entries(SECTIONS).map(([id, words]) => el("li", {}, el("a", { href: `#${id}` }, t(words))));
  const top = el(
    "header",
    { class: "top clvr" },
    el("p", { class: "brand" }, ...pieces("{clvr} run report", { clvr: el("strong", {}, "CLVR") })),
    el("nav", { "aria-label": t("Sections") }, el("ul", { role: "list" }, ...links)),
  );
  const viewer = new Viewer(main, (canvas) => pictures[canvas] ?? { missing: mark("is not in the run folder") });
  const shown = viewer.show(record);
  top.addEventListener("click", (event) => viewer.clicked(event));
  const skip = el("a", { href: "#steps", class: "skip" }, t("Skip to the steps"));
  skip.addEventListener("click", (event) => viewer.clicked(event));
  essentials.before(skip, top, main);
  if (shown) essentials.remove();
  if (language) around(language, shown ? read(record) : null);
  viewer.reveal(location.hash.slice(1));
}

/** @param {string} id of a script element that holds data */
function embedded(id) {
  return document.getElementById(id)?.textContent ?? "";
}

/**
 * Takes the first language of the browser that there is; English needs no words. @returns {string} its code; empty for English
 * @param {Record<string, import("./language.js").Dictionary>} words by language
 */
function choose(words) {
  const wanted = navigator.languages.map((language) => language.split("-")[0].toLowerCase());
  const found = wanted.find((language) => language === "en" || Object.hasOwn(words, language)) ?? "en";
  if (found === "en") return "";
  speak(() => words[found]);
  return found;
}

/** Says what stands around the viewer in the language too. @param {string} language @param {import("./record.js").Run | null} run as it is shown */
function around(language, run) {
  document.documentElement.lang = language;
  if (!run) return;
  document.title = `${ending(run)[1]}: ${shorten(run.brief.prompt, 70)}`;
  const made = /** @type {HTMLElement} */ (document.querySelector("footer p"));
  made.textContent = t("Made by clvr from a trajectory of schema {n}. This page loads nothing.", { n: run.schema });
}
