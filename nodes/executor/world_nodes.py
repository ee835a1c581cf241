from __future__ import annotations

import hashlib
from pathlib import Path

from comfy_api.latest import io

from ...clvr_core.models.registry import load_models
from ...clvr_core.world import world_named
from ..host.sockets import EXECUTOR, VLM, ExecutorHandle


class StickerModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_ShapesModels",
            display_name="Sticker Models",
            category="CLVR/models",
            description="The embedded world of 3-D emoji on scenes: nothing is downloaded, and a CPU is enough. For "
            "trying the loop out.",
            search_aliases=["quick try", "demo", "offline", "toy model", "no download"],
            inputs=[
                io.Float.Input(
                    "judge_error",
                    default=0.0,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    advanced=True,
                    tooltip="How often the judge inside the loop is made to err, for seeing how the loop copes.",
                )
            ],
            outputs=[
                VLM.Output("vlm", tooltip="Plans the picture and judges it."),
                EXECUTOR.Output("executor", tooltip="Draws and edits, 192 x 192 pixels."),
            ],
        )

    @classmethod
    def execute(cls, judge_error: float = 0.0) -> io.NodeOutput:
        models, world = load_models("embedded"), world_named()
        weights = weights_of(world.merged)
        executor = ExecutorHandle(models.executor, models.width, models.height, models.check, weights)
        return io.NodeOutput(world.load_vlm(judge_error), executor)


def weights_of(folder: Path) -> str:
    """Return a digest of the folder's weights: of its list of files and their digests."""
    return hashlib.sha256((folder / "clvr_files.json").read_bytes()).hexdigest()
