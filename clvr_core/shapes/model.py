"""The embedded pipeline: FLUX.2 Klein's own classes at a size that trains on a CPU.

One cell of the canvas is one token: a VAE of five levels (f16) and Klein's 2 x 2 patches give 32 px a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..executor.klein import Sampling, SamplingRecipe
from ..executor.small_klein import TEXT_LAYERS, small_pipeline, small_vae, word_tokenizer
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
