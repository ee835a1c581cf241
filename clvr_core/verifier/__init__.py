"""The verifier: judges goals on a picture, checks edits, compares pictures. A missing answer is never a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from ..brief import Brief, Budget, Goal
from ..errors import BadInput
from ..protocols import Decision, Picture, Vlm
from ..text import one_line
from ..trajectory import Action, EditCheck, Finding, State, Trajectory, Verdict
from ..vlm.decisions import MAX_EVIDENCE, decide
from ..vlm.replies import Answer, ask
from ..witness import agree
from ..witness.judge import Witnessed
from . import prompts
from .counting import counted
from .prompts import NEWEST, TEMPLATES, UNQUOTED, WORDINGS

__all__ = [
    "TEMPLATES",
    "UNQUOTED",
    "WORDINGS",
    "Judged",
    "Thresholds",
    "best_of",
    "check_edit",
    "check_scene",
    "compare",
    "explain",
    "heard",
    "judge",
    "knock_out",
    "wording_of",
]


@dataclass(frozen=True)
class Thresholds:
    """Probabilities, 0 <= unmet < met <= 1, that turn a decision into a state.

    met: from here up a goal is met.
    unmet: from here down it is unmet; between the two the judge is unsure.
    """

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


def wording_of(trajectory: Trajectory) -> str:
    """Return the version of the words in which the run is judged."""
    return trajectory.prompts.get("verifier", NEWEST)


@dataclass(frozen=True)
class Judged:
    """Verdicts in the order of the goals, the tokens read and written for them, the calls of the model, and why a
    witness said nothing."""

    verdicts: tuple[Verdict, ...]
    tokens: int = 0
    calls: int = 0
    warnings: tuple[str, ...] = ()


def judge(
    vlm: Vlm,
    picture: Picture,
    goals: Sequence[Goal],
    thresholds: Thresholds = USUAL,
    wording: str = NEWEST,
    references: Mapping[str, Picture] = MappingProxyType({}),
) -> Judged:
    """Give one verdict for each goal, by one call about the whole picture (uint8 H x W x 3), repeated once if an answer
    is unusable; for goals of likeness by one more call for each reference, about the reference and the picture.

    A goal without a usable answer is `error` with the reason as evidence, never `unmet`; other goals keep their
    verdicts. If the model has witnesses, each verdict is made one with what they say.

    wording: version of the words that the model is asked in, of `WORDINGS`; so for all that follow here.
    references: the named references of the brief, uint8 H x W x 3.
    """
    found: dict[str, Verdict] = {}
    tokens = calls = 0
    for name in dict.fromkeys(goal.reference if goal.kind == "likeness" else "" for goal in goals):
        asked = [goal for goal in goals if name == (goal.reference if goal.kind == "likeness" else "")]
        if name and name not in references:
            found |= {goal.id: Verdict(goal.id, "error", f'the run has no reference "{name}"') for goal in asked}
            continue
        pictures = (references[name], _one(picture)) if name else (_one(picture),)
        questions = [
            prompts.likeness_question(goal) if name else prompts.goal_question(goal, wording) for goal in asked
        ]
        decided = decide(vlm, pictures, questions)
        found |= {goal.id: _verdict(goal, each, thresholds) for goal, each in zip(asked, decided.decisions)}
        tokens, calls = tokens + decided.tokens, calls + decided.calls
    verdicts = tuple(found[goal.id] for goal in goals)
    return heard(vlm, picture, goals, Judged(verdicts, tokens, calls), references)


def heard(
    vlm: Vlm,
    picture: Picture,
    goals: Sequence[Goal],
    judged: Judged,
    references: Mapping[str, Picture] = MappingProxyType({}),
) -> Judged:
    """Make each verdict one with what the model's witnesses say of its goal; without witnesses nothing changes."""
    if not isinstance(vlm, Witnessed):
        return judged
    own: Answer[Mapping[str, Finding]] = counted(vlm, picture, goals) if vlm.witnesses.counts else Answer({}, "", 0, 0)
    found = vlm.hear(picture, goals, own.value or {}, references)
    verdicts = tuple(agree(verdict, found.said.get(verdict.goal, ())) for verdict in judged.verdicts)
    silent = (f"no count: {own.failure}",) if own.failure else ()
    return Judged(
        verdicts, judged.tokens + own.tokens, judged.calls + own.calls, (*judged.warnings, *silent, *found.warnings)
    )


def check_edit(
    vlm: Vlm, before: Picture, after: Picture, action: Action, wording: str = NEWEST
) -> tuple[EditCheck, int, int]:
    """Ask whether the instruction was carried out and whether the rest was kept; return the check, the tokens and the
    calls.

    The questions of the step's own checklist (`Action.checks`) are asked with them, and the edit was carried out only if
    they are answered with yes too. `over_edit` is 0..1, the probability that other things changed. A field without a
    usable answer is None, with the reason as evidence. An action without an instruction is not asked about.
    """
    if not action.edit_prompt.strip():
        return EditCheck(), 0, 0
    asked = prompts.done_question(action, wording), prompts.kept_question(action, wording)
    checks = map(prompts.check_question, action.checks)
    decided = decide(vlm, (_one(before), _one(after)), (*asked, *checks))
    done, kept, *answers = decided.decisions
    missed = _missed(action, answers)
    check = EditCheck(
        success=None if done.yes is None else done.yes >= 0.5 and not missed,
        missed=missed,
        over_edit=None if kept.yes is None else 1 - kept.yes,
        evidence="; ".join(dict.fromkeys(decision.evidence for decision in (done, kept) if decision.evidence)),
    )
    return check, decided.tokens, decided.calls


