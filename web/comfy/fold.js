/**
 * Folds the rare inputs of a node in LiteGraph, as Nodes 2.0 does. LiteGraph hides a widget that is `advanced`, but ComfyUI marks only its
 * options so, and LiteGraph up to 1.58 keeps room for it.
 */

import { t } from "../viewer/language.js";

const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";

/** @param {any} node ComfyUI's @param {(setting: string) => unknown} setting gives the value of one of ComfyUI's settings */
export function fold(node, setting) {
  const rare = (node.widgets ?? []).filter((/** @type {any} */ each) => each.options?.advanced);
  if (!rare.length) return;
  let folded = 0;
  const toggle = () => {
    const [width, height] = node.size;
    node.toggleAdvanced();
    if (node.showAdvanced) folded = height;
    else if (folded) node.setSize([width, folded]);
  };
  const button = node.addWidget("button", "clvr_fold", null, toggle, { canvasOnly: true, serialize: false });
  button.serialize = false;
  const update = () => {
    const linked = new Set((node.inputs ?? []).filter((/** @type {any} */ each) => each.link != null).map((/** @type {any} */ each) => each.widget?.name));
    for (const each of rare) each.advanced = !setting(ALWAYS) && !linked.has(each.name);
    button.label = node.showAdvanced ? t("Hide advanced inputs") : t("Show advanced inputs");
    button.hidden = !rare.some((/** @type {any} */ each) => each.advanced);
  };
  const all = node.getLayoutWidgets;
  node.getLayoutWidgets = function () {
    update();
    return all.call(this).filter((/** @type {any} */ each) => {
      const away = each.advanced && !node.showAdvanced;
      // A link that is dragged over the node finds the slots of folded inputs on the row that unfolds them.
      if (away) each.y = button.y;
      return !away;
    });
  };
  update();
  node.setSize([node.size[0], node.computeSize()[1]]);
}
