/** The place of a node in its workflow. */

/** The outermost graph, the one that a workflow file holds. @param {any} node ComfyUI's */
export const rootOf = (node) => node.graph?.rootGraph ?? node.graph;

/**
 * Whether the node is still in its workflow. ComfyUI's front end does not call `onRemoved` for nodes that are removed with a whole subgraph
 * (LGraph.clear up to 1.49).
 * @param {any} node
 */
export function isInWorkflow(node) {
  const root = rootOf(node);
  return !root || node.graph === root || !root.subgraphs || root.subgraphs.get(node.graph.id) === node.graph;
}
