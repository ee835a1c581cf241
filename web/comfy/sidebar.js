/** The sidebar tab: the gallery of runs in the output folder, the viewer for one of them, and two side by side. */

import { el } from "../viewer/dom.js";
import { mark, t } from "../viewer/language.js";
import { WAYS, again, pick, ways } from "./again.js";
import { sentenceOf } from "./failure.js";
import { Gallery } from "./gallery.js";
import { Panel, failure, shadowed, tell } from "./panel.js";
import { sideBySide } from "./sidebyside.js";

export const TAB = "clvr";
const EMPTY = mark("Choose a run.");
const PACK = "CLVR_";
const STYLE = new URL("./sidebar.css", import.meta.url).href;
/** Milliseconds. */
const TOAST = 20_000;
const SHORT_TOAST = 8000;
/** Milliseconds after which the list follows runs that go on. */
const REST = 1500;

export class Sidebar {
  /**
   * @param {import("./runs.js").Runs} runs @param {any} manager ComfyUI's extension manager
   * @param {(widget: string, value: string) => string} set gives a widget of the node that is to run this value; returns the node's title, "" if there is none
   */
  constructor(runs, manager, set = () => "") {
    this.runs = runs;
    this.manager = manager;
    this.set = set;
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

  /** Does the work and says in a toast what came of it. @param {() => Promise<string>} work gives a sentence */
  async tell(work) {
    try {
      this.manager.toast.add({ severity: "info", summary: "CLVR", detail: await work(), life: SHORT_TOAST });
      return true;
    } catch (error) {
      this.manager.toast.add({ severity: "error", summary: "CLVR", detail: error instanceof Error ? error.message : String(error), life: SHORT_TOAST });
      return false;
    }
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
    const { host, box } = shadowed(t("Runs"), [STYLE]);
    const compared = el("div", {});
    const open = (/** @type {string} */ run) => {
      panel.follow(run);
      turn(view);
    };
    const compare = async (/** @type {import("./runs.js").Listed} */ one, /** @type {import("./runs.js").Listed} */ other) => {
      turn(pair);
      compared.replaceChildren(await sideBySide(this.runs, [one.run, other.run]).catch((problem) => el("p", { class: "notice", role: "alert" }, problem.message)));
    };
    const gallery = new Gallery((run) => this.runs.thumbOf(run), open, compare);
    const tools = this.tools(() => panel.run ?? "", () => leave());
    const view = el("div", { class: "viewing", hidden: true }, el("div", { class: "tools" }, this.back(() => leave()), ...tools.all));
    const pair = el("div", { class: "viewing", hidden: true }, el("div", { class: "tools" }, this.back(() => leave())), compared);
    const panel = new Panel(this.runs, t(EMPTY), () => tools.update());
    panel.pick = (run, canvas) => pick(this.runs, this.manager.toast, run, canvas);
    view.append(panel.host);
    box.append(gallery.element, view, pair);
    this.told = () => tell(this.failure, box, this.failed);
    this.told();
    place.replaceChildren(host);
    host.style.cssText += "height: 100%; overflow: hidden;";

    const turn = (/** @type {HTMLElement} */ shown) => {
      for (const each of [gallery.element, view, pair]) each.hidden = each !== shown;
      if (shown === gallery.element) gallery.draw();
      else shown.querySelector("button")?.focus();
    };
    const leave = () => {
      panel.say(t(EMPTY));
      compared.replaceChildren();
      turn(gallery.element);
      fill();
    };
    const fill = async () => {
      const rows = await this.runs.list().catch((problem) => String(problem.message));
      if (typeof rows === "string") gallery.say(rows);
      else gallery.show(rows);
    };
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let resting;
    const refill = () => {
      resting ??= setTimeout(() => {
        resting = undefined;
        if (gallery.element.hidden) tools.update();
        else fill();
      }, REST);
    };
    this.shown = () => {
      if (!this.wanted) return;
      this.wanted(panel);
      this.wanted = null;
      turn(view);
    };
    this.runs.api.addEventListener("clvr.run", refill);
    this.close = () => {
      clearTimeout(resting);
      this.runs.api.removeEventListener("clvr.run", refill);
      gallery.close();
      panel.destroy();
      host.remove();
      this.told = this.close = () => {};
    };
    tools.update();
    fill();
    this.shown();
  }

  /** @param {() => void} leave */
  back(leave) {
    const button = el("button", { type: "button" }, t("All runs"));
    button.addEventListener("click", leave);
    return button;
  }

  /** What can be done with the run that is shown. @param {() => string} run its name, "" for a picture that was dropped @param {() => void} leave goes back to the gallery */
  tools(run, leave) {
    const { runs, manager } = this;
    const make = (/** @type {string} */ words, /** @type {string} */ title, /** @type {() => unknown} */ work) => {
      const button = el("button", { type: "button", title }, words);
      button.addEventListener("click", () => run() && work());
      return button;
    };
    const use = (/** @type {string} */ widget, /** @type {"seed" | "prompt"} */ key) =>
      this.tell(async () => {
        const { brief } = /** @type {any} */ (await runs.recordOf(run()));
        const node = this.set(widget, String(brief?.[key] ?? ""));
        if (!node) throw new Error(t("No node of the graph takes it: add Generate in a Loop or Brief, or select one."));
        return t("{node} has it now.", { node });
      });
    const remove = async () => {
      const asked = { title: t("Delete the run?"), message: t("Its folder {run} is moved to clvr-trash in the output folder.", { run: run() }), type: "delete" };
      if ((await manager.dialog.confirm(asked)) && (await this.tell(async () => t("The run lies in {folder} now.", { folder: (await runs.doWith("delete", run())).folder })))) leave();
    };
    const folder = () =>
      this.tell(async () => {
        const { shown, folder: where } = await runs.doWith("open", run());
        return shown ? t("The folder is opened: {folder}", { folder: where }) : t("ComfyUI cannot open a folder here. It is {folder} on the machine of ComfyUI.", { folder: where });
      });
    const afresh = ways().map((way) => make(t(WAYS[way].words), t(WAYS[way].title), () => again(runs, manager.toast, way, run())));
    const stop = make(t("Stop after this round"), t("The round that is at work is finished and judged, and the best canvas handed over."), () => stopAfterRound(runs, manager.toast, run()));
    const clean = el("a", { download: "" }, t("Save a clean copy"));
    const own = [
      make(t("Use this seed"), t("Puts the seed into the node that is selected, or the first that takes one."), () => use("seed", "seed")),
      make(t("Use this brief"), t("Puts the prompt into the node that is selected, or the first that takes one."), () => use("prompt", "prompt")),
      make(t("Open the folder"), t("In the file manager of the machine of ComfyUI."), folder),
      make(t("Delete"), t("Moves the run to clvr-trash in the output folder."), remove),
    ];
    const group = el("span", { class: "afresh" }, stop, ...afresh);
    return {
      all: [group, ...own, clean],
      update: async () => {
        const name = run();
        // A saved run is a copy that no prompt continues.
        group.hidden = !name || name.includes("/");
        for (const each of [...own, clean]) each.hidden = !name;
        const listed = name ? (await runs.list().catch(() => [])).find((each) => each.run === name) : undefined;
        if (name !== run()) return;
        clean.hidden = listed?.best === null || listed === undefined;
        if (listed) clean.href = runs.cleanOf(listed);
        stop.hidden = listed?.met !== null;
      },
    };
  }
}

/** @param {import("./runs.js").Runs} runs @param {any} toast ComfyUI's @param {string} run */
export async function stopAfterRound(runs, toast, run) {
  try {
    await runs.doWith("stop", run);
    toast.add({ severity: "info", summary: "CLVR", detail: t("The run stops after this round."), life: SHORT_TOAST });
  } catch (error) {
    toast.add({ severity: "error", summary: "CLVR", detail: error instanceof Error ? error.message : String(error), life: SHORT_TOAST });
  }
}
