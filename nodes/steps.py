"""One round in three nodes: what to do, doing it, what came of it."""

from __future__ import annotations

from math import ceil

import comfy.model_management
import numpy as np
import torch
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from ..clvr_core.loop import ChooseAction, Compare, Draw, Judge
from ..clvr_core.protocols import Vlm
from ..clvr_core.session import Session
from ..clvr_core.trajectory import Action
from .running import as_image, as_pictures, cancellable, say, shown, summary_of
from .sockets import EXECUTOR, TRAJECTORY, VLM, Hand, Run
from .stepping import Walk, awaits_review, drawn_by_the_body, of_one_size, provenance, unasked


class Reason(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Reason",
            display_name="Reason",
            category="CLVR/loop",
            description="Decides what this round does: paint anew, edit, look again or end. The same decision also comes out in words and "
            "pictures, so that samplers, LoRA stacks or ControlNets of your own can carry it out.",
            search_aliases=["next action", "controller", "instruct", "prompt rewrite", "agent step"],
            inputs=[
                TRAJECTORY.Input("trajectory", tooltip="The run, from Loop Start."),
                VLM.Input("vlm", tooltip="Looks at the canvas and decides."),
            ],
            outputs=[
                TRAJECTORY.Output("decided", display_name="trajectory", tooltip="The run with this decision in it."),
                io.String.Output("prompt", tooltip="What to draw this round: the scene, or the instruction of an edit."),
                io.String.Output("scene_prompt", tooltip="What the whole picture should show after this round."),
                io.String.Output("edit_prompt", tooltip="The instruction, with what must stay; empty if it paints anew."),
                io.Image.Output("canvas", tooltip="The picture that the edit starts from; black if it paints anew."),
                io.Image.Output("references", tooltip="All pictures the edit may look at, the canvas first."),
                io.Mask.Output("mask", tooltip="White where the picture may change."),
                io.Int.Output("noise", tooltip="The seed of this round's first candidate."),
            ],
        )

    @classmethod
    def execute(cls, trajectory: Run, vlm: Vlm) -> io.NodeOutput:
        walk = Walk(trajectory, vlm=vlm)
        while isinstance(walk.call, ChooseAction):
            walk.settle(vlm.name, Session.perform)
        session, call, brief = walk.session, walk.call, walk.brief
        action, words, seed, painted = Action("VALIDATE"), brief.prompt, brief.seed, None
        if isinstance(call, Draw):
            request = session.requests(call)[0]
            action, words, seed, painted = call.action, request.prompt, request.seed, request.mask
        black = np.zeros((brief.height, brief.width, 3), np.uint8)
        references = of_one_size([session.picture(canvas) for canvas in action.references] or [black])
        mask = mask_of(action, *references[0].shape[:2]) if painted is None else torch.from_numpy(painted.astype(np.float32) / 255)[None]
        images = as_image(references[0]), as_image(*references)
        return io.NodeOutput(walk.reached(), words, action.scene_prompt, action.edit_prompt, *images, mask, seed)


def mask_of(action: Action, height: int, width: int) -> torch.Tensor:
    """ComfyUI's MASK, float32 1 x H x W: 1 in the action's region, or everywhere if it names none."""
    mask = torch.ones((1, height, width))
    if action.region is not None:
        left, top, right, bottom = action.region
        mask.zero_()
        mask[:, int(top * height) : ceil(bottom * height), int(left * width) : ceil(right * width)] = 1
    return mask


class ExecuteStep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_ExecuteStep",
            display_name="Execute Step",
            category="CLVR/loop",
            description="Draws what Reason decided, as many candidates as the strategy wants. Nodes of your own may stand in its place.",
            search_aliases=["draw", "edit", "sample", "render step"],
            inputs=[
                TRAJECTORY.Input("trajectory", tooltip="The run, from Reason."),
                EXECUTOR.Input("executor", tooltip="Draws and edits."),
            ],
            outputs=[io.Image.Output("candidates", tooltip="The pictures of this round, for Verify.")],
        )

    @classmethod
    def execute(cls, trajectory: Run, executor: Hand) -> io.NodeOutput:
        walk = Walk(trajectory)
        if not isinstance(walk.call, Draw):
            brief = walk.brief
            return io.NodeOutput(as_image(np.zeros((brief.height, brief.width, 3), np.uint8)))
        with cancellable(executor.executor):
            drawings = executor.executor.draw(walk.session.requests(walk.call))
        return io.NodeOutput(as_image(*(drawing.picture for drawing in drawings)))


class Verify(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Verify",
            display_name="Verify",
            category="CLVR/loop",
            description="Judges the candidates goal by goal, keeps the best of them or rolls back to the earlier canvas. A round that is "
            "on record is not drawn again.",
            search_aliases=["judge", "check", "critic", "score", "verify prompt", "roll back"],
            inputs=[
                TRAJECTORY.Input("trajectory", tooltip="The run, from Reason."),
                VLM.Input("vlm", tooltip="Judges; it may be another than the one that decides."),
                io.Image.Input("candidates", lazy=True, tooltip="The pictures of this round; all of a batch are judged."),
            ],
            outputs=[
                TRAJECTORY.Output("verified", display_name="trajectory", tooltip="The run with this round in it, for Loop End."),
                io.Image.Output("image", tooltip="The best picture so far."),
            ],
            hidden=[io.Hidden.dynprompt],
        )

    @classmethod
    def check_lazy_status(cls, trajectory: Run, vlm: Vlm, candidates: torch.Tensor | None = None) -> list[str]:
        walk = Walk(trajectory, judge=vlm)
        wanted = isinstance(walk.call, Draw) and walk.recorded(cls.source()) is None
        return ["candidates"] if wanted and candidates is None else []

    @classmethod
    def execute(cls, trajectory: Run, vlm: Vlm, candidates: torch.Tensor | None = None) -> io.NodeOutput:
        node = get_executing_context().node_id
        walk = Walk(trajectory, judge=vlm, reviewer=unasked if awaits_review(cls.hidden.dynprompt, node) else None)
        if isinstance(walk.call, Draw):
            walk.settle(cls.source(), lambda session, call: drawn_by_the_body(session, as_pictures(candidates), call))
        while isinstance(walk.call, (Judge, Compare)):
            comfy.model_management.throw_exception_if_processing_interrupted()
            walk.settle(vlm.name, Session.perform)
        run, session = walk.reached(), walk.session
        told = run.trajectory
        say(summary_of(told))
        picture = np.zeros((told.brief.height, told.brief.width, 3), np.uint8) if told.best is None else session.picture(told.best)
        return io.NodeOutput(run, as_image(picture), ui=shown(run))

    @classmethod
    def source(cls) -> str:
        """What the candidates hang on, so that other nodes in the body make another run."""
        return provenance(cls.hidden.dynprompt, get_executing_context().node_id, "candidates")
