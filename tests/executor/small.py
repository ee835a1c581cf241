"""FLUX.2 Klein's own classes with random weights, so small that a picture takes a moment: 32 px a token, and a few words."""

from __future__ import annotations

from typing import Any

from clvr_core.executor.small_klein import small_pipeline, small_vae, word_tokenizer
from clvr_core.protocols import DrawRequest, Picture

SIDE = 96
"""Pixels of a side of the pictures of `klein`."""

WORDS = (
    ". , : ; ! red green blue yellow purple orange cyan black circle square triangle diamond cross circles squares "
    "triangles diamonds crosses small tiny little large big top middle bottom left center right zero one two three "
    "four five six seven eight nine 0 1 2 3 4 5 6 7 8 9 to the of on above over below under beneath please draw "
    "paint create make show me a an clean simple clear plain tidy picture image drawing scene canvas with and in at "
    "is are there that it its sits sit stands stand placed found shown contains containing together plus also light "
    "background where so row column corner cell part exactly nothing else no other be for add put place remove "
    "delete erase change recolor move replace from color object by keep everything rest unchanged leave all copy "
    "restore was then same as"
).split()


def words(most: int = 128) -> Any:
    """Return a tokenizer for which each of WORDS is a token. most: tokens that it reads."""
    return word_tokenizer(WORDS, (r"[.,:;!]",), most)


def klein(width: int = 64, double: int = 1, single: int = 1, text_width: int = 16) -> Any:
    """Return a pipeline with random weights, whose pictures have SIDE px a side unless the request says otherwise."""
    vae, tokenizer = small_vae((4,) * 5, 16, SIDE), words()
    return small_pipeline(tokenizer, vae, width=width, double=double, single=single, text_width=text_width)


def asked(
    prompt: str, seed: int, references: tuple[Picture, ...] = (), width: int = SIDE, height: int = SIDE, **more: Any
) -> DrawRequest:
    """Return a request for a picture of `klein`."""
    return DrawRequest(prompt, seed, references, width, height, **more)
