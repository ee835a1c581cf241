/**
 * Reads the runs in ComfyUI's output folder over the pack's routes: the list of runs, the lines of one run, its pictures. The event
 * `clvr.run` says that a run has new lines.
 *
 * @typedef {{ fetchApi: (route: string, options?: RequestInit) => Promise<Response>, clientId?: string, apiURL: (route: string) => string,
 *   addEventListener: (type: string, listener: (event: any) => void) => void,
 *   removeEventListener: (type: string, listener: (event: any) => void) => void }} Api ComfyUI's own
 * @typedef {{ run: string, prompt: string, steps: number, met: boolean | null, first: string, seed: string, strategy: string, goals: number,
 *   goals_met: number, best: number | null, changed: number }} Listed as `summary` in nodes/routes/runs.py gives it; `met` is null for a run
 *   without an outcome
 */

import { t } from "../viewer/language.js";
import { RunError, fold, linesOf } from "../viewer/record.js";

export class Runs {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.prompt = "";
    /** Of that prompt. */
    this.workflow = Promise.resolve("");
  }

  /** Newest first. @returns {Promise<Listed[]>} */
  async list() {
    return (await this.ask("/clvr/runs")).runs;
  }

  /** The id of the workflow that a prompt was queued from; empty if it has none. @param {string} prompt @returns {Promise<string>} */
  workflowOf(prompt) {
    // Asked at each preview: the last answer is kept.
    if (prompt !== this.prompt) {
      this.prompt = prompt;
      this.workflow = this.findWorkflow(prompt).catch((problem) => ((this.prompt = ""), Promise.reject(problem)));
    }
    return this.workflow;
  }

  /** @param {string} prompt @returns {Promise<string>} */
  async findWorkflow(prompt) {
    const { queue_running: running = [] } = await this.ask("/queue");
    const found = running.find((/** @type {any[]} */ [, id]) => id === prompt) ?? (await this.ask(`/history/${prompt}`))[prompt]?.prompt;
    return found?.[3]?.extra_pnginfo?.workflow?.id ?? "";
  }

  /** @param {string} run @returns {import("../viewer/pictures.js").Pictures} */
  picturesOf(run) {
    return (canvas) => ({ url: this.api.apiURL(`/clvr/canvas?run=${encodeURIComponent(run)}&canvas=${canvas}`) });
  }

  /**
   * Shows the run now and after each new line. Call the returned function to stop.
   * @param {string} run @param {(record: unknown) => void} show @param {(words: string) => void} say @returns {() => void}
   */
  follow(run, show, say) {
    /** @type {import("../viewer/record.js").Line[]} */
    let lines = [];
    let [stopped, busy, again] = [false, false, false];
    const pull = async () => {
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        do {
          again = false;
          let answer = await this.linesFrom(run, lines.length);
          if (answer.total < lines.length) {
            lines = [];
            answer = await this.linesFrom(run, 0);
          }
          lines.push(...linesOf(answer.lines.map((line) => `${line}\n`).join("")));
          if (!stopped && lines.length) show(fold(lines));
        } while (again && !stopped);
      } catch (problem) {
        if (!stopped) say(problem instanceof RunError ? problem.message : t("The run {run} cannot be shown: {why}", { run, why: /** @type {Error} */ (problem).message }));
      } finally {
        busy = false;
      }
    };
    /** @param {CustomEvent<{ run: string }>} event */
    const onRun = ({ detail }) => {
      if (detail.run === run) pull();
    };
    this.api.addEventListener("clvr.run", onRun);
    pull();
    return () => {
      stopped = true;
      this.api.removeEventListener("clvr.run", onRun);
    };
  }

  /** @param {string} run @param {number} from @returns {Promise<{ total: number, lines: string[] }>} */
  linesFrom(run, from) {
    return this.ask(`/clvr/lines?run=${encodeURIComponent(run)}&from=${from}`);
  }

  /** The address of a small picture of the run. @param {Listed} run */
  thumbOf({ run, best, changed }) {
    return this.api.apiURL(`/clvr/thumb?run=${encodeURIComponent(run)}&canvas=${best}&at=${changed}`);
  }

  /** The address of the picture of the run without any metadata. @param {Listed} run */
  cleanOf({ run, best }) {
    return this.api.apiURL(`/clvr/clean?run=${encodeURIComponent(run)}&canvas=${best}`);
  }

  /** The run as far as it has come. @param {string} run @returns {Promise<Record<string, unknown>>} */
  async recordOf(run) {
    const { lines } = await this.linesFrom(run, 0);
    return fold(linesOf(lines.map((line) => `${line}\n`).join("")));
  }

  /** @param {"anew" | "take-back" | "delete" | "open" | "stop" | "pick"} what as the routes are called @param {string} run @param {object} [more] @returns {Promise<any>} */
  doWith(what, run, more = {}) {
    return this.ask(`/clvr/runs/${what}`, { run, ...more });
  }

  /** @param {string} route @param {unknown} [body] for a POST @returns {Promise<any>} */
  async ask(route, body) {
    const post = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    const answer = await this.api.fetchApi(route, body === undefined ? {} : post);
    if (answer.ok) return answer.json();
    const { error } = await answer.json().catch(() => ({ error: t("the server answered {status}", { status: answer.status }) }));
    throw new RunError(String(error));
  }
}
