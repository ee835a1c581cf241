/** The room that the parts of a node need: widths of nodes, heights of widgets. */

/** Nodes with a viewer or a table of goals, and the width of a new one in pixels, in which these are whole. */
export const WIDE = ["CLVR_Brief", "CLVR_Quick", "CLVR_Generate", "CLVR_LoopEnd", "CLVR_ViewTrajectory"];
const LEAST_WIDTH = 430;
/** Height of a prompt, pixels, some ten lines; for Nodes 2.0 it stands in nodes.css. */
const PROMPT = 200;

/** LiteGraph leaves so many pixels free on each side of an element. */
const MARGIN = 10;

/** What LiteGraph is to keep for an element of this height, pixels. @param {number} height */
export const withMargins = (height) => height + 2 * MARGIN;

/** @param {any} node ComfyUI's @param {string} name */
export const widget = (node, name) => node.widgets?.find((/** @type {any} */ each) => each.name === name);

/** Gives the prompt of the node room. @param {any} node ComfyUI's */
export function roomForPrompt(node) {
  const prompt = widget(node, "prompt");
  if (prompt) prompt.options.getMinHeight = () => withMargins(PROMPT);
}

/**
 * Makes a new node wide enough, and high enough for what its parts need now and `more` pixels that they will need.
 * @param {any} node ComfyUI's @param {number} more
 */
export function widen(node, more) {
  const own = node.computeSize;
  node.computeSize = function (/** @type {any[]} */ ...given) {
    const size = own.apply(this, given);
    size[0] = Math.max(size[0], LEAST_WIDTH);
    return size;
  };
  const [width, height] = node.computeSize();
  node.setSize([width, height + more]);
}
