"""Yes/no questions put to a model: probabilities that can be trusted to be probabilities, or the reason why there is none."""

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
"""Probability that Yes and No must have together among the first tokens for their ratio to mean something."""
MAX_EVIDENCE = 500
"""Characters of evidence that are kept."""


@dataclass(frozen=True)
class Decided:
    """One decision for each question, in order. Where `yes` is None, `evidence` says why no usable answer came."""

    decisions: tuple[Decision, ...]
    tokens: int = 0
    calls: int = 0


def decide(vlm: Vlm, images: Sequence[Picture], questions: Sequence[Question]) -> Decided:
    """All the questions over all the images in one call. If any answer is unusable the whole call is made once more.

    Answers that were usable the first time stand; the second call only fills the holes. The words of a model never decide.
    """
    if not questions:
        return Decided(())
    first, tokens = _once(vlm, images, questions)
    if all(decision.yes is not None for decision in first):
        return Decided(first, tokens, 1)
    second, more = _once(vlm, images, questions)
    return Decided(tuple(a if a.yes is not None else b for a, b in zip(first, second)), tokens + more, 2)


def word(token: str) -> str:
    """The word that a token is, without case, marks, and the signs by which tokenizers write a space or a line end."""
    return token.strip(" \t\r\n\"'*.\u2581\u0120\u010a").casefold()


def _once(vlm: Vlm, images: Sequence[Picture], questions: Sequence[Question]) -> tuple[tuple[Decision, ...], int]:
    try:
        decisions = tuple(vlm.decide(tuple(images), tuple(questions)))
    except TRANSPORT_ERRORS as error:
        return _nothing(f"{vlm.name} gave no answer: {describe(error)}", questions), 0
    tokens = sum(decision.tokens for decision in decisions)
    if len(decisions) != len(questions):
        return _nothing(f"{vlm.name} gave {len(decisions)} answers to {len(questions)} questions", questions), tokens
    return tuple(_usable(vlm.name, decision) for decision in decisions), tokens


def _nothing(reason: str, questions: Sequence[Question]) -> tuple[Decision, ...]:
    return (Decision(None, reason),) * len(questions)


def _usable(name: str, decision: Decision) -> Decision:
    evidence = one_line(decision.evidence, MAX_EVIDENCE)
    if decision.yes is None:
        said = f": {evidence}" if evidence else ""
        return Decision(None, f"{name} gave no usable answer{said}", decision.tokens)
    # NaN fails the comparison too.
    if not isinstance(decision.yes, Real) or isinstance(decision.yes, bool) or not 0 <= decision.yes <= 1:
        return Decision(
            None, f"{name} gave {one_line(repr(decision.yes), 80)}, which is not a probability", decision.tokens
        )
    return replace(decision, yes=float(decision.yes), evidence=evidence)
