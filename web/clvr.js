/** Registers with ComfyUI's front end what stands on nodes, the sidebar, and what a dropped picture opens. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { attachBefore } from "./brief/node.js";
import { again, menuOf, pick } from "./comfy/again.js";
import { openDropped } from "./comfy/drop.js";
import { attachFailure } from "./comfy/failure.js";
import { fold } from "./comfy/fold.js";
import { giveWidget } from "./comfy/given.js";
import { Language } from "./comfy/locale.js";
import { SHOWN_ON, attach, later, restore } from "./comfy/node.js";
import { WIDE, roomForPrompt, widen } from "./comfy/room.js";
import { Runs } from "./comfy/runs.js";
import { Sidebar, stopAfterRound } from "./comfy/sidebar.js";
import { el } from "./viewer/dom.js";

const runs = new Runs(api);
const language = new Language((setting) => app.extensionManager.setting.get(setting));
/** @type {WeakMap<object, import("./comfy/panel.js").Panel>} */
const panels = new WeakMap();
/** Makes ComfyUI store the workflow with the name of the run, although the graph was not edited. */
const noted = () => app.extensionManager.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.();

app.registerExtension({
  name: "clvr.viewer",
  async setup() {
    await language.load(api);
    document.head.append(el("link", { rel: "stylesheet", href: new URL("./comfy/nodes.css", import.meta.url).href }));
    // Listeners that do nothing: ComfyUI warns of events without a listener, and no viewer may be open.
    for (const type of ["clvr.run", "clvr.node"]) api.addEventListener(type, () => {});
    const sidebar = new Sidebar(runs, app.extensionManager, (widget, value) => giveWidget(app, widget, value));
    sidebar.register();
    openDropped(app, runs, sidebar);
  },
  nodeCreated(/** @type {any} */ node) {
    if (!node.comfyClass?.startsWith("CLVR_")) return;
    // In one extension, so that their order on a node is the same at each load.
    language.nameNode(node);
    attachBefore(node, api);
    if (SHOWN_ON.includes(node.comfyClass)) {
      const panel = attach(node, runs, noted);
      panel.pick = (run, canvas) => pick(runs, app.extensionManager.toast, run, canvas);
      panels.set(node, panel);
    }
    else attachFailure(node, runs);
    fold(node, (setting) => app.extensionManager.setting.get(setting));
    roomForPrompt(node);
    if (WIDE.includes(node.comfyClass)) widen(node, later(node));
  },
  getNodeMenuItems(/** @type {any} */ node) {
    return menuOf(node, (way, run) => again(runs, app.extensionManager.toast, way, run), (run) => stopAfterRound(runs, app.extensionManager.toast, run));
  },
  loadedGraphNode(/** @type {any} */ node) {
    restore(node, panels.get(node));
    if (node.comfyClass?.startsWith("CLVR_")) language.nameTitle(node);
    language.nameNote(node);
  },
  afterConfigureGraph() {
    for (const group of app.graph.groups) language.nameNote(group);
  },
});
