"""How much a brief asks for, as one number, and what follows from it: whether one shot is likely to do, and how many rounds to grant.

The score is this project's own. The CLVR paper has a score of the same form, with coefficients that it does not print.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ..brief import Brief, Goal

VERSION = "C_v1"
ENTITIES, BOUND, WORDS = 10.0, 2.0, 3.0
"""Weights of log2(1 + entities), of each relation or bound attribute, of log2(1 + words). Declared once, fitted to no model."""
TEXT, NEGATION = 4.0, 3.0
"""What each text to be written, and each thing that must not be there, adds."""
NEGATIONS = re.compile(r"\b(?:no|not|without|none|nothing|never)\b", re.IGNORECASE)
WORD = re.compile(r"\w+")


def complexity(entities: int, bound: int, words: int, texts: int = 0, negations: int = 0) -> float:
    """entities: things that must be there, each of several counted. bound: relations and attributes bound to a thing."""
    named = ENTITIES * math.log2(1 + entities) + BOUND * bound + WORDS * math.log2(1 + words)
    return named + TEXT * texts + NEGATION * negations


def of_goals(brief: Brief, goals: Sequence[Goal]) -> float:
    """From the list of goals, which costs no further call: a local goal is a thing, a layout or global one is bound to it."""
    denied = sum(bool(NEGATIONS.search(goal.text)) for goal in goals)
    kinds = [goal.kind for goal in goals]
    bound = kinds.count("layout") + kinds.count("global") + sum(goal.area is not None for goal in goals)
    return complexity(kinds.count("local"), bound, len(WORD.findall(brief.prompt)), kinds.count("text"), denied)
