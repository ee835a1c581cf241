/** Shows the reviews of the Review node in this tab. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { t } from "./viewer/language.js";
import { again } from "./comfy/again.js";
import { Runs } from "./comfy/runs.js";
import { Reviews } from "./review/reviews.js";

/** @param {string} path @param {unknown} [body] */
async function ask(path, body) {
  const answer = await api.fetchApi(
    path,
    body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } },
  );
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error ?? t("the server answered {status}", { status: answer.status }));
  return data;
}

/** @param {{ subfolder: string }} review @param {string} file */
function address(review, file) {
  return api.apiURL(`/view?${new URLSearchParams({ filename: file, subfolder: review.subfolder, type: "output" })}`);
}

app.registerExtension({
  name: "clvr.review",
  async setup() {
    const runs = new Runs(api);
    const leave = async (/** @type {import("./comfy/again.js").Way} */ way, /** @type {string} */ run) => {
      await api.fetchApi("/interrupt", { method: "POST" });
      await again(runs, app.extensionManager.toast, way, run);
    };
    const reviews = new Reviews(document.body, ask, address, leave);
    // After a reload or a new connection: register this tab, and show the reviews that are open already.
    const arrive = async () => {
      await ask("/clvr/present", { tab: api.clientId });
      reviews.show(await ask("/clvr/reviews"));
    };
    api.addEventListener("clvr.review", (/** @type {CustomEvent} */ event) => reviews.add(event.detail));
    api.addEventListener("clvr.reviewed", (/** @type {CustomEvent} */ event) => reviews.remove(event.detail.id));
    api.addEventListener("reconnected", arrive);
    await arrive();
  },
});
