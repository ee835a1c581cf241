"""Weights of a vision-language model in 8 or 4 bits, by bitsandbytes or torchao.

Vision part and head keep their type.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

from ..errors import BadInput

Quantise = Literal["none", "int8", "int4", "torchao-int8", "torchao-int4"]
"""int8 and int4 (NF4) are those of bitsandbytes."""
LIBRARIES = {"int8": "bitsandbytes", "int4": "bitsandbytes", "torchao-int8": "torchao", "torchao-int4": "torchao"}
KEPT = ["visual", "vision_tower", "multi_modal_projector", "lm_head"]
"""Modules that are not quantised: they are small, and the judge depends on what the vision part resolves."""


def installed(quantise: str) -> bool:
    return importlib.util.find_spec(LIBRARIES[quantise]) is not None


def check_quantise(quantise: Quantise, device: str) -> None:
    """Raise BadInput if the library is not installed or does not run on the device, named as torch has it."""
    if quantise == "none":
        return
    library = LIBRARIES[quantise]
    for needed in (library, "accelerate"):
        if importlib.util.find_spec(needed) is None:
            raise BadInput(
                f"quantise = {quantise!r} needs {needed}, which is not installed; pip install {needed}, or leave quantise out"
            )
    if device == "cpu" and quantise != "torchao-int8":
        raise BadInput(
            f"quantise = {quantise!r} needs a GPU, and this model runs on the CPU; choose torchao-int8, or leave quantise out"
        )


def config_of(quantise: Quantise, dtype: Any) -> Any:
    """Return the `quantization_config` for transformers. dtype: of computation, as torch has it."""
    if quantise == "int8":
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=KEPT)
    if quantise == "int4":
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=KEPT
        )
    from torchao.quantization import (  # pyright: ignore[reportMissingImports]  # optional, see check_quantise
        Int4WeightOnlyConfig,
        Int8WeightOnlyConfig,
    )
    from transformers import TorchAoConfig

    weights = Int8WeightOnlyConfig() if quantise == "torchao-int8" else Int4WeightOnlyConfig()
    return TorchAoConfig(weights, modules_to_not_convert=KEPT)
