/** Adds the checklist and the forecast to Brief, and the forecast to Generate in a Loop. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Checklist } from "./brief/checklist.js";
import { Forecast } from "./brief/forecast.js";
import { modelsOf, sizeOf } from "./brief/models.js";
import { isInWorkflow } from "./comfy/graph.js";

const LIST_ON = ["CLVR_Brief"];
/** Height of three lines of a forecast, pixels. */
const LEAST_HEIGHT = 72;
const FORECAST_ON = ["CLVR_Brief", "CLVR_Generate"];

/** @param {string} path @param {unknown} body */
async function ask(path, body) {
  const answer = await api.fetchApi(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error ?? `the server answered ${answer.status}`);
  return data;
}

/** @param {any} node @param {string} name */
const widget = (node, name) => node.widgets?.find((/** @type {any} */ each) => each.name === name);

/** Calls `also` after the own method of the node. @param {any} node @param {string} method @param {(...details: any[]) => void} also */
function after(node, method, also) {
  const own = node[method];
  node[method] = function (/** @type {any[]} */ ...details) {
    const result = own?.apply(this, details);
    also(...details);
    return result;
  };
}

/** @param {any} node */
function addChecklist(node) {
  const goals = widget(node, "goals");
  const list = new Checklist((lines) => {
    goals.value = lines;
    node.graph?.setDirtyCanvas?.(true, true);
  });
  node.addDOMWidget("clvr_checklist", "clvr_checklist", list.host, { serialize: false, hideOnZoom: false, getMinHeight: () => 150 });
  list.read(goals.value ?? "");
  after(node, "onConfigure", () => list.read(goals.value ?? ""));
  // The text field of the widget can be edited, too.
  after(goals, "callback", () => list.read(goals.value ?? ""));
  after(node, "onExecuted", (output) => output?.clvr_goals && list.suggest(output.clvr_goals));
  after(node, "onRemoved", () => list.host.remove());
}

/** @param {any} node */
function addForecast(node) {
  const value = (/** @type {string} */ name) => widget(node, name)?.value;
  const line = new Forecast(ask, () => ({
    strategy: value("strategy"),
    rounds: value("rounds"),
    candidates: value("candidates"),
    width: value("width"),
    height: value("height"),
    ...sizeOf(node),
    linked: modelsOf(node),
  }));
  line.host.style.minHeight = `${LEAST_HEIGHT}px`;
  node.addDOMWidget("clvr_forecast", "clvr_forecast", line.host, { serialize: false, hideOnZoom: false, getMinHeight: () => LEAST_HEIGHT, getMaxHeight: () => 90 });
  for (const name of ["strategy", "rounds", "candidates", "width", "height"]) {
    const own = widget(node, name);
    if (own) after(own, "callback", () => line.soon());
  }
  /** Calls `act` as long as the node is in its workflow. @param {() => void} act */
  const ifInWorkflow = (act) => () => (isInWorkflow(node) ? act() : node.onRemoved());
  const [over, changed] = [ifInWorkflow(() => line.update()), ifInWorkflow(() => line.soon())];
  api.addEventListener("execution_success", over);
  // A model file may be chosen in any node before this one.
  api.addEventListener("graphChanged", changed);
  after(node, "onConfigure", changed);
  after(node, "onConnectionsChange", changed);
  after(node, "onRemoved", () => {
    api.removeEventListener("execution_success", over);
    api.removeEventListener("graphChanged", changed);
    line.close();
  });
  line.soon();
}

app.registerExtension({
  name: "clvr.brief",
  nodeCreated(/** @type {any} */ node) {
    if (LIST_ON.includes(node.comfyClass)) addChecklist(node);
    if (FORECAST_ON.includes(node.comfyClass)) addForecast(node);
  },
});
