/** Finds the loader nodes behind the model inputs of a node, from which the server estimates the memory. */

const CARRIERS = ["CLVR_VLM", "CLVR_EXECUTOR", "MODEL", "CLIP", "VAE", "*"];
const MOST = 200;
const LONGEST = 300;
/** Side of the canvas of Sticker Models, pixels. */
const STICKERS = 192;

/** @typedef {[number: string, kind: string, widgets: Record<string, string>]} Source */

/** @param {any} node ComfyUI's @returns {Record<"vlm" | "executor", Source[]>} */
export function modelsOf(node) {
  // This node has its models itself; the server knows which files its widgets mean.
  if (node.comfyClass === "CLVR_Quick") return { vlm: [source(node)], executor: [source(node)] };
  return { vlm: above(node, "vlm"), executor: above(node, "executor") };
}

/**
 * The canvas size of the executor node linked to this node, at which a node without a size of its own draws. Sticker Models have one size.
 * @param {any} node @returns {{ width?: number, height?: number }}
 */
export function sizeOf(node) {
  const at = linked(node, "executor");
  if (!at) return {};
  if (at.comfyClass === "CLVR_ShapesModels") return { width: STICKERS, height: STICKERS };
  const [width, height] = ["width", "height"].map((name) => at.widgets?.find((/** @type {any} */ each) => each.name === name)?.value);
  return Number.isFinite(width) && Number.isFinite(height) ? { width, height } : {};
}

/** The nodes behind an input, over links that carry models, each with the text values of its widgets. @param {any} node @param {string} name @returns {Source[]} */
function above(node, name) {
  const todo = [linked(node, name)];
  const seen = new Set();
  /** @type {Source[]} */
  const found = [];
  for (let at = todo.pop(); todo.length || at; at = todo.pop()) {
    if (!at || seen.has(at) || found.length >= MOST) continue;
    seen.add(at);
    found.push(source(at));
    todo.push(...(at.subgraph?.nodes ?? []));
    // Of two models that a node merges, only the first is loaded; the other one is applied as patches.
    const types = new Set();
    for (const [slot, { type }] of (at.inputs ?? []).entries()) {
      if (!CARRIERS.includes(type) || types.has(type)) continue;
      types.add(type);
      todo.push(from(at, slot));
    }
  }
  return found;
}

/** @param {any} node @returns {Source} */
const source = (node) => [`${node.graph?.id ?? ""}:${node.id}`, String(node.comfyClass ?? node.type), words(node)];

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
