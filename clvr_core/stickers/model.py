"""The embedded pipeline: FLUX.2 Klein's own classes at a size that draws on a CPU.

One cell of the canvas is one token: a VAE of six levels (f32) and Klein's 2 x 2 patches give 64 px a token.
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
LATENT_CHANNELS = 32
VAE_CHANNELS = (16, 16, 48, 96, 128, 160)
RECIPE = SamplingRecipe(Sampling(28, 2.0), Sampling(12, 1.0), TEXT_LAYERS, TEXT_BUCKETS, bfloat16=True)
QUOTED = r'(?<="|"[a-z]|"[a-z]{2}|"[a-z]{3}|"[a-z]{4})[a-z](?=[a-z]{0,4}")'
"""A letter of a quoted word of at most five."""


def build_tokenizer():
    """The tokenizer of this world's words. A word in quotes is read letter by letter."""
    return word_tokenizer(VOCABULARY, (QUOTED, r'[.,:;!"]'), TEXT_BUCKETS[-1])


def build_vae(channels: tuple[int, ...] = VAE_CHANNELS):
    return small_vae(channels, LATENT_CHANNELS, CANVAS)


def build_pipeline(
    width: int = 192, double: int = 2, single: int = 6, text_width: int = 128, vae_channels=VAE_CHANNELS
) -> Flux2KleinPipeline:
    """A pipeline with random weights."""
    vae, tokenizer = build_vae(vae_channels), build_tokenizer()
    return small_pipeline(tokenizer, vae, width=width, double=double, single=single, text_width=text_width)
