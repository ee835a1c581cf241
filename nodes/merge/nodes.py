from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...clvr_core.merge.presets import ALL, PRESETS, preset_words
from . import files
from .files import NONE

MORE = "one more"
"""The choice that opens the next entry of a list of LoRAs."""
MOST_LORAS = 8
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


def preset() -> io.Combo.Input:
    return io.Combo.Input(
        "preset",
        options=[ALL, *PRESETS],
        default=ALL,
        optional=True,
        tooltip=f"Which blocks of FLUX.2 Klein alpha and every LoRA change; blocks is read after it. {preset_words()}. "
        "beta counts everywhere.",
    )


def lora_factor() -> io.Float.Input:
    return io.Float.Input(
        "lora_factor",
        default=1.0,
        min=-10.0,
        max=10.0,
        step=0.05,
        optional=True,
        tooltip="Factor on the strength of every LoRA, such as the one that Strength Finder returns.",
    )


def lora_list(name: str, number: int, tooltip: str) -> io.DynamicCombo.Input:
    """A list that grows: the choice of MORE shows a file, a strength and the same choice again, up to MOST_LORAS.

    number: of its first entry; the widgets of entry N are called lora_N and strength_N.
    """
    entry = [
        io.Combo.Input(
            f"lora_{number}",
            options=[NONE, *files.choices("loras")],
            default=NONE,
            tooltip="A LoRA that was trained on the base.",
        ),
        io.Float.Input(
            f"strength_{number}",
            default=1.0,
            min=-10.0,
            max=10.0,
            step=0.05,
            tooltip="How much of this LoRA is added.",
        ),
    ]
    if number < MOST_LORAS:
        entry.append(lora_list(f"more_{number + 1}", number + 1, "Another LoRA."))
    options = [io.DynamicCombo.Option(NONE, []), io.DynamicCombo.Option(MORE, entry)]
    return io.DynamicCombo.Input(name, options=options, optional=True, tooltip=tooltip)


class DSWMMerge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        models, loras = files.choices("diffusion_models"), files.choices("loras")
        return io.Schema(
            node_id="CLVR_DSWMMerge",
            display_name="DSWM Merge",
            category="CLVR/models",
            description="Merges base, distilled and aligned weights into one checkpoint for few steps, from file to "
            "file: base + alpha (aligned - base) + beta (distilled - base). Link unet_name to Load Diffusion "
            "Model, and that of embedded weights to Load Sticker Weights.",
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
                    "lora",
                    options=[NONE, *loras],
                    default=NONE,
                    tooltip="A LoRA that was trained on the base; also LoKr, LoHa, DoRA and whole differences.",
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
                lora_list("more_loras", 2, "Further LoRA files, each with a strength; the list grows."),
                lora_factor(),
                preset(),
                io.Combo.Input(
                    "recipe_of",
                    options=[NONE, *files.list_files("diffusion_models")],
                    default=NONE,
                    optional=True,
                    tooltip="Load the recipe from a file that this node merged: its strengths, blocks and settings, and "
                    "the files it was merged from, by name. Of the other inputs only name, every_weight and overwrite "
                    "count then.",
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
    def validate_inputs(cls, name: str | None = None, blocks: str | None = None, more_loras: Any = None) -> bool | str:
        # ComfyUI passes a list that grows to every node with this method, and checks its entries itself.
        return files.input_error(name, blocks)

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> list[str]:
        return files.stamps(inputs)

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
            "in memory, and the deltas are added at every load; for daily use write a file with DSWM Merge.",
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
                lora_list("loras", 1, "LoRA files, each with a strength; the list grows."),
                lora_factor(),
                preset(),
            ],
            outputs=[io.Model.Output("model", tooltip="The base with all deltas.")],
        )

    @classmethod
    def validate_inputs(cls, blocks: str | None = None, loras: Any = None) -> bool | str:
        return files.input_error(None, blocks)

    @classmethod
    def fingerprint_inputs(cls, loras: Any = None, **_: Any) -> list[str]:
        return files.stamps(loras or {})

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
        loras: Any = None,
        lora_factor: float = 1.0,
        preset: str = ALL,
    ) -> io.NodeOutput:
        from .live_patch import live_model

        chosen = files.loras_in(loras or {}, lora_factor)
        return io.NodeOutput(live_model(base, aligned, distilled, alpha, beta, blocks, fp8, chosen, preset))
