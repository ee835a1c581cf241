"""The embedded pipeline: FLUX.2 Klein's own classes at a size that trains on a CPU.

One cell of the canvas is one token: a VAE of five levels (f16) and Klein's 2 x 2 patches give 32 px a token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..executor.klein import RECIPE as RECIPE_FILE
from ..executor.klein import Sampling, SamplingRecipe
from ..executor.small_klein import TEXT_LAYERS, small_pipeline, small_vae, word_tokenizer
from ..records import to_json
from ..weights.manifest import write_manifest
from .scene import CANVAS
from .words import VOCABULARY

if TYPE_CHECKING:
    from diffusers import Flux2KleinPipeline

TEXT_BUCKETS = (32, 64, 128)
LATENT_CHANNELS = 16
RECIPE = SamplingRecipe(Sampling(20, 2.0), Sampling(8, 1.0), TEXT_LAYERS, TEXT_BUCKETS)


def build_tokenizer():
    """The tokenizer of this world's words."""
    return word_tokenizer(VOCABULARY, (r"[.,:;!]",), TEXT_BUCKETS[-1])


def build_vae(channels: tuple[int, ...] = (8, 16, 32, 64, 64)):
    return small_vae(channels, LATENT_CHANNELS, CANVAS)


def build_pipeline(
    width: int = 160, double: int = 2, single: int = 4, text_width: int = 96, vae_channels=(8, 16, 32, 64, 64)
) -> Flux2KleinPipeline:
    """A pipeline with random weights."""
    vae, tokenizer = build_vae(vae_channels), build_tokenizer()
    return small_pipeline(tokenizer, vae, width=width, double=double, single=single, text_width=text_width)


def save_pipeline(pipe: Flux2KleinPipeline, folder: Path, recipe: SamplingRecipe = RECIPE) -> None:
    """Writes diffusers' folder format in bfloat16, with the recipe beside it, so that transformers 4.57 and 5 can load
    it."""
    import torch

    pipe.to(torch.bfloat16).save_pretrained(folder)
    for config in folder.glob("*/config.json"):
        _amend(config, lambda value: {key: item for key, item in value.items() if key != "_name_or_path"})
    index, tokenizer = folder / "model_index.json", folder / "tokenizer" / "tokenizer_config.json"
    # transformers 5 writes names of its own that 4.x does not know.
    # The executor's own pipeline is a subclass, which a user of the folder does not have.
    _amend(
        index,
        lambda value: (
            value | {"_class_name": "Flux2KleinPipeline", "tokenizer": ["transformers", "PreTrainedTokenizerFast"]}
        ),
    )
    _amend(tokenizer, _for_both)
    # The length that training padded to last is no property of the words.
    _amend(folder / "tokenizer" / "tokenizer.json", lambda value: value | {"padding": None, "truncation": None})
    (folder / RECIPE_FILE).write_text(json.dumps(to_json(recipe), indent=1))
    write_manifest(folder)


def _amend(path: Path, change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text())), indent=1))


def _for_both(config: dict) -> dict:
    config = {key: value for key, value in config.items() if key not in ("backend", "is_local", "local_files_only")} | {
        "tokenizer_class": "PreTrainedTokenizerFast"
    }
    if "extra_special_tokens" in config:
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config
