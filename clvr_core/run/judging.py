"""Judges what a round drew: each candidate, a set of them, or one candidate together with the choice of the next
action."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ..controller import Situation, ask_fused
from ..policy import policy_for, rules
from ..protocols import Picture, Vlm
from ..trajectory import ActionKind, Cost, EditCheck, Trajectory, Verdict
from ..verifier import (
    Judged,
    Thresholds,
    best_of,
    check_edit,
    check_scene,
    explain,
    heard,
    judge,
    knock_out,
    wording_of,
)
from ..verifier.whole import Whole, look_at_whole
from .loop import Judge, Judgement

Pictures = Callable[[int], Picture]
"""Canvas -> its picture, uint8 H x W x 3."""
FUSED_KINDS: tuple[ActionKind, ...] = ("GENERATE", "EDIT", "END")
"""Kinds of an action that is chosen together with verdicts."""


class _Spent:
    """Sums up tokens and calls, and keeps each warning of the witnesses once."""

    def __init__(self) -> None:
        self.tokens = self.calls = 0
        self.warnings: dict[str, None] = {}

    def judged(self, judged: Judged) -> None:
        self.add(judged.tokens, judged.calls)
        self.warnings |= dict.fromkeys(judged.warnings)

    def add(self, tokens: int, calls: int) -> None:
        self.tokens, self.calls = self.tokens + tokens, self.calls + calls

    @property
    def cost(self) -> Cost:
        return Cost(vlm_tokens=self.tokens, vlm_calls=self.calls)


def judge_candidates(
    vlm: Vlm, call: Judge, picture: Pictures, references: Mapping[str, Picture] = MappingProxyType({})
) -> Judgement:
    """Judge the canvases of a call in the way that `Brief.judging` says. The cost has no seconds yet.

    references: the named references of the brief, uint8 H x W x 3.
    """
    brief, spent, pick, warnings = call.trajectory.brief, _Spent(), None, []
    pictures = [picture(canvas) for canvas in call.canvases]
    if brief.judging == "set" and len(pictures) > 1:
        answer = best_of(vlm, brief, call.goals, pictures, wording_of(call.trajectory))
        pick = answer.value
        spent.add(answer.tokens, answer.calls)
        warnings += _if_failed("no comparison of the candidates: {why}", answer.failure)
    judged = [
        _one(vlm, call, shown, picture, spent, references) if pick in (None, index) else ((), EditCheck())
        for index, shown in enumerate(pictures)
    ]
    verdicts, edits = (tuple(part) for part in zip(*judged))
    if brief.judging == "pairs" and len(level := rules.level(verdicts)) > 1:
        rivals = [pictures[index] for index in level]
        answer = knock_out(vlm, brief, call.goals, rivals, wording_of(call.trajectory))
        pick = None if answer.value is None else level[answer.value]
        spent.add(answer.tokens, answer.calls)
        warnings += _if_failed("no comparison of two candidates: {why}", answer.failure)
    warnings += [*_unchecked(edits), *spent.warnings]
    whole = Whole()
    if brief.guided and call.action.kind == "VALIDATE":
        whole, why = _whole(vlm, call, picture, spent)
        warnings += _if_failed("no look at the whole picture: {why}", why)
    return Judgement(
        verdicts, edits, spent.cost, pick, gaps=whole.gaps, back_to=whole.back_to, warnings=tuple(warnings)
    )


def _whole(vlm: Vlm, call: Judge, picture: Pictures, spent: _Spent) -> tuple[Whole, str]:
    """Look at the current canvas as a whole, beside the earlier ones that are offered. Returns why not, if it failed."""
    trajectory = call.trajectory
    pictures = {canvas: picture(canvas) for canvas in trajectory.offered}
    answer = look_at_whole(vlm, trajectory.brief, trajectory.goals, pictures)
    spent.add(answer.tokens, answer.calls)
    return answer.value or Whole(), answer.failure


def _if_failed(warning: str, why: str) -> list[str]:
    return [warning.format(why=why)] if why else []


def _unchecked(edits: Iterable[EditCheck]) -> list[str]:
    """A warning for each edit of which a question got no answer: then `evidence` says why."""
    open_ = (edit.evidence for edit in edits if edit.success is None or edit.over_edit is None)
    return [warning for why in open_ for warning in _if_failed("no check of the edit: {why}", why)]


def _one(
    vlm: Vlm, call: Judge, shown: Picture, picture: Pictures, spent: _Spent, references: Mapping[str, Picture]
) -> tuple[tuple[Verdict, ...], EditCheck]:
    judged = _judged(vlm, call, shown, references)
    if call.trajectory.brief.evidence:
        judged = explain(vlm, shown, call.goals, judged)
    spent.judged(judged)
    return judged.verdicts, _edit(vlm, call, shown, picture, spent)


def _judged(vlm: Vlm, call: Judge, shown: Picture, references: Mapping[str, Picture] = MappingProxyType({})) -> Judged:
    budget = call.trajectory.brief.budget
    return judge(vlm, shown, call.goals, Thresholds(budget.met, budget.unmet), wording_of(call.trajectory), references)


def _edit(vlm: Vlm, call: Judge, shown: Picture, picture: Pictures, spent: _Spent) -> EditCheck:
    if call.before is None:
        edit, tokens, calls = check_scene(vlm, shown, call.action)
        spent.add(tokens, calls)
        return edit
    edit, tokens, calls = check_edit(vlm, picture(call.before), shown, call.action, wording_of(call.trajectory))
    spent.add(tokens, calls)
    return edit


def wants_fused(call: Judge) -> bool:
    """Whether verdicts and next action should come in one reply: the brief asks for it, the strategy allows it, and the
    call is about one canvas that was drawn."""
    brief = call.trajectory.brief
    # A likeness is judged beside its reference, which such a reply is not shown.
    fuses = brief.fused and policy_for(brief).fuses and not brief.references
    return fuses and call.action.draws and len(call.canvases) == 1


def judge_and_choose(vlm: Vlm, call: Judge, picture: Pictures) -> Judgement | None:
    """Judge the canvas and choose the next action in one reply; None if the reply was unusable, so that the caller asks
    for the verdicts alone.

    A reply by which the run could end is judged again by probabilities, which count in place of its verdicts: by an END,
    and by verdicts of which none says that a goal that must hold does not.
    """
    (canvas,), step, spent = call.canvases, call.trajectory.steps[-1], _Spent()
    kept = replace(step, chosen=canvas, accepted=True)
    trajectory = replace(call.trajectory, steps=(*call.trajectory.steps[:-1], kept), current=canvas)
    pictures = {offered: picture(offered) for offered in trajectory.offered}
    answer = ask_fused(vlm, Situation(trajectory, (), FUSED_KINDS, pictures))
    if answer.value is None:
        return None
    spent.add(answer.tokens, answer.calls)
    verdicts, action = answer.value.verdicts, answer.value.action
    if action.kind == "END" or not _missed(trajectory, verdicts):
        judged = _judged(vlm, call, picture(canvas))
        spent.judged(judged)
        said = {verdict.goal: verdict for verdict in verdicts}
        verdicts = tuple(
            verdict
            if verdict.evidence or verdict.state != said[verdict.goal].state
            else replace(verdict, evidence=said[verdict.goal].evidence)
            for verdict in judged.verdicts
        )
        if action.kind == "END" and not rules.satisfied(trajectory, replace(kept, verdicts=verdicts)):
            action = None
    else:
        judged = heard(vlm, picture(canvas), call.goals, Judged(tuple(verdicts)))
        spent.judged(judged)
        verdicts = judged.verdicts
    edit = _edit(vlm, call, picture(canvas), picture, spent)
    warnings = (*answer.warnings, *_unchecked([edit]), *spent.warnings)
    return Judgement((verdicts,), (edit,), spent.cost, next=action, warnings=warnings)


def _missed(trajectory: Trajectory, verdicts: Sequence[Verdict]) -> bool:
    """Whether a wanted goal that must hold is unmet. Nothing but a new picture can then end the run as met."""
    left = rules.musts(trajectory, [goal.id for goal in rules.wanted(trajectory.goals)])
    return any(verdict.state == "unmet" and verdict.goal in left for verdict in verdicts)
