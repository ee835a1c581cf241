from __future__ import annotations

import numpy as np
from comfy_api.latest import io

from ...clvr_core.run import loop
from ..host.pictures import as_image
from ..host.review_queue import REVIEWS
from ..host.run_folders import ARTIST
from ..host.sockets import TRAJECTORY, Run
from ..host.summaries import preview_images
from . import inputs
from .graph_session import REVIEW, GraphSession


class Review(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=REVIEW,
            display_name="Review",
            category="CLVR/loop",
            description="Waits for you after each round: accept, steer in words, mark a goal as wrong or not wanted, "
            "paint where the next edit may change, go back to an earlier canvas, or stop. Link it between Verify and "
            "Loop End.",
            search_aliases=["pause", "wait", "human in the loop", "approve", "feedback", "steer", "pick"],
            inputs=[
                TRAJECTORY.Input("trajectory", tooltip="The run, from Verify."),
                inputs.review_seconds("seconds", default=120),
                inputs.otherwise(),
            ],
            outputs=[
                TRAJECTORY.Output(
                    "reviewed", display_name="trajectory", tooltip="The run with what you said in it, for Loop End."
                ),
                io.Image.Output("image", tooltip="The canvas that the next round starts from."),
            ],
        )

    @classmethod
    def execute(cls, trajectory: Run, seconds: int = 120, otherwise: str = "go on") -> io.NodeOutput:
        graph = GraphSession(trajectory, reviewer=REVIEWS.reviewer(trajectory.folder.name, seconds, otherwise))
        if isinstance(graph.call, loop.Review):
            graph.settle(ARTIST)
        run = graph.reached()
        reviewed = run.trajectory
        canvas = reviewed.best if reviewed.outcome else reviewed.current
        blank = np.zeros((reviewed.brief.height, reviewed.brief.width, 3), np.uint8)
        picture = blank if canvas is None else graph.session.picture(canvas)
        return io.NodeOutput(run, as_image(picture), ui=preview_images(run))
