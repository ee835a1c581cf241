"""What teaches the embedded model to take a brief's words over: short questions whose answers are its goals.

The controller's requests are long, and few of them are read in an hour; what they need most is to find a thing's words again
and to write on with them. Rows of words by chance, parts of which come again, teach that alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from ..stickers.grammar import NotInGrammar, parse
from ..stickers.phrases import goal_words
from ..stickers.sampling import brief_of, grouped_scene, random_sign

ASK = "List what the brief asks for:"
MOST = 6
"""Things of a brief."""
SIGNED = 0.4
"""Share of the briefs in which a thing is a sign."""
ROW, AGAIN = (8, 40), (3, 9)
"""Fewest and most tokens of a row, and of a part of it that comes again."""


def by_brief(rng: random.Random) -> tuple[str, str]:
    """Return a question with a brief, and its goals in the order of a list of goals."""
    while True:
        scene = grouped_scene(rng, rng.randint(1, MOST))
        if rng.random() < SIGNED:
            first, *others = scene.things
            scene = replace(scene, things=(random_sign(rng, first.cell), *others))
        prompt = brief_of(scene, rng)[1]
        try:
            spec = parse(prompt)
        except NotInGrammar:
            continue
        return f"{ASK} {prompt}", "; ".join(goal_words(statement) for statement in spec.statements)


def repeated(rng: random.Random, tokens: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return a row of different ones of the tokens followed by parts of it, and first and last + 1 place of what can be
    foretold in each part: all but its first token."""
    row = rng.sample(tokens, min(len(tokens), rng.randint(*ROW)))
    made, spans = list(row), []
    while len(made) < 2 * len(row):
        first = rng.randrange(len(row) - AGAIN[0] + 1)
        part = row[first : first + rng.randint(*AGAIN)]
        spans.append((len(made) + 1, len(made) + len(part)))
        made += part
    return made, spans
