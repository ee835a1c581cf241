from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ...clvr_core.brief import MAX_PROMPT
from ...clvr_core.checklist import lines_of
from ...clvr_core.protocols import Vlm
from ..host.metadata import attach
from ..host.progress import show_text
from ..host.run_folders import count_gone
from ..host.sockets import EXECUTOR, TRAJECTORY, VLM, ExecutorHandle
from . import inputs
from .graph_session import GraphExecutor
from .host_session import begin
from .start_image import start_from_image, what_is_lost


class BriefNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Brief",
            display_name="Brief",
            category="CLVR/loop",
            description="Begins a run whose rounds are nodes of your own: the prompt becomes a list of goals, each a "
            "question that the judge can answer. Link it to Loop Start.",
            search_aliases=["goals", "checklist", "plan", "requirements", "prompt analysis"],
            inputs=[
                VLM.Input("vlm", tooltip="Draws up the goals."),
                inputs.prompt(),
                inputs.strategy(),
                inputs.seed(),
                inputs.rounds(),
                EXECUTOR.Input(
                    "executor",
                    optional=True,
                    tooltip="What Execute Step draws with: it sets the size of the canvas. Leave it open if nodes of "
                    "your own draw.",
                ),
                io.String.Input(
                    "goals",
                    multiline=True,
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Your own list, a goal a line, in place of the one that the model draws up.",
                ),
                io.Int.Input(
                    "width",
                    default=1024,
                    min=16,
                    max=8192,
                    optional=True,
                    advanced=True,
                    tooltip="Pixels; the executor's, if there is one.",
                ),
                io.Int.Input(
                    "height",
                    default=1024,
                    min=16,
                    max=8192,
                    optional=True,
                    advanced=True,
                    tooltip="Pixels; the executor's, if there is one.",
                ),
                inputs.patience(),
                inputs.candidates(),
                inputs.evaluations(),
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
                TRAJECTORY.Output("trajectory", tooltip="The run, planned and not yet begun."),
                io.String.Output("list", display_name="goals", tooltip="The goals, a line each."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(
        cls, prompt: str | None = None, goals: str | None = None, reference_names: str | None = None
    ) -> bool | str:
        if goals is not None and len(goals) > MAX_PROMPT:
            return f"goals has {len(goals):,} characters; at most {MAX_PROMPT:,} are read"
        wrong = inputs.names_error(reference_names)
        return wrong if isinstance(wrong, str) else inputs.prompt_error(prompt)

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        return count_gone()

    @classmethod
    def execute(
        cls,
        vlm: Vlm,
        prompt: str,
        executor: ExecutorHandle | None = None,
        width: int = 1024,
        height: int = 1024,
        image: torch.Tensor | None = None,
        references: torch.Tensor | None = None,
        reference_names: str = "",
        **asked: Any,
    ) -> io.NodeOutput:
        from ...clvr_core.run.references import with_references

        drawn_by = executor or ExecutorHandle(GraphExecutor(), width, height, lambda text: None, step=16)
        brief = inputs.brief_of(prompt, drawn_by, **asked)
        brief, picture = start_from_image(image, brief, drawn_by)
        brief, kept = with_references(brief, inputs.named_references(references, reference_names))
        run = begin(brief, vlm, drawn_by, picture, lambda folder: attach(folder, cls.hidden), kept)
        if lost := what_is_lost(image, picture):
            show_text(lost)
        listed = "\n".join(goal.text for goal in run.trajectory.goals)
        return io.NodeOutput(run, listed, ui={"clvr_goals": lines_of(run.trajectory.goals).splitlines()})
