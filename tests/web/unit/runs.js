/** Records as clvr writes them. */

export const HOSTILE = `<img src=x onerror="globalThis.hacked=1"></script><script>globalThis.hacked=1</script>"'><b>&amp;\u202eabc\u0000\u001b[31m\ud800`;

export const GOALS = [
  { id: "g1", text: "a red circle", check: "Is there a red circle?", feasibility: 0.9, area: [0, 0, 0.33, 0.33] },
  { id: "g2", text: "two blue squares", kind: "layout", feasibility: 0.4, conflicts_with: ["g1"] },
  { id: "g3", text: "nothing else", kind: "global" },
];

export const judged = (...states) => states.map((state, place) => ({ goal: GOALS[place].id, state, evidence: `evidence ${GOALS[place].id}`, confidence: 0.75 }));
export const drawn = (...canvases) => canvases.map((canvas) => ({ canvas, file: `canvas-${String(canvas).padStart(3, "0")}.png`, seed: 1000 + canvas, sha256: "0", nfe: 4 }));
const cost = { seconds: { reason: 2, draw: 61.5 }, vlm_tokens: 500, vlm_calls: 3, evaluations: 16, images: 4 };

/** 0 draws four; 1 is kept; 2 is rolled back; 3 goes on from 1 and is handed over; 4 ends. */
export function run() {
  return structuredClone({
    schema: 1,
    brief: { prompt: "a red circle and two blue squares", strategy: "director", seed: 42, budget: { rounds: 6, images: 20, seconds: 300 }, goals: GOALS },
    goals: GOALS,
    models: { executor: "stickers", judge: "exact" },
    plan: [["g1", "g3"], ["g2"]],
    gate: "staged: one shot is unlikely",
    steps: [
      { index: 0, action: { kind: "GENERATE", summary: "nothing yet", scene_prompt: "the scene", goals: ["g1"] }, candidates: drawn(0, 1, 2, 3), chosen: 2, verdicts: judged("met", "pending", "met"), score: 0.5, accepted: true, reason: "best of four", cost },
      { index: 1, action: { kind: "EDIT", summary: "add a square", edit_prompt: "add a blue square", references: [2, 0], goals: ["g2"], region: [0.5, 0, 1, 0.5], strength: 0.8 }, parent: 2, candidates: drawn(4), chosen: 4, verdicts: judged("met", "unmet", "unsure"), score: 0.6, edit: { success: true, over_edit: 0.03, evidence: "only there" }, accepted: true, reason: "kept", cost },
      { index: 2, action: { kind: "EDIT", summary: "add another", edit_prompt: "add one more", references: [4], goals: ["g2"] }, parent: 4, candidates: drawn(5), chosen: 5, verdicts: judged("unmet", "error", "unsure"), score: 0.2, edit: { success: false, over_edit: 0.4 }, reason: "the circle is gone", cost },
      { index: 3, action: { kind: "EDIT", summary: "again", edit_prompt: "add one, keep the circle", references: [4], goals: ["g2"] }, parent: 4, candidates: drawn(6), chosen: 6, verdicts: judged("met", "met", "met"), score: 1, edit: { evidence: "no answer" }, accepted: true, reason: "all met", cost },
      { index: 4, action: { kind: "END", summary: "done" }, parent: 6, reason: "the gate passed" },
    ],
    current: 6,
    best: 6,
    outcome: { reason: "all goals met", canvas: 6, met: true, choice: "beat the one-shot picture" },
    overhead: { seconds: { goals: 1 }, vlm_tokens: 50, vlm_calls: 1 },
    warnings: ["the prompt was shortened"],
  });
}

/** A step that draws the canvas of its own index. */
export const step = (index, parent, { accepted = true, draws = true, ...states } = {}) => ({
  index,
  action: { kind: draws ? (parent === null ? "GENERATE" : "EDIT") : "VALIDATE" },
  parent,
  candidates: draws ? drawn(index) : [],
  chosen: draws ? index : null,
  verdicts: Object.entries(states).map(([goal, state]) => ({ goal, state })),
  accepted,
});

/** A run of so many steps, each fifth of them rolled back. */
export function long(count) {
  const record = { ...run(), outcome: null };
  record.steps = [record.steps[0]];
  let kept = 2;
  for (let index = 1; index < count; index++) {
    const accepted = index % 5 !== 0;
    record.steps.push({ ...run().steps[1], index, parent: kept, candidates: drawn(index + 3), chosen: index + 3, accepted });
    if (accepted) kept = index + 3;
  }
  return { ...record, best: kept, current: kept };
}

export const pictures = (canvas) => ({ url: `/canvas/${canvas}` });
