from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ...clvr_core.protocols import Vlm
from ..host.metadata import attach, embed_in_best
from ..host.pictures import as_image
from ..host.progress import show_text
from ..host.review_queue import REVIEWS
from ..host.run_folders import count_gone
from ..host.sockets import EXECUTOR, TRAJECTORY, VLM, ExecutorHandle
from ..host.summaries import preview_images
from . import inputs
from .host_session import generate
from .start_image import start_from_image, what_is_lost


class Generate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Generate",
            display_name="Generate in a Loop",
            category="CLVR",
            description="The whole loop in one node: plan, draw, judge goal by goal, keep or roll back, until every "
            "goal holds or the budget is spent. The run with all its pictures and a report lies in the output folder "
            "under clvr.",
            search_aliases=[
                "closed loop",
                "self-refine",
                "agent",
                "auto fix",
                "critic",
                "retry",
                "prompt following",
                "best of n",
                "fix hands",
                "critique",
                "improve prompt",
                "self correct",
                "quality check",
                "inpaint",
                "image edit",
                "flux",
                "qwen",
            ],
            inputs=[
                VLM.Input("vlm", tooltip="Plans the picture and judges it."),
                EXECUTOR.Input("executor", tooltip="Draws and edits."),
                inputs.prompt(),
                inputs.strategy(),
                inputs.seed(),
                inputs.rounds(),
                inputs.patience(),
                inputs.candidates(),
                inputs.evaluations(),
                inputs.review_seconds("review", default=0),
                inputs.judging(),
                inputs.evidence(),
                inputs.fused(),
                inputs.met(),
                inputs.unmet(),
                inputs.picture(),
                inputs.tolerance(),
                inputs.depth(),
                inputs.conditioning(),
                inputs.guided(),
                inputs.rollback(),
                inputs.references(),
                inputs.reference_names(),
                inputs.conversation(),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The best picture as judged, which need not be the last."),
                TRAJECTORY.Output("trajectory", tooltip="All that was planned, drawn and judged."),
                io.String.Output(
                    "summary", tooltip="What came out, in a sentence, and any warning in a line of its own."
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None = None, reference_names: str | None = None) -> bool | str:
        wrong = inputs.names_error(reference_names)
        return wrong if isinstance(wrong, str) else inputs.prompt_error(prompt)

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        return count_gone()

    @classmethod
    def execute(
        cls,
        vlm: Vlm,
        executor: ExecutorHandle,
        prompt: str,
        review: int = 0,
        image: torch.Tensor | None = None,
        references: torch.Tensor | None = None,
        reference_names: str = "",
        **asked: Any,
    ) -> io.NodeOutput:
        from ...clvr_core.run.references import with_references

        brief = inputs.brief_of(prompt, executor, **asked)
        brief, start = start_from_image(image, brief, executor)
        brief, kept = with_references(brief, inputs.named_references(references, reference_names))
        ask = (lambda trajectory, folder: REVIEWS.ask(trajectory, folder, review, "go on")) if review else None
        opened = lambda folder: attach(folder, cls.hidden)  # noqa: E731
        run, best, summary = generate(brief, vlm, executor, start, ask, opened, kept)
        embed_in_best(run, cls.hidden)
        if lost := what_is_lost(image, start):
            summary += f"\n{lost}"
            show_text(summary)
        return io.NodeOutput(as_image(best), run, summary, ui=preview_images(run))
