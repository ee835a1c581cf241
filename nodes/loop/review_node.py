from __future__ import annotations

import numpy as np
from comfy_api.latest import io

from ...clvr_core.run import loop
from ...clvr_core.run.session import Session
from ..host.pictures import as_image
from ..host.sockets import TRAJECTORY, Run
from ..routes.review import reviewer_for
from . import inputs
from .graph_session import REVIEW, GraphSession
from .host_session import shown


class Review(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=REVIEW,
            display_name="Review",
            category="CLVR/loop",
            description="Waits for you after each round: accept, steer in words, mark a goal as wrong or not wanted, paint where the next "
            "edit may change, go back to an earlier canvas, or stop. Link it between Verify and Loop End.",
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
        walk = GraphSession(trajectory, reviewer=reviewer_for(trajectory.folder.name, seconds, otherwise))
        if isinstance(walk.call, loop.Review):
            walk.settle("the artist", Session.perform)
        told = walk.reached().trajectory
        canvas = told.best if told.outcome else told.current
        blank = np.zeros((told.brief.height, told.brief.width, 3), np.uint8)
        picture = blank if canvas is None else walk.session.picture(canvas)
        return io.NodeOutput(walk.reached(), as_image(picture), ui=shown(walk.reached()))
