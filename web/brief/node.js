/** The checklist and the forecast on Brief, and the forecast on Generate in a Loop. */

import { t } from "../viewer/language.js";
import { Checklist } from "./checklist.js";
import { Forecast } from "./forecast.js";
import { modelsOf, sizeOf } from "./models.js";
import { after, isInWorkflow, listen } from "../comfy/graph.js";
import { widget, withMargins } from "../comfy/room.js";

const LIST_ON = ["CLVR_Brief"];
/** Heights of three lines of a forecast and of a short list, pixels. */
const FORECAST_HEIGHT = 64;
/** On CLVR Quick also the files that are not here. */
const OFFERS_HEIGHT = 120;
const LIST_HEIGHT = 180;
/** Widgets of CLVR Quick by which models are chosen. */
const FILES = ["model", "vlm", "vae", "text_encoder", "recipe"];
const FORECAST_ON = ["CLVR_Brief", "CLVR_Quick", "CLVR_Generate"];

/** @param {import("../comfy/runs.js").Api} api @param {string} path @param {unknown} body */
async function ask(api, path, body) {
  const answer = await api.fetchApi(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error ?? t("the server answered {status}", { status: answer.status }));
  return data;
}

/** @param {any} node */
function addChecklist(node) {
  const goals = widget(node, "goals");
  const list = new Checklist((lines) => {
    goals.value = lines;
    node.graph?.setDirtyCanvas?.(true, true);
  });
  list.host.style.minHeight = `${LIST_HEIGHT}px`;
  node.addDOMWidget("clvr_checklist", "clvr_checklist", list.host, { serialize: false, hideOnZoom: false, getMinHeight: () => withMargins(LIST_HEIGHT) });
  list.read(goals.value ?? "");
  after(node, "onConfigure", () => list.read(goals.value ?? ""));
  // The text field of the widget can be edited, too.
  after(goals, "callback", () => list.read(goals.value ?? ""));
  after(node, "onExecuted", (output) => output?.clvr_goals && list.suggest(output.clvr_goals));
  after(node, "onRemoved", () => list.host.remove());
}

/** @param {any} node @param {import("../comfy/runs.js").Api} api */
function addForecast(node, api) {
  const value = (/** @type {string} */ name) => widget(node, name)?.value;
  const line = new Forecast((path, body) => ask(api, path, body), () => ({
    strategy: value("strategy"),
    rounds: value("rounds"),
    candidates: value("candidates"),
    width: value("width"),
    height: value("height"),
    ...sizeOf(node),
    linked: modelsOf(node),
  }));
  const height = node.comfyClass === "CLVR_Quick" ? OFFERS_HEIGHT : FORECAST_HEIGHT;
  line.host.style.minHeight = `${height}px`;
  const shown = node.addDOMWidget("clvr_forecast", "clvr_forecast", line.host, { serialize: false, hideOnZoom: false });
  // Of a height of its own: neither renderer gives it a share of the free room.
  shown.computeLayoutSize = undefined;
  shown.computeSize = (/** @type {number} */ width) => [width, withMargins(height)];
  const changed = () => isInWorkflow(node) && line.soon();
  for (const name of ["strategy", "rounds", "candidates", "width", "height", ...FILES]) {
    const own = widget(node, name);
    if (own) after(own, "callback", changed);
  }
  // A model file may be chosen in any node before this one.
  listen(node, api, { execution_success: () => line.update(), graphChanged: changed });
  for (const method of ["onAdded", "onConfigure", "onConnectionsChange"]) after(node, method, changed);
  after(node, "onRemoved", () => line.close());
}

/** @param {any} node ComfyUI's @param {import("../comfy/runs.js").Api} api */
export function attachBefore(node, api) {
  if (LIST_ON.includes(node.comfyClass)) addChecklist(node);
  if (FORECAST_ON.includes(node.comfyClass)) addForecast(node, api);
}
