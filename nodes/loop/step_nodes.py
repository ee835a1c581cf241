"""One round in three nodes: what to do, doing it, what came of it."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import torch
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from ...clvr_core.protocols import DrawRequest, Vlm
from ...clvr_core.run.loop import ChooseAction, Compare, Draw, Judge
from ...clvr_core.run.session import Session
from ...clvr_core.trajectory import Action
from ..host.input_checks import check
from ..host.metadata import texts_of
from ..host.pictures import as_image, as_pictures, black, of_one_size
from ..host.sockets import EXECUTOR, TRAJECTORY, VLM, ExecutorHandle, Run
from .graph_session import GraphSession, awaits_review, drawn_by_the_body, provenance, unasked
from .host_session import cancellable, say, shown, summary_of


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
                io.String.Output(
                    "prompt", tooltip="What to draw this round: the scene, or the instruction of an edit."
                ),
                io.String.Output("scene_prompt", tooltip="What the whole picture should show after this round."),
                io.String.Output(
                    "edit_prompt", tooltip="The instruction, with what must stay; empty if it paints anew."
                ),
                io.Image.Output("canvas", tooltip="The picture that the edit starts from; black if it paints anew."),
                io.Image.Output("references", tooltip="All pictures the edit may look at, the canvas first."),
                io.Mask.Output("mask", tooltip="White where the picture may change."),
                io.Int.Output("noise", tooltip="The seed of this round's first candidate."),
            ],
        )

    @classmethod
    def execute(cls, trajectory: Run, vlm: Vlm) -> io.NodeOutput:
        walk = GraphSession(trajectory, vlm=vlm)
        while isinstance(walk.call, ChooseAction):
            walk.settle(vlm.name, Session.perform)
        session, call, brief = walk.session, walk.call, walk.brief
        action, words, seed, masked = Action("VALIDATE"), brief.prompt, brief.seed, None
        if isinstance(call, Draw):
            request = session.requests(call)[0]
            action, words, seed, masked = call.action, request.prompt, request.seed, request.mask
        pictures = of_one_size([session.picture(canvas) for canvas in action.references]) if action.references else []
        references = (
            as_image(*pictures, digests=session.digests(*action.references))
            if pictures
            else black(brief.height, brief.width)
        )
        whole = torch.ones(1, 1, 1).expand(1, *references.shape[1:3])
        may = whole if masked is None else torch.from_numpy(masked)[None] / 255
        return io.NodeOutput(
            walk.reached(), words, action.scene_prompt, action.edit_prompt, references[:1], references, may, seed
        )


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
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where an edit may change the picture; every other pixel of the canvas stays as it is. Reason's mask is "
                    "the region that it named.",
                ),
            ],
            outputs=[io.Image.Output("candidates", tooltip="The pictures of this round, for Verify.")],
        )

    @classmethod
    def execute(cls, trajectory: Run, executor: ExecutorHandle, mask: torch.Tensor | None = None) -> io.NodeOutput:
        walk = GraphSession(trajectory)
        if not isinstance(walk.call, Draw):
            return io.NodeOutput(black(walk.brief.height, walk.brief.width))
        requests = [confined(request, mask) for request in walk.session.requests(walk.call)]
        with cancellable(executor.executor):
            drawings = executor.executor.draw(requests)
        return io.NodeOutput(as_image(*(drawing.picture for drawing in drawings)))


def confined(request: DrawRequest, mask: torch.Tensor | None) -> DrawRequest:
    """An edit with this MASK, scaled to the canvas: 1 where it may change, drawn at 0.5 and above. It goes before the run's own."""
    if mask is None or not request.references:
        return request
    size = (request.height, request.width)
    scaled = torch.nn.functional.interpolate(mask[:1, None].float(), size, mode="nearest-exact")[0, 0]
    return replace(request, mask=((scaled >= 0.5) * 255).to(torch.uint8).cpu().numpy())


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
                io.Image.Input(
                    "candidates", lazy=True, tooltip="The pictures of this round; all of a batch are judged."
                ),
            ],
            outputs=[
                TRAJECTORY.Output(
                    "verified", display_name="trajectory", tooltip="The run with this round in it, for Loop End."
                ),
                io.Image.Output("image", tooltip="The best picture so far."),
            ],
            hidden=[io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def check_lazy_status(cls, trajectory: Run, vlm: Vlm, candidates: torch.Tensor | None = None) -> list[str]:
        walk = GraphSession(trajectory, judge=vlm)
        wanted = isinstance(walk.call, Draw) and walk.recorded(cls.source()) is None
        return ["candidates"] if wanted and candidates is None else []

    @classmethod
    def execute(cls, trajectory: Run, vlm: Vlm, candidates: torch.Tensor | None = None) -> io.NodeOutput:
        node = get_executing_context().node_id
        reviewer = unasked if awaits_review(cls.hidden.dynprompt, node) else None
        walk = GraphSession(trajectory, judge=vlm, reviewer=reviewer, texts=texts_of(cls.hidden))
        if isinstance(walk.call, Draw):
            # Lazy, so that nothing at all may have come.
            walk.settle(
                cls.source(),
                lambda session, call: drawn_by_the_body(
                    session, as_pictures(check("Verify", "candidates", "IMAGE", candidates)), call
                ),
            )
        while isinstance(walk.call, (Judge, Compare)):
            comfy.model_management.throw_exception_if_processing_interrupted()
            walk.settle(vlm.name, Session.perform)
        run, session = walk.reached(), walk.session
        told = run.trajectory
        say(summary_of(told))
        image = black(told.brief.height, told.brief.width)
        if told.best is not None:
            image = as_image(session.picture(told.best), digests=session.digests(told.best))
        return io.NodeOutput(run, image, ui=shown(run))

    @classmethod
    def source(cls) -> str:
        """What the candidates hang on, so that other nodes in the body make another run."""
        return provenance(cls.hidden.dynprompt, get_executing_context().node_id, "candidates")
