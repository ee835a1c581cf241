from __future__ import annotations

from comfy_api.latest import io, ui

from ..clvr_core.brief import MAX_PROMPT, STRATEGIES, Brief, Budget
from ..clvr_core.protocols import Vlm
from .running import MAX_ROUNDS, as_image, generate
from .sockets import EXECUTOR, TRAJECTORY, VLM, Hand


class Generate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Generate",
            display_name="Generate in a Loop",
            category="CLVR",
            description="The whole loop in one node: plan, draw, judge goal by goal, keep or roll back, until every goal holds or the "
            "budget is spent. The run with all its pictures and a report lies in the output folder under clvr.",
            search_aliases=["closed loop", "self-refine", "agent", "critique", "verifier", "prompt following", "best of n"],
            inputs=[
                VLM.Input("vlm", tooltip="Plans the picture and judges it."),
                EXECUTOR.Input("executor", tooltip="Draws and edits."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a large yellow circle at the top right, two large green triangles in the bottom row and a small red square",
                    tooltip="What the picture should show. Every statement in it becomes a goal that is checked.",
                ),
                io.Combo.Input(
                    "strategy",
                    options=list(STRATEGIES),
                    default="clvr",
                    tooltip="clvr: step by step with roll-back. director: one goal after another over a small grid. strokes: plan, sketch, "
                    "inspect, refine. oneshot and best-of-n: without a loop, for comparison.",
                ),
                io.Int.Input("seed", default=0, min=0, max=2**63 - 1, control_after_generate=True, tooltip="Same seed, same pictures."),
                io.Int.Input("rounds", default=12, min=1, max=50, tooltip="Rounds that draw, at most."),
                io.Int.Input("patience", default=4, min=1, max=50, advanced=True, tooltip="Rounds without improvement before giving up."),
                io.Int.Input("candidates", default=0, min=0, max=64, advanced=True, tooltip="Pictures a round; 0: the strategy's own."),
                io.Int.Input("evaluations", default=0, min=0, max=10**9, advanced=True, tooltip="Transformer evaluations; 0: no limit."),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The best picture by the judge's word, never simply the last."),
                TRAJECTORY.Output("trajectory", tooltip="All that was planned, drawn and judged."),
                io.String.Output("summary", tooltip="What came out, in a sentence."),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None = None) -> bool | str:
        if prompt is not None and not prompt.strip():
            return "prompt is empty; say in words what the picture should show"
        if prompt is not None and len(prompt) > MAX_PROMPT:
            return f"prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are read"
        return True

    @classmethod
    def execute(
        cls,
        vlm: Vlm,
        executor: Hand,
        prompt: str,
        strategy: str = "clvr",
        seed: int = 0,
        rounds: int = 12,
        patience: int = 4,
        candidates: int = 0,
        evaluations: int = 0,
    ) -> io.NodeOutput:
        executor.check(prompt)
        budget = Budget(rounds=min(rounds, MAX_ROUNDS), patience=patience, evaluations=evaluations or None)
        brief = Brief(prompt, strategy, seed, executor.width, executor.height, budget, candidates or None)
        done, picture, summary = generate(brief, vlm, executor)
        image = as_image(picture)
        return io.NodeOutput(image, done, summary, ui=ui.PreviewImage(image, cls=cls))
