/** A picture of the pack that is dropped on the graph: ComfyUI opens the workflow in it, the viewer the trajectory. */

import { parse, read } from "../viewer/record.js";
import { trajectoryIn } from "./png.js";

/** The address of the picture that was dropped last. */
let own = "";

/**
 * @param {any} app ComfyUI's
 * @param {import("./runs.js").Runs} runs
 * @param {import("./sidebar.js").Sidebar} sidebar
 */
export function openDropped(app, runs, sidebar) {
  // ComfyUI handles the drop at the document; this one only looks, and before, since its data is gone afterwards. It listens to ComfyUI's
  // whole interface, since a picture may be dropped on any part of it.
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

/** @param {File} file @param {import("./runs.js").Runs} runs @param {import("./sidebar.js").Sidebar} sidebar */
export async function openPicture(file, runs, sidebar) {
  try {
    const carried = await trajectoryIn(file);
    if (!carried) return;
    const record = parse(carried.json);
    const run = read(record);
    URL.revokeObjectURL(own);
    own = URL.createObjectURL(file);
    const found = await folderOf(run, record, runs);
    sidebar.open((panel) =>
      panel.show(record, (canvas, name) => {
        if (canvas === carried.canvas) return { url: own };
        return found ? runs.picturesOf(found)(canvas, name) : { missing: "is not in this picture, and its run not in the output folder" };
      }),
    );
  } catch (problem) {
    sidebar.open((panel) => panel.say(/** @type {Error} */ (problem).message));
  }
}

/** The run in the output folder whose first canvas is that of this one. @param {import("../viewer/record.js").Run} run @param {any} record @param {import("./runs.js").Runs} runs */
async function folderOf(run, record, runs) {
  const place = run.steps.findIndex((step) => step.candidates.length);
  const first = place < 0 ? null : record.steps[place].candidates[0].sha256;
  const listed = first ? await runs.list().catch(() => []) : [];
  return listed.find((each) => each.first === first)?.run ?? null;
}
