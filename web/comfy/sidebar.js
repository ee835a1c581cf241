/** The sidebar tab: the list of runs in the output folder, and the viewer for one of them. */

import { chip, el, name } from "../viewer/dom.js";
import { many, mark, t } from "../viewer/language.js";
import { WAYS, again, ways } from "./again.js";
import { sentenceOf } from "./failure.js";
import { Panel, failure, shadowed, tell } from "./panel.js";

export const TAB = "clvr";
const EMPTY = mark("Choose a run.");
const PACK = "CLVR_";
/** Milliseconds. */
const TOAST = 20_000;

export class Sidebar {
  /** @param {import("./runs.js").Runs} runs @param {any} manager ComfyUI's extension manager */
  constructor(runs, manager) {
    this.runs = runs;
    this.manager = manager;
    /** @type {((panel: Panel) => void) | null} */
    this.wanted = null;
    this.close = () => {};
    this.failure = failure();
    this.failed = "";
    this.told = () => {};
  }

  /** Says what stopped the last run, in the tab and in a toast; an empty sentence takes it back. @param {string} words */
  fail(words) {
    this.failed = words;
    this.told();
    if (words) this.manager.toast.add({ severity: "error", summary: "CLVR", detail: words, life: TOAST });
  }

  register() {
    this.runs.api.addEventListener("execution_start", () => this.fail(""));
    this.runs.api.addEventListener("execution_error", ({ detail }) => detail.node_type?.startsWith(PACK) && this.fail(sentenceOf(detail)));
    const tab = {
      id: TAB,
      icon: "pi pi-history",
      title: "CLVR",
      tooltip: t("CLVR: runs and their steps"),
      type: "custom",
      render: (/** @type {HTMLElement} */ place) => this.render(place),
      destroy: () => this.close(),
    };
    (this.manager.sidebarTab ?? this.manager).registerSidebarTab(tab);
  }

  /** Opens the tab and calls `show` with its panel. @param {(panel: Panel) => void} show */
  open(show) {
    this.wanted = show;
    if (this.manager.sidebarTab?.activeSidebarTabId === TAB) this.shown?.();
    else this.manager.command.execute(`Workspace.ToggleSidebarTab.${TAB}`);
  }

  /** @param {HTMLElement} place */
  render(place) {
    this.close();
    const { host, box } = shadowed(t("Runs"));
    const list = el("ul", { class: "runs" });
    const back = el("button", { type: "button" }, t("All runs"));
    const ask = (/** @type {import("./again.js").Way} */ way) => {
      const button = el("button", { type: "button", title: t(WAYS[way].title) }, t(WAYS[way].words));
      button.addEventListener("click", () => panel.run && again(this.runs, this.manager.toast, way, panel.run));
      return button;
    };
    const afresh = el("span", { class: "afresh" }, ...ways().map(ask));
    const view = el("div", { class: "viewing", hidden: true }, el("div", { class: "row" }, back, afresh));
    const choose = el("div", { class: "choosing" }, el("h2", {}, t("Runs")), list);
    // A saved run is a copy that no prompt continues.
    const panel = new Panel(this.runs, t(EMPTY), () => (afresh.hidden = !panel.run || panel.run.includes("/")));
    view.append(panel.host);
    box.append(choose, view);
    this.told = () => tell(this.failure, box, this.failed);
    this.told();
    place.replaceChildren(host);
    host.style.cssText += "height: 100%; overflow: hidden;";

    const turn = (/** @type {boolean} */ viewing) => ([choose.hidden, view.hidden] = [viewing, !viewing]);
    const fill = async () => {
      const rows = await this.runs.list().catch((problem) => String(problem.message));
      if (typeof rows === "string") list.replaceChildren(el("li", { role: "alert" }, rows));
      else if (!rows.length) list.replaceChildren(el("li", { class: "note" }, t("There is no run in the output folder yet.")));
      else list.replaceChildren(...rows.map(row));
    };
    const refill = () => choose.hidden || fill();
    back.addEventListener("click", () => {
      panel.say(t(EMPTY));
      turn(false);
      fill();
    });
    list.addEventListener("click", (event) => {
      const run = event.target instanceof Element && event.target.closest("button")?.dataset.run;
      if (!run) return;
      panel.follow(run);
      turn(true);
      back.focus();
    });
    this.shown = () => {
      if (!this.wanted) return;
      this.wanted(panel);
      this.wanted = null;
      turn(true);
    };
    this.runs.api.addEventListener("clvr.run", refill);
    this.close = () => {
      this.runs.api.removeEventListener("clvr.run", refill);
      panel.destroy();
      host.remove();
      this.told = this.close = () => {};
    };
    fill();
    this.shown();
  }
}

/** @param {import("./runs.js").Listed} listed */
function row({ run, prompt, steps, met }) {
  const state = met === null ? chip("pending", t("not finished")) : met ? chip("met", t("brief met")) : chip("unmet", t("brief not met"));
  return el("li", {}, el("button", { type: "button", "data-run": run }, name(prompt, 120), el("span", { class: "row" }, state, many(steps, "{n} step", "{n} steps")), name(run, 80, "id")));
}
