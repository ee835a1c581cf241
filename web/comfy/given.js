/** Gives a value of an earlier run to the node that the artist runs next. */

import { t } from "../viewer/language.js";
import { widget } from "./room.js";

const PACK = "CLVR_";

/**
 * Sets a widget of the selected node of the pack that has one, or of the first such node; returns the node's title, "" if there is none.
 * Raises an Error for a seed that the widget cannot hold.
 * @param {any} app ComfyUI's @param {string} name @param {string} value
 */
export function giveWidget(app, name, value) {
  const nodes = app.graph.nodes.filter((/** @type {any} */ node) => node.comfyClass?.startsWith(PACK) && widget(node, "prompt") && widget(node, name));
  const selected = Object.values(app.canvas.selected_nodes ?? {});
  const node = nodes.find((/** @type {any} */ each) => selected.includes(each)) ?? nodes[0];
  if (!node) return "";
  const own = widget(node, name);
  const given = typeof own.value === "number" ? Number(value) : value;
  if (typeof given === "number" && !Number.isSafeInteger(given)) throw new Error(t("The seed {seed} is too large for a widget; the run was not made in ComfyUI.", { seed: value }));
  own.value = given;
  own.callback?.(given);
  app.graph.setDirtyCanvas?.(true, true);
  app.extensionManager.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.();
  return String(node.title);
}
