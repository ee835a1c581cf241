/** What ComfyUI's front end calls. All else in this folder is without effect until it is used. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { openDropped } from "./comfy/drop.js";
import { SHOWN_ON, attach, restore } from "./comfy/node.js";
import { Runs } from "./comfy/runs.js";
import { Sidebar } from "./comfy/sidebar.js";

const runs = new Runs(api);
/** @type {WeakMap<object, import("./comfy/panel.js").Panel>} */
const panels = new WeakMap();
/** So that ComfyUI keeps the workflow with the run's name for a reload, though nobody touched the graph. */
const noted = () => app.extensionManager.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.();

app.registerExtension({
  name: "clvr.viewer",
  setup() {
    // Where no viewer is open at the moment, these are not unknown to ComfyUI either.
    for (const type of ["clvr.run", "clvr.node"]) api.addEventListener(type, () => {});
    const sidebar = new Sidebar(runs, app.extensionManager);
    sidebar.register();
    openDropped(app, runs, sidebar);
  },
  nodeCreated(/** @type {any} */ node) {
    if (SHOWN_ON.includes(node.comfyClass)) panels.set(node, attach(node, runs, noted));
  },
  loadedGraphNode(/** @type {any} */ node) {
    restore(node, panels.get(node));
  },
});
