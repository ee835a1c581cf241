"""What teaches the embedded model to take a brief's words over: short questions whose answers are its goals.

The controller's requests are long, and few of them are read in an hour; what they need most is to find a thing's words again
and to write on with them."""

from __future__ import annotations

import random

from ..stickers.grammar import NotInGrammar, parse
from ..stickers.phrases import goal_words
from ..stickers.sampling import random_brief

ASK = "List what the brief asks for:"
MOST = 6
"""Things of a brief."""


def by_brief(rng: random.Random) -> tuple[str, str]:
    """Return a question with a brief, and its goals in the order of a list of goals."""
    while True:
        prompt = random_brief(rng, rng.randint(1, MOST))[2]
        try:
            spec = parse(prompt)
        except NotInGrammar:
            continue
        return f"{ASK} {prompt}", "; ".join(goal_words(statement) for statement in spec.statements)
