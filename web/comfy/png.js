/** Reads the PNG metadata of a picture: the trajectory that this pack writes, and the workflow that ComfyUI writes. */

import { t } from "../viewer/language.js";
import { RunError } from "../viewer/record.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const LARGEST_FILE = 512 << 20;
const LARGEST_TEXT = 16 << 20;

const KEYS = ["clvr", "clvr_canvas", "workflow"];

/**
 * @param {File} file
 * @returns {Promise<{ json: string | undefined, canvas: number | null, workflow: string }>} `workflow` is empty if the picture has none that can be read
 */
export async function textsIn(file) {
  /** @type {Record<string, string>} */
  const texts = {};
  const bytes = new Uint8Array(file.size > LARGEST_FILE ? new ArrayBuffer(0) : await file.arrayBuffer());
  if (SIGNATURE.every((byte, at) => bytes[at] === byte)) {
    for (const [kind, content] of chunks(bytes)) {
      if (kind !== "iTXt" && kind !== "zTXt" && kind !== "tEXt") continue;
      const key = latin(content.subarray(0, Math.max(0, content.indexOf(0))));
      if (!KEYS.includes(key)) continue;
      const text = textOf(kind, content.subarray(key.length + 1));
      texts[key] = await (key === "workflow" ? text.catch(() => "") : text);
    }
  }
  const { clvr: json, clvr_canvas: canvas = "", workflow = "" } = texts;
  return { json, canvas: /^\d{1,6}$/.test(canvas) ? Number(canvas) : null, workflow };
}

/** @param {Uint8Array} bytes @returns {Generator<[string, Uint8Array]>} */
function* chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = SIGNATURE.length; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    if (length > bytes.length - at - 12) return;
    yield [latin(bytes.subarray(at + 4, at + 8)), bytes.subarray(at + 8, at + 8 + length)];
    at += 12 + length;
  }
}

/** @param {string} kind @param {Uint8Array} rest what follows the key */
async function textOf(kind, rest) {
  if (kind === "tEXt") return latin(bounded(rest));
  if (kind === "zTXt") return latin(await unpacked(rest.subarray(1)));
  const language = rest.indexOf(0, 2);
  const translated = language < 0 ? -1 : rest.indexOf(0, language + 1);
  if (translated < 0) throw new RunError(t("The trajectory in this picture is damaged: its text has no beginning."));
  const body = rest.subarray(translated + 1);
  return new TextDecoder().decode(rest[0] ? await unpacked(body) : bounded(body));
}

/** @param {Uint8Array} bytes */
function latin(bytes) {
  return new TextDecoder("latin1").decode(bytes);
}

/** @param {Uint8Array} bytes */
function bounded(bytes) {
  if (bytes.length > LARGEST_TEXT) throw tooLarge();
  return bytes;
}

/** @param {Uint8Array} packed @returns {Promise<Uint8Array>} */
async function unpacked(packed) {
  const unpacking = new Blob([new Uint8Array(packed)]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  /** @type {Uint8Array[]} */
  const parts = [];
  let size = 0;
  for (;;) {
    const part = await unpacking.read().catch(() => {
      throw new RunError(t("The trajectory in this picture is damaged: its text cannot be unpacked."));
    });
    if (part.done) break;
    size += part.value.length;
    if (size > LARGEST_TEXT) {
      await unpacking.cancel();
      throw tooLarge();
    }
    parts.push(part.value);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function tooLarge() {
  return new RunError(t("The trajectory in this picture is larger than {n} MB, so it is not opened.", { n: LARGEST_TEXT >> 20 }));
}
