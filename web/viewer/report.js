/** Entry of report.html: shows the viewer with the data embedded in the page. */

import { el } from "./dom.js";
import { mark } from "./language.js";
import { parse } from "./record.js";
import { Viewer } from "./viewer.js";

/** Shows the run embedded in the page and removes the summary for browsers without scripts. */
export function showReport() {
  const held = /** @type {HTMLElement} */ (document.getElementById("clvr-run")).textContent ?? "";
  const { record, pictures } = parse(held);
  const essentials = /** @type {HTMLElement} */ (document.getElementById("clvr-essentials"));
  for (const image of essentials.querySelectorAll("img")) pictures[image.dataset.canvas ?? ""] = { url: image.src };
  const main = el("main", { class: "clvr" });
  const links = ["Goals", "Compare", "Steps", "Totals"].map((words) => el("li", {}, el("a", { href: `#${words.toLowerCase()}` }, words)));
  const top = el(
    "header",
    { class: "top clvr" },
    el("p", { class: "brand" }, el("strong", {}, "CLVR"), " run report"),
    el("nav", { "aria-label": "Sections" }, el("ul", { role: "list" }, ...links)),
  );
  const viewer = new Viewer(main, (canvas) => pictures[canvas] ?? { missing: mark("is not in the run folder") });
  const shown = viewer.show(record);
  top.addEventListener("click", (event) => viewer.clicked(event));
  const skip = el("a", { href: "#steps", class: "skip" }, "Skip to the steps");
  skip.addEventListener("click", (event) => viewer.clicked(event));
  essentials.before(skip, top, main);
  if (shown) essentials.remove();
  viewer.reveal(location.hash.slice(1));
}
