from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..clvr_core.protocols import Vlm
from . import asking
from .metadata import carry, carry_workflow
from .pictures import as_image
from .reviewing import DESK
from .running import generate, given, lost, shown
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
            search_aliases=["closed loop", "self-refine", "agent", "auto fix", "critic", "retry", "prompt following", "best of n"],
            inputs=[
                VLM.Input("vlm", tooltip="Plans the picture and judges it."),
                EXECUTOR.Input("executor", tooltip="Draws and edits."),
                asking.prompt(),
                asking.strategy(),
                asking.seed(),
                asking.rounds(),
                asking.patience(),
                asking.candidates(),
                asking.evaluations(),
                asking.review_seconds("review", default=0),
                asking.judging(),
                asking.evidence(),
                asking.fused(),
                asking.met(),
                asking.unmet(),
                asking.picture(),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The best picture by the judge's word, never simply the last."),
                TRAJECTORY.Output("trajectory", tooltip="All that was planned, drawn and judged."),
                io.String.Output("summary", tooltip="What came out, in a sentence, and any warning in a line of its own."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None = None) -> bool | str:
        return asking.refused(prompt)

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        return lost()

    @classmethod
    def execute(
        cls, vlm: Vlm, executor: Hand, prompt: str, review: int = 0, image: torch.Tensor | None = None, **asked: Any
    ) -> io.NodeOutput:
        brief = asking.brief_of(prompt, executor, **asked)
        brief, begun = given(image, brief, executor)
        ask = (lambda told, folder: DESK.ask(told, folder, review, "go on")) if review else None
        run, picture, summary = generate(brief, vlm, executor, begun, ask, lambda folder: carry(folder, cls.hidden))
        carry_workflow(run, cls.hidden)
        return io.NodeOutput(as_image(picture), run, summary, ui=shown(run))
