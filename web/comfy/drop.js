/**
 * Opens the run of a picture that is dropped on the graph; ComfyUI itself opens the workflow in the picture. Pictures that this pack saved
 * carry the trajectory; those of other nodes carry a workflow, in which nodes of this pack name the run.
 */

import { mark } from "../viewer/language.js";
import { parse, read } from "../viewer/record.js";
import { PROPERTY } from "./node.js";
import { textsIn } from "./png.js";

/** Object URL of the picture that was dropped last. */
let own = "";

/**
 * @param {any} app ComfyUI's
 * @param {import("./runs.js").Runs} runs
 * @param {import("./sidebar.js").Sidebar} sidebar
 */
export function openDropped(app, runs, sidebar) {
  keepGraph(app);
  // Listens in the capture phase, since ComfyUI handles the drop at the document and the data are gone afterwards; and on the whole
  // interface, since a picture may be dropped on any part of it.
  const page = app.canvasEl.closest("#vue-app") ?? app.canvasEl;
  page.addEventListener(
    "drop",
    (/** @type {DragEvent} */ event) => {
      const [file, ...more] = event.dataTransfer?.files ?? [];
      if (!file || more.length || file.type !== "image/png" || app.dragOverNode) return;
      openPicture(file, runs, sidebar);
    },
    { capture: true },
  );
}

/**
 * Has ComfyUI open nothing for a picture of this pack without a workflow, as the command line saves it: it would make a graph of its own of
 * the text `parameters`, which is there for image sites.
 * @param {any} app ComfyUI's
 */
export function keepGraph(app) {
  const handleFile = app.handleFile;
  app.handleFile = async function (/** @type {any} */ file, /** @type {any[]} */ ...rest) {
    if (file?.type === "image/png") {
      const texts = await textsIn(file).catch(() => null);
      if (texts?.json !== undefined && !texts.workflow) return;
    }
    return handleFile.call(this, file, ...rest);
  };
}

/** @param {File} file @param {import("./runs.js").Runs} runs @param {import("./sidebar.js").Sidebar} sidebar */
export async function openPicture(file, runs, sidebar) {
  try {
    const { json, canvas, workflow } = await textsIn(file);
    const named = runsNamed(workflow);
    if (json === undefined && !named.length) return;
    const record = json === undefined ? null : parse(json);
    const known = await folderOf(record && read(record), record, named, runs);
    if (known !== null) sidebar.open((panel) => panel.follow(known, canvas));
    else if (record) sidebar.open((panel) => panel.show(withOwnCanvas(record, canvas), alone(file, canvas)));
  } catch (problem) {
    sidebar.open((panel) => panel.say(/** @type {Error} */ (problem).message));
  }
}

/**
 * Finds the run in the output folder that has the same first canvas as the record. Forks share that canvas: among them, a run that the
 * workflow names comes first. Without a record, or with one that has no step yet, only the names in the workflow count.
 * @param {import("../viewer/record.js").Run | null} run @param {any} record @param {string[]} named @param {import("./runs.js").Runs} runs */
async function folderOf(run, record, named, runs) {
  const place = run?.steps.findIndex((step) => step.candidates.length) ?? -1;
  const first = place < 0 ? null : record.steps[place].candidates[0].sha256;
  const listed = first || named.length ? await runs.list().catch(() => []) : [];
  const alike = first ? listed.filter((each) => each.first === first) : listed.filter((each) => named.includes(each.run));
  return (alike.find((each) => named.includes(each.run)) ?? alike[0])?.run ?? null;
}

/** Adds the dropped canvas to its record: a picture is saved with the trajectory up to it, before its own step is judged. @param {any} record @param {number | null} canvas */
function withOwnCanvas(record, canvas) {
  const drawn = (record.steps ?? []).flatMap((/** @type {any} */ step) => step.candidates ?? []);
  if (canvas === null || record.outcome || drawn.some((/** @type {any} */ each) => each.canvas === canvas)) return record;
  return { ...record, doing: { action: null, candidates: [{ canvas }] } };
}

/** Gives the URL of the dropped picture; the other pictures of its run are missing. @param {File} file @param {number | null} canvas @returns {import("../viewer/pictures.js").Pictures} */
function alone(file, canvas) {
  URL.revokeObjectURL(own);
  own = URL.createObjectURL(file);
  return (asked) => (asked === canvas ? { url: own } : { missing: mark("is not in this picture, and its run not in the output folder") });
}

/** Names of the runs that the nodes of a workflow showed last. @param {string} text @returns {string[]} */
function runsNamed(text) {
  try {
    const { nodes = [], definitions } = JSON.parse(text);
    const inside = (definitions?.subgraphs ?? []).flatMap((/** @type {any} */ each) => each.nodes ?? []);
    return [...nodes, ...inside].map((node) => node?.properties?.[PROPERTY]).filter((run) => typeof run === "string");
  } catch {
    return []; // ComfyUI reports a damaged workflow itself
  }
}
