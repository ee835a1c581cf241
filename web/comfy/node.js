/** The viewer on nodes. It shows the run of its node, or of a node before it, and after a reload the last run. */

import { after, listen, rootOf } from "./graph.js";
import { Panel } from "./panel.js";
import { widget, withMargins } from "./room.js";

export const SHOWN_ON = ["CLVR_Generate", "CLVR_LoopEnd", "CLVR_ViewTrajectory"];
export const PROPERTY = "clvr_run";
/** Height of the viewer of a run, and of its sentence beside a prompt while there is none, pixels. */
const LEAST_HEIGHT = 340;
const EMPTY_HEIGHT = 96;
const EMPTY = "Press Run: the steps of the run appear here as they are made.";

/** @param {any} node ComfyUI's @param {import("./runs.js").Runs} runs @param {() => void} noted called after the name of a run was stored in the node */
export function attach(node, runs, noted) {
  const least = () => LEAST_HEIGHT - (panel.run ? 0 : later(node));
  const arrange = () => {
    panel.host.style.minHeight = `${least()}px`;
    node.graph?.setDirtyCanvas?.(true, true);
  };
  const panel = new Panel(runs, EMPTY, arrange);
  panel.host.style.cssText += "width: 100%; height: 100%; overflow: hidden;";
  node.addDOMWidget("clvr_viewer", "clvr_viewer", panel.host, {
    ...{ serialize: false, hideOnZoom: false, getMinHeight: () => withMargins(least()) },
    getMaxHeight: () => (least() < LEAST_HEIGHT ? withMargins(least()) : undefined),
  });
  arrange();
  /** @param {CustomEvent<{ run: string, node: string, workflow?: string }>} event */
  const onRun = ({ detail }) => {
    const from = String(detail.node).split(":").pop();
    // Other open workflows may run too, and have nodes of the same ids.
    const own = rootOf(node)?.id;
    if (!from || (detail.workflow && own && detail.workflow !== own) || !feeds(node, from)) return;
    panel.follow(detail.run);
    if (node.properties[PROPERTY] === detail.run) return;
    node.properties[PROPERTY] = detail.run;
    noted();
  };
  listen(node, runs.api, { "clvr.node": onRun });
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