def check_scene(vlm: Vlm, picture: Picture, action: Action) -> tuple[EditCheck, int, int]:
    """Ask the questions of a step's own checklist about a picture that was drawn from nothing; return as `check_edit`
    does."""
    if not action.checks:
        return EditCheck(), 0, 0
    decided = decide(vlm, (_one(picture),), list(map(prompts.check_question, action.checks)))
    missed, silent = _missed(action, decided.decisions), [each for each in decided.decisions if each.yes is None]
    check = EditCheck(
        success=None if silent and not missed else not missed,
        evidence=silent[0].evidence if silent else "",
        missed=missed,
    )
    return check, decided.tokens, decided.calls


def _missed(action: Action, answers: Sequence[Decision]) -> tuple[str, ...]:
    answered = zip(action.checks, answers, strict=True)
    return tuple(question for question, answer in answered if answer.yes is not None and answer.yes < 0.5)


def compare(
    vlm: Vlm, brief: Brief, goals: Sequence[Goal], first: Picture, second: Picture, wording: str = NEWEST
) -> Answer[int]:
    """Ask which picture fits the brief better, in both orders: 0 the first, 1 the second, -1 if the orders disagree.

    Without an answer in each order the value is None: one order alone measures the bias of the order.
    """
    question = prompts.compare_question(brief, goals, wording)
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


def best_of(
    vlm: Vlm, brief: Brief, goals: Sequence[Goal], pictures: Sequence[Picture], wording: str = NEWEST
) -> Answer[int]:
    """Ask for each picture whether it fits the brief best, all in one call, in both orders; return the index, the
    earlier one at a tie.

    Without an answer for each picture in each order the value is None.
    """
    pictures, count, tokens, calls = tuple(map(_one, pictures)), len(pictures), 0, 0
    chances = np.zeros(count)
    questions = [prompts.best_question(brief, goals, place, count, wording) for place in range(1, count + 1)]
    for order in (1, -1):
        decided = decide(vlm, pictures[::order], questions)
        tokens, calls = tokens + decided.tokens, calls + decided.calls
        if missing := next((decision for decision in decided.decisions if decision.yes is None), None):
            return Answer(None, missing.evidence, tokens, calls)
        chances += np.array([decision.yes for decision in decided.decisions][::order], float)
    return Answer(int(chances.argmax()), "", tokens, calls)


def knock_out(
    vlm: Vlm, brief: Brief, goals: Sequence[Goal], pictures: Sequence[Picture], wording: str = NEWEST
) -> Answer[int]:
    """Compare pictures two at a time, the winner with the next; return the index that is left.

    A picture loses only if the judge prefers the other in both orders; a comparison without an answer changes nothing,
    and its failure is that of the answer.
    """
    holder, tokens, calls, failure = 0, 0, 0, ""
    for challenger in range(1, len(pictures)):
        answer = compare(vlm, brief, goals, pictures[holder], pictures[challenger], wording)
        tokens, calls = tokens + answer.tokens, calls + answer.calls
        failure = answer.failure or failure
        if answer.value == 1:
            holder = challenger
    return Answer(holder, failure, tokens, calls)


@dataclass(frozen=True)
class _Seen:
    goal: str
    seen: str


@dataclass(frozen=True)
class _Evidence:
    seen: tuple[_Seen, ...]


def explain(vlm: Vlm, picture: Picture, goals: Sequence[Goal], judged: Judged) -> Judged:
    """Add evidence to verdicts that are unmet or unsure: what is seen in place of the goal.

    Without an answer they stay as they are.
    """
    # Of a likeness it cannot say what is seen: it is not shown the reference here.
    alone = {goal.id for goal in goals if goal.kind != "likeness"}
    wanting = [
        verdict.goal
        for verdict in judged.verdicts
        if verdict.goal in alone and verdict.state in ("unmet", "unsure") and not verdict.evidence
    ]
    if not wanting:
        return judged
    messages, schema = prompts.evidence_request(_one(picture), [goal for goal in goals if goal.id in wanting])
    answer = ask(vlm, messages, schema, _Evidence)
    seen = {one.goal: one_line(one.seen, MAX_EVIDENCE) for one in (answer.value.seen if answer.value else ())}
    verdicts = tuple(
        replace(verdict, evidence=seen[verdict.goal]) if verdict.goal in wanting and verdict.goal in seen else verdict
        for verdict in judged.verdicts
    )
    return replace(judged, verdicts=verdicts, tokens=judged.tokens + answer.tokens, calls=judged.calls + answer.calls)


def _verdict(goal: Goal, decision: Decision, thresholds: Thresholds) -> Verdict:
    if decision.yes is None:
        return Verdict(goal.id, "error", decision.evidence)
    return Verdict(goal.id, thresholds.state(decision.yes), decision.evidence, max(decision.yes, 1 - decision.yes))


def _one(picture: Picture) -> Picture:
    """Return the picture. Raises BadInput if it is not uint8 H x W x 3."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise BadInput(f"the judge looks at one picture, uint8 H x W x 3; this is {picture.dtype} {picture.shape}")
    return picture
