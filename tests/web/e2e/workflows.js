/** The shared workflows as they are drawn: no node lies on another, links lead to the right, and a viewer has room. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { RENDERERS, draw, page, still } from "./comfy.js";

const FOLDER = new URL("../../../workflows/", import.meta.url);
const SHARED = readdirSync(FOLDER).filter((name) => name.endsWith(".json") && !name.endsWith(".app.json"));
const LEAST_WIDTH = 350;
/** Pixels by which the height of a node may differ between front ends, and by the mark of a missing model. */
const SLACK = 20;
/** In LiteGraph of 1.49 a node whose choices show further inputs has its least height, whatever the file says. */
const GROWING = ["CLVR_DSWMMergeLive"];
const VIEWERS = ["CLVR_Quick", "CLVR_Generate", "CLVR_LoopEnd", "CLVR_ViewTrajectory"];

/** Opens the workflow so that all of it is in sight. @param {string} name */
async function open(name) {
  const workflow = JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"));
  await page.evaluate(async (workflow) => {
    const { app } = globalThis;
    await app.loadGraphData(workflow);
    const [right, bottom] = [0, 1].map((side) => Math.max(...app.graph.nodes.map(({ pos, size }) => pos[side] + size[side])));
    app.canvas.ds.scale = Math.min(window.innerWidth / (right + 80), window.innerHeight / (bottom + 80));
    app.canvas.ds.offset = [40, 80];
    app.canvas.setDirty(true, true);
  }, workflow);
  await still(3);
  return workflow;
}

/** Of every node, in pixels of the graph, its title included. @param {boolean} vue @returns {Promise<Record<string, number[]>>} left, top, right, bottom by id */
const boxes = (vue) =>
  page.evaluate((vue) => {
    const { graph, canvas } = globalThis.app;
    const { scale, offset } = canvas.ds;
    const origin = canvas.canvas.getBoundingClientRect();
    const seen = ({ left, top, right, bottom }) => [left - origin.left, top - origin.top, right - origin.left, bottom - origin.top].map((side, place) => Math.round(side / scale - offset[place % 2]));
    const drawn = ({ boundingRect: [x, y, width, height] }) => [x, y, x + width, y + height].map(Math.round);
    return Object.fromEntries(graph.nodes.map((node) => [node.id, vue ? seen(document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect()) : drawn(node)]));
  }, vue);

const meet = ([left, top, right, bottom], other) => left < other[2] && other[0] < right && top < other[3] && other[1] < bottom;
const holds = ([left, top, right, bottom], other) => left <= other[0] && top <= other[1] && other[2] <= right && other[3] <= bottom;

for (const vue of RENDERERS)
  test(`the shared workflows are drawn without overlaps: ${vue ? "Nodes 2.0" : "LiteGraph"}`, async () => {
    await page.evaluate(() => globalThis.app.graph.clear());
    await draw(vue);
    for (const name of SHARED) {
      const { nodes, links, groups } = await open(name);
      const drawn = await boxes(vue);
      const wrong = [];
      nodes.forEach(({ id, type, pos, size }, place) => {
        const [left, top, right, bottom] = drawn[id];
        const saved = [pos[0], pos[1] - 30, pos[0] + size[0], pos[1] + size[1]];
        const sides = GROWING.includes(type) ? [0, 1, 2] : [0, 1, 2, 3];
        if (sides.some((at) => Math.abs(drawn[id][at] - saved[at]) > SLACK)) wrong.push(`${type} is drawn at ${drawn[id]}, saved as ${saved}`);
        if (VIEWERS.includes(type) && right - left < LEAST_WIDTH) wrong.push(`${type} has ${right - left} x ${bottom - top} pixels`);
        for (const other of nodes.slice(0, place)) if (meet(drawn[id], drawn[other.id])) wrong.push(`${type} lies on ${other.type}`);
        for (const { title, bounding: [x, y, width, height] } of groups) {
          const frame = [x, y, x + width, y + height];
          if (meet(frame, drawn[id]) && !holds(frame, drawn[id])) wrong.push(`${type} sticks out of "${title}"`);
        }
      });
      const growing = await page.evaluate((kinds) => globalThis.app.graph.serialize().nodes.filter(({ type }) => kinds.includes(type)).map(({ widgets_values: values }) => values), GROWING);
      assert.deepEqual(growing, nodes.filter(({ type }) => GROWING.includes(type)).map(({ widgets_values: values }) => values), name);
      for (const [, from, , to] of links) if (drawn[to][0] < drawn[from][2]) wrong.push(`the link from node ${from} to ${to} runs back`);
      assert.deepEqual(wrong, [], name);
    }
  });
