from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...clvr_core.models.registry import load_models
from ...clvr_core.world import world_named
from ..executor.fingerprint import fingerprint
from ..host.sockets import EXECUTOR, VLM, ExecutorHandle
from ..host.sticker_files import STICKERS
from ..merge.files import file_of, small_files, stamps

RECIPES = {"klein": "embedded", "klein-base": "embedded-base"}
"""How weights are sampled, as in Executor -> name of the embedded models with such weights."""


class StickerWeights(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_StickerWeights",
            display_name="Load Sticker Weights",
            category="CLVR/models",
            description="Loads a transformer of the embedded world: one that comes with this pack, or a file that DSWM "
            "Merge made of them. Its MODEL goes into DSWM Merge (Live), LoRA loaders and Sticker Models.",
            search_aliases=["load diffusion model", "unet loader", "embedded", "no download"],
            inputs=[
                io.Combo.Input(
                    "weights",
                    options=[*STICKERS["diffusion_models"], *small_files()],
                    tooltip="Embedded weights, or a merge of them: link unet_name of DSWM Merge here. Listed are the "
                    "files of models/diffusion_models up to 64 MB.",
                )
            ],
            outputs=[io.Model.Output("model", tooltip="Only Sticker Models can draw with it.")],
        )

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = None) -> list[str]:
        return stamps({"weights": weights})

    @classmethod
    def execute(cls, weights: str) -> io.NodeOutput:
        from .weights import load_model

        return io.NodeOutput(load_model(file_of("weights", weights)))


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
                ),
                io.Combo.Input(
                    "recipe",
                    options=list(RECIPES),
                    default="klein",
                    optional=True,
                    advanced=True,
                    tooltip="klein: the merged weights, in 4 steps. klein-base: the base, in 28 steps with guidance. "
                    "A linked model is drawn in the same way.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Draws in place of the weights that come with this pack: from Load Sticker Weights, also with a "
                    "merge or LoRA on it.",
                ),
            ],
            outputs=[
                VLM.Output("vlm", tooltip="Plans the picture and judges it."),
                EXECUTOR.Output("executor", tooltip="Draws and edits, 192 x 192 pixels."),
            ],
            hidden=[io.Hidden.dynprompt],
        )

    @classmethod
    def execute(cls, judge_error: float = 0.0, recipe: str = "klein", model: Any = None) -> io.NodeOutput:
        models, world = load_models(RECIPES[recipe]), world_named()
        weights = weights_of(world.merged if recipe == "klein" else world.base)
        if model is not None:
            from .weights import state_of_model

            models.executor.reload(state_of_model(model))
            models.executor.name = f"{world.name} (linked weights)"
            weights = f"{weights} {fingerprint(cls.hidden.dynprompt, {'model': model})}"
        executor = ExecutorHandle(models.executor, models.width, models.height, models.check, weights)
        return io.NodeOutput(world.load_vlm(judge_error), executor)


def weights_of(folder: Path) -> str:
    """Return a digest of the folder's weights: of its list of files and their digests."""
    return hashlib.sha256((folder / "clvr_files.json").read_bytes()).hexdigest()
