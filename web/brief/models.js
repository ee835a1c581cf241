/** Which nodes the models come from that a node is linked to: what the server needs to weigh them. */

const CARRIERS = ["CLVR_VLM", "CLVR_EXECUTOR", "MODEL", "CLIP", "VAE", "*"];
const MOST = 200;
const LONGEST = 300;
/** Pixels a side. */
const SHAPES = 96;

/** @typedef {[number: string, kind: string, widgets: Record<string, string>]} Source */

/** @param {any} node ComfyUI's @returns {Record<"vlm" | "executor", Source[]>} */
export function modelsOf(node) {
  return { vlm: above(node, "vlm"), executor: above(node, "executor") };
}

/**
 * The canvas of what draws, if that is linked at once: a node with no size of its own draws at that size. Shapes Models have but one.
 * @param {any} node @returns {{ width?: number, height?: number }}
 */
export function sizeOf(node) {
  const at = linked(node, "executor");
  if (!at) return {};
  if (at.comfyClass === "CLVR_ShapesModels") return { width: SHAPES, height: SHAPES };
  const [width, height] = ["width", "height"].map((name) => at.widgets?.find((/** @type {any} */ each) => each.name === name)?.value);
  return Number.isFinite(width) && Number.isFinite(height) ? { width, height } : {};
}

/** The nodes that an input hangs on by links that carry models, each with its words. @param {any} node @param {string} name @returns {Source[]} */
function above(node, name) {
  const todo = [linked(node, name)];
  const seen = new Set();
  /** @type {Source[]} */
  const found = [];
  for (let at = todo.pop(); todo.length || at; at = todo.pop()) {
    if (!at || seen.has(at) || found.length >= MOST) continue;
    seen.add(at);
    found.push([`${at.graph?.id ?? ""}:${at.id}`, String(at.comfyClass ?? at.type), words(at)]);
    todo.push(...(at.subgraph?.nodes ?? []));
    // Of two models that a node merges the first is the one that is loaded; the other lends it patches.
    const types = new Set();
    for (const [slot, { type }] of (at.inputs ?? []).entries()) {
      if (!CARRIERS.includes(type) || types.has(type)) continue;
      types.add(type);
      todo.push(from(at, slot));
    }
  }
  return found;
}

/** @param {any} node @param {string} name of an input */
function linked(node, name) {
  return from(node, (node.inputs ?? []).findIndex((/** @type {any} */ each) => each.name === name));
}

/** @param {any} node @param {number} slot */
function from(node, slot) {
  const link = slot < 0 ? null : node.getInputLink(slot);
  return link ? node.graph?.getNodeById(link.origin_id) : null;
}

/** @param {any} node */
function words(node) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const { name, value } of node.widgets ?? []) if (typeof value === "string" && value.length <= LONGEST) found[name] = value;
  return found;
}
