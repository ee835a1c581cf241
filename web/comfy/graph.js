/** Where a node stands. */

/** The graph that the workflow's file is of. @param {any} node ComfyUI's */
export const rootOf = (node) => node.graph?.rootGraph ?? node.graph;

/**
 * Whether the node is still in its workflow. Of one that went with a whole subgraph ComfyUI's front end does not tell (LGraph.clear up to 1.49).
 * @param {any} node
 */
export function stands(node) {
  const root = rootOf(node);
  return !root || node.graph === root || !root.subgraphs || root.subgraphs.get(node.graph.id) === node.graph;
}
