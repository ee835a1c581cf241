/** What stopped a run, in its sentence: on the node that it stopped at, and in the viewer of each node behind that one. */

import { t } from "../viewer/language.js";
import { feeds, isElsewhere, lastOf, listen } from "./graph.js";
import { failure, shadowed, tell } from "./panel.js";
import { widget, withMargins } from "./room.js";

/** @typedef {{ node_id: string, node_type: string, prompt_id: string, exception_message?: string }} Failure what ComfyUI tells of it */

const NAME = "clvr_failure";
/** Height of some five lines, pixels. */
const HEIGHT = 110;

/** @param {Failure} failure */
export const sentenceOf = (failure) => String(failure.exception_message ?? "").trim();

/** @param {any} node ComfyUI's @param {import("./runs.js").Runs} runs @param {import("./panel.js").Panel} [panel] the viewer on the node */
export function attachFailure(node, runs, panel) {
  /** @param {CustomEvent<Failure>} event */
  const onError = async ({ detail }) => {
    const at = lastOf(detail.node_id);
    const own = at === String(node.id);
    if (!own && !(panel && feeds(node, at))) return;
    if (isElsewhere(node, await runs.workflowOf(detail.prompt_id).catch(() => ""))) return;
    const words = own ? sentenceOf(detail) : `${node.graph?.getNodeById(at)?.title ?? detail.node_type}: ${sentenceOf(detail)}`;
    if (panel) panel.fail(words);
    else say(node, words);
  };
  const onStart = () => (panel ? panel.fail("") : say(node, ""));
  listen(node, runs.api, { execution_error: onError, execution_start: onStart });
}

/** Puts the sentence on a node without a viewer; an empty one removes it. @param {any} node @param {string} words */
function say(node, words) {
  const old = widget(node, NAME);
  if (old) {
    node.removeWidget(old);
    node.setSize(old.before);
  }
  if (!words) return;
  const before = [...node.size];
  const { host, box } = shadowed(t("Error"));
  tell(failure(), box, words);
  host.style.cssText += `width: 100%; height: 100%; min-height: ${HEIGHT}px; overflow: hidden;`;
  const made = node.addDOMWidget(NAME, NAME, host, { serialize: false, hideOnZoom: false, getMinHeight: () => withMargins(HEIGHT) });
  made.before = before;
  made.serialize = false;
}
