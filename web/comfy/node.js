/** The viewer on nodes. It shows the run of its node, or of a node before it, and after a reload the last run. */

import { after, listen, rootOf } from "./graph.js";
import { Panel } from "./panel.js";
import { widget, withMargins } from "./room.js";

export const SHOWN_ON = ["CLVR_Generate", "CLVR_LoopEnd", "CLVR_ViewTrajectory"];
export const PROPERTY = "clvr_run";
/** Height of the viewer of a run, and of its sentence beside a prompt while there is none, pixels. */
const LEAST_HEIGHT = 340;
const EMPTY_HEIGHT = 96;
/** ComfyUI's own widget, which shows the text of a running node. */
const TEXT = "$$node-text-preview";
const EMPTY = "Press Run: the steps of the run appear here as they are made.";

/** @param {any} node ComfyUI's @param {import("./runs.js").Runs} runs @param {() => void} noted called after the name of a run was stored in the node */
export function attach(node, runs, noted) {
  const least = () => LEAST_HEIGHT - (panel.run ? 0 : later(node));
  const arrange = () => {
    panel.host.style.minHeight = `${least()}px`;
    node.graph?.setDirtyCanvas?.(true, true);
  };
  const panel = new Panel(runs, EMPTY, arrange);
  // The pictures are in the viewer: neither renderer is to show them once more below it (nodes.css hides previews in Nodes 2.0).
  node.hideOutputImages = true;
  node.onDrawBackground = () => {};
  panel.host.style.cssText += "width: 100%; height: 100%; overflow: hidden;";
  node.addDOMWidget("clvr_viewer", "clvr_viewer", panel.host, {
    ...{ serialize: false, hideOnZoom: false, getMinHeight: () => withMargins(least()) },
    getMaxHeight: () => (least() < LEAST_HEIGHT ? withMargins(least()) : undefined),
  });
  arrange();
  /** Other open workflows may run too, and have nodes of the same ids. @param {string | undefined} workflow */
  const elsewhere = (workflow) => Boolean(workflow && rootOf(node)?.id && workflow !== rootOf(node).id);
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
    if (from && !elsewhere(detail.workflow) && feeds(node, from)) follow(detail.run);
  };
  /** Of a node that was not executed, since its result is in ComfyUI's cache, this is the only event. @param {CustomEvent<{ node: string, display_node?: string, prompt_id: string, output?: any }>} event */
  const onExecuted = async ({ detail }) => {
    const run = detail.output?.clvr_run?.[0];
    if (!run || run === panel.run || lastOf(detail.display_node ?? detail.node) !== String(node.id)) return;
    if (!elsewhere(await runs.workflowOf(detail.prompt_id))) follow(run);
  };
  listen(node, runs.api, { "clvr.node": onRun, executed: onExecuted });
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

/** The node's own id, of one with the ids of the subgraphs around it. @param {unknown} id */
const lastOf = (id) => String(id ?? "").split(":").pop();

/** Removes what an earlier run said under the node. @param {any} node */
function dropText(node) {
  const text = widget(node, TEXT);
  if (text) node.removeWidget(text);
}

/** Whether `id` is the node itself or a node that its inputs come from, directly or through others. @param {any} node @param {string} id */
function feeds(node, id) {
  const seen = new Set();
  const todo = [node];
  for (let at = todo.pop(); at; at = todo.pop()) {
    if (String(at.id) === id) return true;
    if (seen.has(at.id)) continue;
    seen.add(at.id);
    for (let slot = 0; slot < (at.inputs?.length ?? 0); slot++) {
      const link = at.getInputLink(slot);
      const origin = link && at.graph.getNodeById(link.origin_id);
      if (origin) todo.push(origin);
    }
  }
  return false;
}
