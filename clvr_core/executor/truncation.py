"""Finds out whether an image server reads a prompt to its end.

A text encoder that reads 77 tokens, and a server that cuts the prompt for it in silence, draw the same picture whatever stands
behind the cut: with the same seed, to the bit. Pictures that differ in a single value prove that the end was read, or that the
server's pictures do not repeat; so nothing but a cut looks like one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..protocols import DrawRequest, Picture

CUTS = {77: 80, 512: 530}
"""Tokens that text encoders in use read at most -> words that fill them surely: a word is a token or more."""
FEW = min(CUTS.values())
LONG = FEW + 20
"""Words from which a prompt of a run is worth the question."""
_FILLER = "The air is clear and still, and the light is soft."


def prompts(words: int) -> tuple[str, str]:
    """Return two prompts that differ only behind as many words."""
    filler = _FILLER.split()
    begun = " ".join((filler * (words // len(filler) + 1))[:words])
    return f"{begun} The whole picture is bright red.", f"{begun} The whole picture is dark blue."


def reads(draw: Callable[[str], Picture], words: int) -> bool | None:
    """Whether what stands behind as many words of a prompt changes the picture; None if pictures do not repeat.

    draw: draws a prompt, with the same seed each time.
    """
    red, blue = prompts(words)
    first = draw(red)
    if np.array_equal(first, draw(blue)):
        return False
    return True if np.array_equal(first, draw(red)) else None


def is_long(request: DrawRequest) -> bool:
    """Whether a text encoder of 77 tokens leaves out much of the prompt."""
    return len(request.prompt.split()) > LONG


def beginning(prompt: str) -> str:
    """Return the words of a long prompt that a text encoder of 77 tokens reads, and a few more."""
    return " ".join(prompt.split()[:FEW])
