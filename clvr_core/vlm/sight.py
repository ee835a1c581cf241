"""Checks that a model sees pictures, and that a server lets it see as many and as large ones as a run shows.

A language model without a vision part answers every question about one, at random. So does one whose server drops pictures
from a prompt that is too long for its context, without a word (ollama#7484).
"""

from __future__ import annotations

import numpy as np

from ..errors import Away, BadInput, JudgeFailure
from ..protocols import Question, Vlm
from .decisions import decide
from .server import ServerVlm

PATCHES = {"red": (220, 30, 30), "blue": (30, 60, 220)}
LEAST_DIFFERENCE = 0.2
"""Least difference in the probability of "red" between a red and a blue patch."""
MOST = 4
"""Pictures that a run shows at once, at most: the canvases that it offers."""
LONG = "These are notes on other pictures, which the question is not about.\n" + 120 * (
    "The picture holds a red circle at the left, a blue square beside it, and green grass.\n"
)
"""As long as the request for an action late in a run, about 10,000 characters."""


def check_sight(vlm: Vlm, side: int = 128) -> None:
    """Ask whether a red and a blue patch, `side` pixels square, are red. A server is shown more and larger ones as well,
    by `check_reach`.

    Raises BadInput if the answer hardly depends on the picture; JudgeFailure if there was no answer, which says nothing
    about sight, and if a server answers only without a picture (llama.cpp without its mmproj, with status 500); Away if
    it answers nothing.
    """
    question = Question("Is the picture plain red all over?", data={"task": "sight"})
    found = {}
    for color, value in PATCHES.items():
        patch = np.full((side, side, 3), value, np.uint8)
        try:
            (decision,) = decide(vlm, (patch,), (question,)).decisions
        except Away as error:
            _ = decide(vlm, (), (Question("Is red a color?", data={"task": "sight"}),))  # raises Away too if it is away
            raise JudgeFailure(f"{vlm.name} takes no picture: {error.said}") from error
        if decision.yes is None:
            raise JudgeFailure(f"{vlm.name} could not be asked whether it sees: {decision.evidence}")
        found[color] = decision.yes
    if found["red"] - found["blue"] < LEAST_DIFFERENCE:
        raise BadInput(
            f"{vlm.name} does not see: asked whether a picture is red it says yes with {found['red']:.2f} to a red one and with "
            f"{found['blue']:.2f} to a blue one; choose a vision-language model, with its vision part loaded"
        )
    if isinstance(vlm, ServerVlm):
        check_reach(vlm)


def check_reach(vlm: ServerVlm) -> None:
    """Show the model as many pictures as a run does, as large, in a prompt as long. If it does not see as many at once,
    it is shown several side by side in one from now on (`ServerVlm.most`).

    Raises BadInput if it sees them in a short prompt only.
    """
    if _tells(vlm, MOST, LONG):
        return
    vlm.most = next((count for count in (MOST, 2) if _tells(vlm, count)), 1)
    if vlm.most < MOST and _tells(vlm, vlm.most, LONG):
        return
    raise BadInput(
        f"{vlm.name} sees pictures in a short prompt and not {vlm.most} of {vlm.endpoint.image_side} pixels in one as long as those "
        "of a run; give its server a larger context (num_ctx in Ollama, max-model-len in vLLM), or lower image_side"
    )


def _tells(vlm: ServerVlm, count: int, before: str = "") -> bool:
    """Whether the model tells a red first picture and a blue last one from the two the other way round. before: words
    before the question."""
    which = "first picture" if count > 1 else "picture"
    question = Question(f"{before}Is the {which} plain red all over?", data={"task": "sight"})
    red, blue = (np.full((vlm.endpoint.image_side,) * 2 + (3,), value, np.uint8) for value in PATCHES.values())
    said = []
    for first, last in ((red, blue), (blue, red)):
        pictures = (first, *[np.full_like(red, 128)] * (count - 2), last) if count > 1 else (first,)
        (decision,) = decide(vlm, pictures, (question,)).decisions
        said.append(decision.yes)
    return None not in said and said[0] - said[1] >= LEAST_DIFFERENCE
