"""Asks yes/no questions: checks that the answers are probabilities, asks once more if not, and says why
one is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

from ..protocols import Decision, Picture, Question, Vlm
from ..text import one_line
from .replies import TRANSPORT_ERRORS, describe

DECIDE = "You look at pictures and answer questions about them. You answer with the one word Yes or No."
ONE_WORD = "Answer with one word, Yes or No."
LEAST_MASS = 0.2
"""Probability that Yes and No must have together at the first token; below it there is no answer."""
SLACK = 0.01
"""By how much probabilities may add up to more than 1, which is what rounding does."""
MAX_EVIDENCE = 500
"""Characters of evidence that are kept."""


@dataclass(frozen=True)
class Decided:
    """One decision for each question, in order, and what they cost.

    Where `yes` is None, `evidence` says why there is no usable answer.
    tokens: read and written over all calls. calls: of the model, 0 to 2.
    """

    decisions: tuple[Decision, ...]
    tokens: int = 0
    calls: int = 0


def decide(vlm: Vlm, images: Sequence[Picture], questions: Sequence[Question]) -> Decided:
    """Ask all questions over all images in one call, and all of them once more if any answer was unusable.

    Usable answers of the first call stand; the second call only fills in the missing ones. Never raises for a model
    that fails.
    """
    if not questions:
        return Decided(())
    first, tokens = _once(vlm, images, questions)
    if all(decision.yes is not None for decision in first):
        return Decided(first, tokens, 1)
    second, more = _once(vlm, images, questions)
    return Decided(tuple(a if a.yes is not None else b for a, b in zip(first, second)), tokens + more, 2)


def weigh(yes: float, no: float, tokens: int = 0) -> Decision:
    """Make a decision of the probabilities of Yes and No at the first token.

    `Decision.yes` is the value from P(Yes) to 1 - P(No) that is nearest to 0.5, so what lies on other words lowers the
    confidence and never raises it. A goal is met by P(Yes) itself, as in VQAScore (arXiv 2404.01291), and unmet by
    P(No) itself. The decision has no answer if the two have less than LEAST_MASS, or belong to no distribution.
    """
    # NaN fails the comparison too.
    if not (yes >= 0 and no >= 0 and yes + no <= 1 + SLACK):
        return Decision(None, f"Yes has probability {yes:.3g} and No {no:.3g}, which is no distribution", tokens)
    if yes + no < LEAST_MASS:
        return Decision(None, f"the answer would not begin with Yes or No (probability {yes + no:.2f})", tokens)
    return Decision(min(max(yes, 0.5), max(1 - no, 0.0)), "", tokens)


def word(token: str) -> str:
    """Return the token as a lower-case word, without punctuation and the characters that tokenizers write for white
    space.
    """
    return token.strip(" \t\r\n\"'*.\u2581\u0120\u010a").casefold()


def _once(vlm: Vlm, images: Sequence[Picture], questions: Sequence[Question]) -> tuple[tuple[Decision, ...], int]:
    try:
        decisions = tuple(vlm.decide(tuple(images), tuple(questions)))
    except TRANSPORT_ERRORS as error:
        return _unanswered(f"{vlm.name} gave no answer: {describe(error)}", questions), 0
    tokens = sum(decision.tokens for decision in decisions)
    if len(decisions) != len(questions):
        return _unanswered(f"{vlm.name} gave {len(decisions)} answers to {len(questions)} questions", questions), tokens
    return tuple(_usable(vlm.name, decision) for decision in decisions), tokens


def _unanswered(reason: str, questions: Sequence[Question]) -> tuple[Decision, ...]:
    return (Decision(None, reason),) * len(questions)


def _usable(name: str, decision: Decision) -> Decision:
    evidence = one_line(decision.evidence, MAX_EVIDENCE)
    if decision.yes is None:
        why = f"{name} gave no usable answer: {evidence}" if evidence else f"{name} gave no usable answer"
        return Decision(None, why, decision.tokens)
    # NaN fails the comparison too.
    if not isinstance(decision.yes, Real) or isinstance(decision.yes, bool) or not 0 <= decision.yes <= 1:
        return Decision(
            None, f"{name} gave {one_line(repr(decision.yes), 80)}, which is not a probability", decision.tokens
        )
    return replace(decision, yes=float(decision.yes), evidence=evidence)
