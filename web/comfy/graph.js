/** The place of a node in its workflow, and what holds as long as the node is there. */

/** The outermost graph, the one that a workflow file holds. @param {any} node ComfyUI's */
export const rootOf = (node) => node.graph?.rootGraph ?? node.graph;

/**
 * Whether the node is in a workflow. A copy on its way into a subgraph never is. ComfyUI's front end does not call `onRemoved` for nodes
 * that are removed with a whole subgraph (LGraph.clear up to 1.49).
 * @param {any} node
 */
export function isInWorkflow(node) {
  const root = rootOf(node);
  return Boolean(root) && (node.graph === root || root.subgraphs.get(node.graph.id) === node.graph);
}

/** Calls `also` after the own method of the object. @param {any} object @param {string} method @param {(...details: any[]) => void} also */
export function after(object, method, also) {
  const own = object[method];
  object[method] = function (/** @type {any[]} */ ...details) {
    const result = own?.apply(this, details);
    also(...details);
    return result;
  };
}

/**
 * Listens to events from when the node comes into a workflow until it leaves it. With a whole subgraph it leaves without a word, and the next
 * event or change of the graph finds it gone.
 * @param {any} node @param {import("./runs.js").Api} api @param {Record<string, (event: any) => void>} listeners by type of event
 */
export function listen(node, api, listeners) {
  const nothing = (/** @type {any} */ _) => {};
  /** @type {[string, (event: any) => void][]} */
  const all = Object.entries({ graphChanged: nothing, ...listeners }).map(([type, work]) => [type, (event) => (isInWorkflow(node) ? work(event) : node.onRemoved())]);
  after(node, "onAdded", () => all.forEach(([type, listener]) => api.addEventListener(type, listener)));
  after(node, "onRemoved", () => all.forEach(([type, listener]) => api.removeEventListener(type, listener)));
}

/** The node's own id, of one with the ids of the subgraphs around it. @param {unknown} id */
export const lastOf = (id) => String(id ?? "").split(":").pop() ?? "";

/** Whether an event of this workflow is none of the node's: other open workflows run too, and have nodes of the same ids. @param {any} node @param {string | undefined} workflow its id */
export const isElsewhere = (node, workflow) => Boolean(workflow && rootOf(node)?.id && workflow !== rootOf(node).id);

/** Whether `id` is the node itself or a node that its inputs come from, directly or through others. @param {any} node @param {string} id */
export function feeds(node, id) {
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
