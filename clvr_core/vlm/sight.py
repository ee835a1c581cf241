"""Checks that a model sees pictures.

A language model without a vision part answers every question about one, at random.
"""

from __future__ import annotations

import numpy as np

from ..errors import BadInput, JudgeFailure
from ..protocols import Question, Vlm
from .decisions import decide

PATCHES = {"red": (220, 30, 30), "blue": (30, 60, 220)}
LEAST_DIFFERENCE = 0.2
"""Least difference in the probability of "red" between a red and a blue patch."""


def check_sight(vlm: Vlm, side: int = 128) -> None:
    """Ask whether a red and a blue patch, `side` pixels square, are red.

    Raises BadInput if the answer hardly depends on the picture, and JudgeFailure if there was no answer, which says
    nothing about sight.
    """
    question = Question("Is the picture plain red all over?", data={"task": "sight"})
    found = {}
    for color, value in PATCHES.items():
        patch = np.full((side, side, 3), value, np.uint8)
        (decision,) = decide(vlm, (patch,), (question,)).decisions
        if decision.yes is None:
            raise JudgeFailure(f"{vlm.name} could not be asked whether it sees: {decision.evidence}")
        found[color] = decision.yes
    if found["red"] - found["blue"] < LEAST_DIFFERENCE:
        raise BadInput(
            f"{vlm.name} does not see: asked whether a picture is red it says yes with {found['red']:.2f} to a red one and with "
            f"{found['blue']:.2f} to a blue one; choose a vision-language model, with its vision part loaded"
        )
