"""Can the model see? A language model without eyes answers every question about a picture, and every answer is made up."""

from __future__ import annotations

import numpy as np

from ..errors import BadInput, JudgeFailure
from ..protocols import Question, Vlm
from .decisions import decide

PATCHES = {"red": (220, 30, 30), "blue": (30, 60, 220)}
LEAST_DIFFERENCE = 0.2
"""By how much the probability of "red" must differ between a red and a blue patch."""


def check_sight(vlm: Vlm, side: int = 128) -> None:
    """Shows two flat patches, `side` pixels square. Raises BadInput for a model whose answer hardly depends on the picture, and
    JudgeFailure if it gave no answer, which says nothing about its eyes."""
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
