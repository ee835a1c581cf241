from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from . import files
from .files import NONE
from .live_patch import live_model

EXAMPLE = "double_blocks.* = 1, 1\nsingle_blocks.3 = 0.5\ntxt_in = 0, 1"


def alpha() -> io.Float.Input:
    return io.Float.Input(
        "alpha", default=1.0, min=-10.0, max=10.0, step=0.05, tooltip="How much of aligned - base is added."
    )


def beta() -> io.Float.Input:
    return io.Float.Input(
        "beta", default=1.0, min=-10.0, max=10.0, step=0.05, tooltip="How much of distilled - base is added."
    )


def blocks() -> io.String.Input:
    return io.String.Input(
        "blocks",
        multiline=True,
        default="",
        optional=True,
        placeholder=EXAMPLE,
        tooltip="Strengths by block, one a line: NAME = ALIGN, DISTIL, two factors on alpha (and the LoRA) and on "
        "beta. * stands for any text; of several that match, the last counts; 0, 0 leaves a block as it is in the "
        "base.",
    )


def fp8() -> io.Combo.Input:
    return io.Combo.Input(
        "fp8",
        options=list(files.FP8),
        default="refuse",
        optional=True,
        tooltip="Weights stored in fp8 have lost most of what a small delta changes: refuse them, or merge the values "
        "that they stand for all the same.",
    )


class DSWMMerge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        models, loras = files.list_files("diffusion_models"), files.list_files("loras")
        return io.Schema(
            node_id="CLVR_DSWMMerge",
            display_name="DSWM Merge",
            category="CLVR/models",
            description="Merges base, distilled and aligned weights into one checkpoint for few steps, from file to "
            "file: base + alpha (aligned - base) + beta (distilled - base). Link unet_name to Load Diffusion Model.",
            search_aliases=[
                "merge checkpoints",
                "merge models",
                "bake lora",
                "task arithmetic",
                "delta",
                "4 steps",
                "turbo",
                "distilled",
            ],
            inputs=[
                io.Combo.Input("base", options=models, tooltip="The model that the others were trained from."),
                io.Combo.Input(
                    "distilled", options=[NONE, *models], default=NONE, tooltip="The model distilled to few steps."
                ),
                io.Combo.Input(
                    "aligned", options=[NONE, *models], default=NONE, tooltip="Fine-tuned weights, a whole checkpoint."
                ),
                io.Combo.Input(
                    "lora", options=[NONE, *loras], default=NONE, tooltip="A LoRA or LoKr that was trained on the base."
                ),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much of the LoRA is added.",
                ),
                alpha(),
                beta(),
                io.String.Input(
                    "name",
                    default="dswm-merge",
                    tooltip="The file's name, without .safetensors; it is written into the output folder under "
                    "diffusion_models.",
                ),
                blocks(),
                fp8(),
                io.Combo.Input(
                    "dtype",
                    options=["base", "bf16", "fp16", "fp32", "fp8"],
                    default="base",
                    optional=True,
                    advanced=True,
                    tooltip="How the result is stored; base: as the base, bf16 where that is fp8.",
                ),
                io.Combo.Input(
                    "rounding",
                    options=["nearest", "stochastic"],
                    default="nearest",
                    optional=True,
                    advanced=True,
                    tooltip="stochastic keeps deltas that are too small for the dtype, on average, and adds a little "
                    "noise.",
                ),
                io.Boolean.Input(
                    "keep_lora",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Write the LoRA into the output folder under loras, for Load LoRA at strength 1, instead "
                    "of into the weights.",
                ),
                io.Boolean.Input(
                    "every_weight",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Make the report from every weight instead of from a sample; takes two to three times as "
                    "long.",
                ),
                io.Float.Input(
                    "limit",
                    default=0.5,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="The largest typical delta, relative to the base, that is accepted. A larger one says "
                    "that the model was not trained from this base.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Replace a file of this name that holds another merge.",
                ),
            ],
            outputs=[
                io.AnyType.Output(
                    "unet_name", tooltip="The file's name, for the widget of this name on Load Diffusion Model."
                ),
                io.Image.Output(
                    "report",
                    tooltip="The norm of each delta, their cosine and what rounding leaves of them, block by block.",
                ),
                io.String.Output(
                    "summary", tooltip="The same for the whole model in words, and any warning in a line of its own."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None, blocks: str | None = None) -> bool | str:
        return files.input_error(name, blocks)

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> list[str]:
        return files.stamps({key: value for key, value in inputs.items() if isinstance(value, str)})

    @classmethod
    def execute(cls, name: str = "dswm-merge", **inputs: Any) -> io.NodeOutput:
        file, picture, summary = files.merge_files(name, files.MergeInputs(**inputs))
        return io.NodeOutput(file, picture, summary, ui=ui.PreviewImage(picture, cls=cls))


class DSWMMergeLive(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLVR_DSWMMergeLive",
            display_name="DSWM Merge (Live)",
            category="CLVR/models",
            description="The same merge of loaded models, without a file, for trying strengths out. Each model stays "
            "in memory, and the deltas are added at every load; for daily use write a file with DSWM Merge. A LoRA: "
            "link base through Load LoRA to aligned.",
            search_aliases=[
                "merge models",
                "model merge",
                "block weights",
                "task arithmetic",
                "add difference",
                "turbo",
                "distilled",
            ],
            inputs=[
                io.Model.Input("base", tooltip="The model that the others were trained from."),
                io.Model.Input("distilled", optional=True, tooltip="The model distilled to few steps."),
                io.Model.Input("aligned", optional=True, tooltip="Fine-tuned weights, or the base with a LoRA."),
                alpha(),
                beta(),
                blocks(),
                fp8(),
            ],
            outputs=[io.Model.Output("model", tooltip="The base with both deltas.")],
        )

    @classmethod
    def validate_inputs(cls, blocks: str | None = None) -> bool | str:
        return files.input_error(None, blocks)

    @classmethod
    def execute(
        cls,
        base: Any,
        distilled: Any = None,
        aligned: Any = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        blocks: str = "",
        fp8: str = "refuse",
    ) -> io.NodeOutput:
        return io.NodeOutput(live_model(base, aligned, distilled, alpha, beta, blocks, fp8))
