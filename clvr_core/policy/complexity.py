"""How much a brief asks for, as one number, and what follows from it: the chance of one shot and the number of rounds.

The score is this project's own. The CLVR paper has a score of the same form, with coefficients that it does not print.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ..brief import Brief, Goal

VERSION = "C_v1"
ENTITIES, BOUND, WORDS = 10.0, 2.0, 3.0
"""Weights of log2(1 + entities), of each relation or bound attribute, of log2(1 + words). Declared once, fitted to no
model."""
TEXT, NEGATION = 4.0, 3.0
"""What each text to be written, and each thing that must not be there, adds."""
HALF, FALL = 43.0, 0.12
"""Where one shot of the embedded weights meets half of the briefs, and how its log-odds fall: a fit to
docs/probe-merged.json. Other models have other halves; that of a model of yours is the c50 that clvr eval score
gives."""
A_ROUND = 5.0
"""Points of complexity for which a round is granted: 5 to 14 rounds for the briefs of the probe."""
NEGATIONS = re.compile(r"\b(?:no|not|without|none|nothing|never)\b", re.IGNORECASE)
WORD = re.compile(r"\w+")


def complexity(entities: int, bound: int, words: int, texts: int = 0, negations: int = 0) -> float:
    """entities: things that must be there, each of several counted. bound: relations and attributes bound to a
    thing."""
    named = ENTITIES * math.log2(1 + entities) + BOUND * bound + WORDS * math.log2(1 + words)
    return named + TEXT * texts + NEGATION * negations


def of_goals(brief: Brief, goals: Sequence[Goal]) -> float:
    """From the list of goals, which costs no further call: a local goal is a thing, a layout or global one is bound to
    it."""
    denied = sum(bool(NEGATIONS.search(goal.text)) for goal in goals)
    kinds = [goal.kind for goal in goals]
    bound = kinds.count("layout") + kinds.count("global") + sum(goal.area is not None for goal in goals)
    return complexity(kinds.count("local"), bound, len(WORD.findall(brief.prompt)), kinds.count("text"), denied)


def one_shot_chance(points: float) -> float:
    """That one generation meets all of it, by complexity alone."""
    return 1 / (1 + math.exp(min(60.0, FALL * (points - HALF))))


def rounds_for(points: float) -> int:
    return max(1, math.ceil(points / A_ROUND))
