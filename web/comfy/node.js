/** The viewer on nodes. It shows the run of its node, or of a node before it, and after a reload the last run. */

import { mark, t } from "../viewer/language.js";
import { attachFailure } from "./failure.js";
import { after, feeds, isElsewhere, lastOf, listen } from "./graph.js";
import { Panel } from "./panel.js";
import { widget, withMargins } from "./room.js";

export const SHOWN_ON = ["CLVR_Quick", "CLVR_Generate", "CLVR_LoopEnd", "CLVR_ViewTrajectory"];
export const PROPERTY = "clvr_run";
/** Height of the viewer of a run, and of its sentence beside a prompt while there is none, pixels. */
const LEAST_HEIGHT = 340;
const EMPTY_HEIGHT = 96;
/** ComfyUI's own widget, which shows the text of a running node. */
const TEXT = "$$node-text-preview";
const EMPTY = mark("Press Run: the steps of the run appear here as they are made.");

/** @param {any} node ComfyUI's @param {import("./runs.js").Runs} runs @param {() => void} noted called after the name of a run was stored in the node */
export function attach(node, runs, noted) {
  const least = () => LEAST_HEIGHT - (panel.run || panel.failed ? 0 : later(node));
  const arrange = () => {
    panel.host.style.minHeight = `${least()}px`;
    node.graph?.setDirtyCanvas?.(true, true);
  };
  const panel = new Panel(runs, t(EMPTY), arrange);
  // The pictures, and what is being drawn, are in the viewer: neither renderer is to show them once more below it (nodes.css hides them in Nodes 2.0).
  node.hideOutputImages = true;
  node.onDrawBackground = () => {};
  // Nodes 2.0 would make the node as high as all that the viewer has to show.
  panel.host.style.cssText += "width: 100%; height: 100%; overflow: hidden; contain: size;";
  node.addDOMWidget("clvr_viewer", "clvr_viewer", panel.host, {
    ...{ serialize: false, hideOnZoom: false, getMinHeight: () => withMargins(least()) },
    getMaxHeight: () => (least() < LEAST_HEIGHT ? withMargins(least()) : undefined),
  });
  arrange();
  const follow = (/** @type {string} */ run) => {
    if (run !== panel.run) dropText(node);
    panel.follow(run);
    if (node.properties[PROPERTY] === run) return;
    node.properties[PROPERTY] = run;
    noted();
  };
  /** @param {CustomEvent<{ run: string, node: string, workflow?: string }>} event */
  const onRun = ({ detail }) => {
    const from = lastOf(detail.node);
    if (from && !isElsewhere(node, detail.workflow) && feeds(node, from)) follow(detail.run);
  };
  /** Of a node that was not executed, since its result is in ComfyUI's cache, this is the only event. @param {CustomEvent<{ node: string, display_node?: string, prompt_id: string, output?: any }>} event */
  const onExecuted = async ({ detail }) => {
    const run = detail.output?.clvr_run?.[0];
    if (!run || run === panel.run || lastOf(detail.display_node ?? detail.node) !== String(node.id)) return;
    if (!isElsewhere(node, await runs.workflowOf(detail.prompt_id).catch(() => ""))) follow(run);
  };
  /** Of this node, or of one of the nodes that draw for it. @param {CustomEvent<{ blob: Blob, displayNodeId: string, jobId?: string }>} event */
  const onPreview = async ({ detail }) => {
    if (!panel.run || !feeds(node, lastOf(detail.displayNodeId))) return;
    if (!isElsewhere(node, await runs.workflowOf(detail.jobId ?? "").catch(() => ""))) panel.preview(detail.blob);
  };
  listen(node, runs.api, { "clvr.node": onRun, executed: onExecuted, b_preview_with_metadata: onPreview });
  attachFailure(node, runs, panel);
  after(node, "onRemoved", () => panel.destroy());
  return panel;
}

/** Pixels by which the viewer grows with the first run: until then, the prompt has them. @param {any} node */
export const later = (node) => (SHOWN_ON.includes(node.comfyClass) && widget(node, "prompt") ? LEAST_HEIGHT - EMPTY_HEIGHT : 0);

/** Shows the run whose name is stored in the node. @param {any} node @param {Panel | undefined} panel */
export function restore(node, panel) {
  const run = node.properties?.[PROPERTY];
  if (panel && typeof run === "string" && run) panel.follow(run);
}

/** Removes what an earlier run said under the node. @param {any} node */
function dropText(node) {
  const text = widget(node, TEXT);
  if (text) node.removeWidget(text);
}
