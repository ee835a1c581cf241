"""The verifier: what holds in a picture, what an edit did, which of two is better. A judge that did not answer has said nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..brief import Brief, Budget, Goal
from ..errors import BadInput
from ..protocols import Decision, Picture, Vlm
from ..text import one_line
from ..trajectory import Action, EditCheck, State, Verdict
from ..vlm.decisions import MAX_EVIDENCE, decide
from ..vlm.replies import Answer, ask
from . import prompts
from .prompts import TEMPLATES

__all__ = ["TEMPLATES", "Judged", "Thresholds", "best_of", "check_edit", "compare", "explain", "judge", "knock_out"]


@dataclass(frozen=True)
class Thresholds:
    """Probabilities 0..1: from `met` up a goal holds, from `unmet` down it does not, between them the judge is unsure."""

    met: float = Budget().met
    unmet: float = Budget().unmet

    def __post_init__(self) -> None:
        if not 0 <= self.unmet < self.met <= 1:
            raise BadInput(
                f"thresholds: unmet is {self.unmet} and met is {self.met}; they must satisfy 0 <= unmet < met <= 1"
            )

    def state(self, probability: float) -> State:
        if probability >= self.met:
            return "met"
        return "unmet" if probability <= self.unmet else "unsure"


USUAL = Thresholds()


@dataclass(frozen=True)
class Judged:
    """Verdicts in the order of the goals, and what they cost."""

    verdicts: tuple[Verdict, ...]
    tokens: int = 0
    calls: int = 0


def judge(vlm: Vlm, picture: Picture, goals: Sequence[Goal], thresholds: Thresholds = USUAL) -> Judged:
    """One verdict for each goal, all from one look at the whole picture (uint8 H x W x 3).

    A goal without a usable answer after a second try is `error` with the reason as evidence, never `unmet`; the others keep theirs.
    """
    decided = decide(vlm, (_one(picture),), [prompts.goal_question(goal) for goal in goals])
    verdicts = tuple(_verdict(goal, decision, thresholds) for goal, decision in zip(goals, decided.decisions))
    return Judged(verdicts, tokens=decided.tokens, calls=decided.calls)


def check_edit(vlm: Vlm, before: Picture, after: Picture, action: Action) -> tuple[EditCheck, int, int]:
    """Was the instruction carried out, and how much changed beside it (0..1)? Returns the check, the tokens and the calls.

    An action without an instruction is not asked about. What got no usable answer is None, with the reason as evidence.
    """
    if not action.edit_prompt.strip():
        return EditCheck(), 0, 0
    decided = decide(vlm, (_one(before), _one(after)), (prompts.done_question(action), prompts.kept_question(action)))
    done, kept = decided.decisions
    check = EditCheck(
        success=None if done.yes is None else done.yes >= 0.5,
        over_edit=None if kept.yes is None else 1 - kept.yes,
        evidence="; ".join(dict.fromkeys(decision.evidence for decision in (done, kept) if decision.evidence)),
    )
    return check, decided.tokens, decided.calls


def compare(vlm: Vlm, brief: Brief, goals: Sequence[Goal], first: Picture, second: Picture) -> Answer[int]:
    """Which picture fits the brief better: 0 the first, 1 the second, -1 if the judge does not hold to one in both orders.

    Without an answer in each order there is no value: half a comparison is the bias of its order.
    """
    question = prompts.compare_question(brief, goals)
    ahead = decide(vlm, (_one(first), _one(second)), (question,))
    if (forth := ahead.decisions[0]).yes is None:
        return Answer(None, forth.evidence, ahead.tokens, ahead.calls)
    swapped = decide(vlm, (second, first), (question,))
    tokens, calls = ahead.tokens + swapped.tokens, ahead.calls + swapped.calls
    if (back := swapped.decisions[0]).yes is None:
        return Answer(None, back.evidence, tokens, calls)
    if forth.yes > 0.5 > back.yes:
        return Answer(0, "", tokens, calls)
    return Answer(1 if forth.yes < 0.5 < back.yes else -1, "", tokens, calls)


def best_of(vlm: Vlm, brief: Brief, goals: Sequence[Goal], pictures: Sequence[Picture]) -> Answer[int]:
    """Index of the picture that fits the brief best, all of them looked at side by side, in both orders; the earlier one at a tie.

    Without an answer for each of them in each order there is no value.
    """
    pictures, count, tokens, calls = tuple(map(_one, pictures)), len(pictures), 0, 0
    chances = np.zeros(count)
    questions = [prompts.best_question(brief, goals, place, count) for place in range(1, count + 1)]
    for order in (1, -1):
        decided = decide(vlm, pictures[::order], questions)
        tokens, calls = tokens + decided.tokens, calls + decided.calls
        if missing := next((decision for decision in decided.decisions if decision.yes is None), None):
            return Answer(None, missing.evidence, tokens, calls)
        chances += [decision.yes for decision in decided.decisions][::order]
    return Answer(int(chances.argmax()), "", tokens, calls)


def knock_out(vlm: Vlm, brief: Brief, goals: Sequence[Goal], pictures: Sequence[Picture]) -> Answer[int]:
    """Index of the picture that no later one beats in both orders, compared two at a time.

    A comparison without an answer changes nothing.
    """
    holder, tokens, calls = 0, 0, 0
    for challenger in range(1, len(pictures)):
        answer = compare(vlm, brief, goals, pictures[holder], pictures[challenger])
        tokens, calls = tokens + answer.tokens, calls + answer.calls
        if answer.value == 1:
            holder = challenger
    return Answer(holder, "", tokens, calls)


@dataclass(frozen=True)
class _Seen:
    goal: str
    seen: str


@dataclass(frozen=True)
class _Evidence:
    seen: tuple[_Seen, ...]


def explain(vlm: Vlm, picture: Picture, goals: Sequence[Goal], judged: Judged) -> Judged:
    """The same verdicts with what is seen in place of what does not hold, in words. Without an answer they stay without words."""
    wanting = [
        verdict.goal for verdict in judged.verdicts if verdict.state in ("unmet", "unsure") and not verdict.evidence
    ]
    if not wanting:
        return judged
    messages, schema = prompts.evidence_request(_one(picture), [goal for goal in goals if goal.id in wanting])
    answer = ask(vlm, messages, schema, _Evidence)
    told = {one.goal: one_line(one.seen, MAX_EVIDENCE) for one in (answer.value.seen if answer.value else ())}
    verdicts = tuple(
        replace(verdict, evidence=told[verdict.goal]) if verdict.goal in wanting and verdict.goal in told else verdict
        for verdict in judged.verdicts
    )
    return Judged(verdicts, judged.tokens + answer.tokens, judged.calls + answer.calls)


def _verdict(goal: Goal, decision: Decision, thresholds: Thresholds) -> Verdict:
    if decision.yes is None:
        return Verdict(goal.id, "error", decision.evidence)
    return Verdict(goal.id, thresholds.state(decision.yes), decision.evidence, max(decision.yes, 1 - decision.yes))


def _one(picture: Picture) -> Picture:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise BadInput(f"the judge looks at one picture, uint8 H x W x 3; this is {picture.dtype} {picture.shape}")
    return picture
