"""One round in three nodes: Reason chooses the action, Execute Step draws, Verify judges."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import torch
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from ...clvr_core.protocols import DrawRequest, Vlm
from ...clvr_core.run.loop import ChooseAction, Compare, Draw, Judge, Repair, Review
from ...clvr_core.trajectory import Action
from ..host.input_checks import require_kind
from ..host.links import provenance
from ..host.metadata import png_texts
from ..host.pictures import as_image, as_pictures, black, resize_to_first
from ..host.progress import interruptible, show_text
from ..host.run_folders import ARTIST
from ..host.sockets import EXECUTOR, TRAJECTORY, VLM, ExecutorHandle, Run
from ..host.stops import say_stop
from ..host.summaries import preview_images, summary_of
from .graph_session import CLOCK, GraphSession, awaits_review, record_drawings, unlinked_review


class Reason(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_Reason",
            display_name="Reason",
            category="CLVR/loop",
            description="Decides what this round does: paint anew, edit, look again or end. The same decision also "
            "comes out in words and pictures, so that samplers, LoRA stacks or ControlNets of your own can carry it "
            "out.",
            search_aliases=["next action", "controller", "instruct", "prompt rewrite", "improve prompt", "agent step"],
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
        graph = GraphSession(trajectory, vlm=vlm)
        while isinstance(graph.call, ChooseAction):
            graph.settle(vlm.name)
        session, call, brief = graph.session, graph.call, graph.brief
        action, prompt, seed, mask = Action("VALIDATE"), brief.prompt, brief.seed, None
        if isinstance(call, Draw):
            request = session.compose(call).requests[0]
            action, prompt, seed, mask = call.action, request.prompt, request.seed, request.mask
        pictures = (
            resize_to_first([session.picture(canvas) for canvas in action.references]) if action.references else []
        )
        references = (
            as_image(*pictures, digests=session.digests(*action.references))
            if pictures
            else black(brief.height, brief.width)
        )
        everywhere = torch.ones(1, 1, 1).expand(1, *references.shape[1:3])
        editable = everywhere if mask is None else torch.from_numpy(mask)[None] / 255
        decided = graph.reached()
        CLOCK.begin(decided)
        return io.NodeOutput(
            decided, prompt, action.scene_prompt, action.edit_prompt, references[:1], references, editable, seed
        )


class ExecuteStep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_ExecuteStep",
            display_name="Execute Step",
            category="CLVR/loop",
            description="Draws what Reason decided, as many candidates as the strategy wants. Nodes of your own may "
            "stand in its place.",
            search_aliases=["draw", "edit", "sample", "render step"],
            inputs=[
                TRAJECTORY.Input("trajectory", tooltip="The run, from Reason."),
                EXECUTOR.Input("executor", tooltip="Draws and edits."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where an edit may change the picture; every other pixel of the canvas stays as it "
                    "is. Reason's mask is the region that it named.",
                ),
            ],
            outputs=[io.Image.Output("candidates", tooltip="The pictures of this round, for Verify.")],
        )

    @classmethod
    def execute(cls, trajectory: Run, executor: ExecutorHandle, mask: torch.Tensor | None = None) -> io.NodeOutput:
        graph = GraphSession(trajectory)
        if not isinstance(graph.call, Draw):
            return io.NodeOutput(black(graph.brief.height, graph.brief.width))
        requests = [with_mask(request, mask) for request in graph.session.compose(graph.call).requests]
        with interruptible(executor.executor):
            drawings = executor.executor.draw(requests)
        return io.NodeOutput(as_image(*(drawing.picture for drawing in drawings)))


def with_mask(request: DrawRequest, mask: torch.Tensor | None) -> DrawRequest:
    """Replace an edit's mask by this MASK, scaled to the canvas; the picture may change where it is at least 0.5."""
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
            description="Judges the candidates goal by goal, keeps the best of them or rolls back to the earlier "
            "canvas. A round that is on record is not drawn again.",
            search_aliases=["judge", "critic", "critique", "quality check", "score", "verify prompt", "roll back"],
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
        graph = GraphSession(trajectory, judge=vlm)
        wanted = isinstance(graph.call, Draw) and graph.recorded(cls.source()) is None
        if not wanted or candidates is not None:
            return []
        CLOCK.begin(trajectory)  # Reason begins it, unless ComfyUI took Reason from its cache
        return ["candidates"]

    @classmethod
    def execute(cls, trajectory: Run, vlm: Vlm, candidates: torch.Tensor | None = None) -> io.NodeOutput:
        node = get_executing_context().node_id
        reviewer = unlinked_review if awaits_review(cls.hidden.dynprompt, node) else None
        graph = GraphSession(trajectory, judge=vlm, reviewer=reviewer, texts=png_texts(cls.hidden))
        if isinstance(graph.call, Draw):
            seconds = CLOCK.seconds(trajectory)
            # The input is lazy, so its own check lets None pass.
            graph.settle(
                cls.source(),
                lambda session, call: record_drawings(
                    session, as_pictures(require_kind("Verify", "candidates", "IMAGE", candidates)), call, seconds
                ),
            )
        # The artist's word, where no Review node asks for it: on record, or a wish to stop.
        said = lambda: isinstance(graph.call, Review) and graph.session.reviewer is say_stop  # noqa: E731
        while isinstance(graph.call, (Judge, Repair, Compare)) or said():
            comfy.model_management.throw_exception_if_processing_interrupted()
            if isinstance(graph.call, Review):
                graph.settle(ARTIST)
                graph.session.reviewer = None
            else:
                graph.settle(vlm.name)
        run, session = graph.reached(), graph.session
        verified = run.trajectory
        show_text(summary_of(verified))
        image = black(verified.brief.height, verified.brief.width)
        if verified.best is not None:
            image = as_image(session.picture(verified.best), digests=session.digests(verified.best))
        return io.NodeOutput(run, image, ui=preview_images(run))

    @classmethod
    def source(cls) -> str:
        """Return the digest of the nodes that draw the candidates: with other nodes in the body it is another run."""
        return provenance(cls.hidden.dynprompt, get_executing_context().node_id, "candidates")
