/** Sets a run aside, so that the next Run begins anew, or goes on before what the artist said last. */

import { mark, t } from "../viewer/language.js";
import { rootOf } from "./graph.js";
import { PROPERTY } from "./node.js";

export const WAYS = {
  anew: { words: mark("Start anew"), title: mark("The run is kept, and the same brief begins another one."), done: mark("Press Run: the same brief begins another run.") },
  "take-back": {
    words: mark("Take back what I said"),
    title: mark("The run is kept, and a copy of it goes on before your last word."),
    done: mark("Press Run: the run goes on before your last word."),
  },
};

/** @typedef {keyof typeof WAYS} Way */

/** @param {import("./runs.js").Runs} runs @param {any} toast ComfyUI's @param {Way} way @param {string} run */
export async function again(runs, toast, way, run) {
  try {
    await runs.doWith(way, run);
    toast.add({ severity: "info", summary: "CLVR", detail: t(WAYS[way].done), life: 8000 });
  } catch (error) {
    toast.add({ severity: "error", summary: "CLVR", detail: error instanceof Error ? error.message : String(error), life: 8000 });
  }
}

/** Makes a copy of a run that the next Run continues from this canvas. @param {import("./runs.js").Runs} runs @param {any} toast ComfyUI's @param {string} run @param {number} canvas */
export async function pick(runs, toast, run, canvas) {
  try {
    await runs.doWith("pick", run, { canvas });
    toast.add({ severity: "info", summary: "CLVR", detail: t("Press Run: the run goes on from canvas {n}.", { n: canvas }), life: 8000 });
  } catch (error) {
    toast.add({ severity: "error", summary: "CLVR", detail: error instanceof Error ? error.message : String(error), life: 8000 });
  }
}

/** What the menu of a node offers that shows a run. @param {any} node ComfyUI's @param {(way: Way, run: string) => void} work @param {(run: string) => void} stop */
export function menuOf(node, work, stop) {
  const run = rootOf(node) && node.properties?.[PROPERTY];
  if (typeof run !== "string" || !run || run.includes("/")) return [];
  const others = ways().map((way) => ({ content: `CLVR: ${t(WAYS[way].words)}`, callback: () => work(way, run) }));
  return [{ content: `CLVR: ${t("Stop after this round")}`, callback: () => stop(run) }, ...others];
}

/** @returns {Way[]} */
export const ways = () => /** @type {Way[]} */ (Object.keys(WAYS));
