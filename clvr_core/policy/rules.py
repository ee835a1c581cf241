"""The rules all strategies share: how a canvas scores, what counts as better, when to stop. Pure functions of the trajectory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..brief import Goal
from ..trajectory import ActionKind, Ended, Step, Trajectory, Verdict, states
from .complexity import of_goals, rounds_for

WEIGHT = {"met": 1.0, "unsure": 0.5, "unmet": 0.0, "pending": 0.0}
UNCLEAR = ("error", "unsure")


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ends: as a code and in a sentence."""

    ended: Ended
    reason: str


def judged(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Weight of each goal that the judge answered; `error` is left out, since it says nothing about the picture."""
    return {verdict.goal: WEIGHT[verdict.state] for verdict in verdicts if verdict.state != "error"}


def score(verdicts: Sequence[Verdict]) -> float | None:
    """Mean weight 0..1 over the goals that were judged; None if none was."""
    weights = judged(verdicts)
    return sum(weights.values()) / len(weights) if weights else None


def gain(before: Sequence[Verdict], after: Sequence[Verdict]) -> float | None:
    """Change of the summed weight over the goals judged on both canvases; None if no goal was judged on both."""
    old, new = judged(before), judged(after)
    common = old.keys() & new.keys()
    return sum(new[goal] - old[goal] for goal in common) if common else None


def unclear(goals: Iterable[Goal], verdicts: Iterable[Verdict]) -> frozenset[str]:
    """Goals of which the judge has not clearly spoken, or was not asked yet, since the artist wished for them later."""
    found = {verdict.goal: verdict.state for verdict in verdicts}
    return frozenset(goal.id for goal in goals if found.get(goal.id, "unsure") in UNCLEAR)


def met(verdicts: Iterable[Verdict]) -> frozenset[str]:
    return frozenset(verdict.goal for verdict in verdicts if verdict.state == "met")


def lost(before: Iterable[Verdict], after: Iterable[Verdict]) -> frozenset[str]:
    """Goals that held before and are now said not to hold. A goal the judge could not answer is not lost."""
    now = states(after)
    return frozenset(goal for goal in met(before) if now.get(goal) in ("unmet", "unsure"))


def wanted(goals: Sequence[Goal]) -> tuple[Goal, ...]:
    """The goals that can hold together: of two in conflict the earlier one is kept."""
    kept: list[Goal] = []
    for goal in goals:
        if not any(other.id in goal.conflicts_with or goal.id in other.conflicts_with for other in kept):
            kept.append(goal)
    return tuple(kept)


def kinds(trajectory: Trajectory, *allowed: ActionKind) -> tuple[ActionKind, ...]:
    """Those that the run may still choose: one that begins from a given picture edits it and never paints another."""
    return tuple(kind for kind in allowed if not (trajectory.brief.picture and kind == "GENERATE"))


def all_met(trajectory: Trajectory, step: Step | None) -> bool:
    """True if the step's canvas has every goal met that can hold beside the others. Needs a word of the judge on each."""
    return step is not None and bool(trajectory.goals) and not open_goals(trajectory, step)


def satisfied(trajectory: Trajectory, step: Step | None) -> bool:
    """As `all_met`, of the goals that must hold; of all where none must."""
    return step is not None and bool(trajectory.goals) and not musts(trajectory, open_goals(trajectory, step))


def musts(trajectory: Trajectory, goals: Iterable[str]) -> tuple[str, ...]:
    """Those of the goals that must hold; all of them where the run has no such goal."""
    needed = {goal.id for goal in trajectory.goals if goal.need == "must"}
    return tuple(goal for goal in goals if goal in needed or not needed)


def open_goals(trajectory: Trajectory, step: Step | None) -> tuple[str, ...]:
    """Ids of the goals that can hold and do not yet, in the order of the brief."""
    done = met(step.verdicts) if step else frozenset()
    return tuple(goal.id for goal in wanted(trajectory.goals) if goal.id not in done)


def ahead(challenger: Sequence[Verdict], holder: Sequence[Verdict]) -> bool:
    """True if the challenger is strictly better on the goals judged on both.

    If these are level, it is ahead if it has all that the holder has met, and meets a goal of which nothing is known on the holder: else
    one missing answer would hold back every canvas after it.
    """
    new, old = judged(challenger), judged(holder)
    if not new or not old:
        return bool(new) and not old
    change = sum(new[goal] - old[goal] for goal in old.keys() & new.keys())
    won = met(challenger) - old.keys()
    return change > 0 or (change == 0 and bool(won) and met(holder) <= met(challenger))


def better(challenger: Step, holder: Step | None) -> bool:
    """True if the challenger's canvas is strictly better by the judge's word; a tie, or no word, keeps the earlier canvas."""
    return challenger.chosen is not None if holder is None else ahead(challenger.verdicts, holder.verdicts)


def best(steps: Iterable[Step]) -> Step | None:
    """The step with the best canvas, each held against the best before it."""
    found = None
    for step in steps:
        if step.chosen is not None and better(step, found):
            found = step
    return found


def choose(verdicts: Sequence[Sequence[Verdict]]) -> int:
    """Index of the best of several candidates; the first of equals, and the first where none was judged."""
    pick = 0
    for index, each in enumerate(verdicts):
        if ahead(each, verdicts[pick]):
            pick = index
    return pick


def level(verdicts: Sequence[Sequence[Verdict]]) -> tuple[int, ...]:
    """Indices of the candidates between which the verdicts do not decide, the one that `choose` would take first."""
    first = choose(verdicts)
    rest = (index for index, each in enumerate(verdicts) if index != first and not ahead(verdicts[first], each))
    return (first, *rest)


def rounds_without_gain(trajectory: Trajectory) -> int:
    """How many of the last steps brought no canvas that was kept, since the artist last steered."""
    count, steered = 0, max((remark.after for remark in trajectory.remarks if remark.steers), default=-1)
    for step in reversed(trajectory.steps):
        if step.accepted or step.index <= steered:
            break
        count += 1
    return count


def round_limit(trajectory: Trajectory) -> int:
    """The budget's, or what the complexity of the goals is granted if the brief asks for that and it is less."""
    brief = trajectory.brief
    if not brief.estimate or not trajectory.goals:
        return brief.budget.rounds
    return min(brief.budget.rounds, rounds_for(of_goals(brief, trajectory.goals)))


def spent(trajectory: Trajectory, images: int = 0, evaluations: int = 0) -> Stop | None:
    """Which limit of the budget is reached, or would be exceeded by a round of so many images and evaluations; None if none."""
    reason = _limit(trajectory, images, evaluations)
    return None if reason is None else Stop("budget spent", reason)


def _limit(trajectory: Trajectory, images: int, evaluations: int) -> str | None:
    budget, cost = trajectory.brief.budget, trajectory.cost
    rounds = sum(1 for step in trajectory.steps if step.action.draws)
    if images and rounds >= (limit := round_limit(trajectory)):
        return f"budget: {limit} rounds are spent"
    if budget.images is not None and cost.images + images > budget.images:
        return f"budget: {cost.images} of {budget.images} images are spent and the next round draws {images}"
    if budget.evaluations is not None and cost.evaluations + evaluations > budget.evaluations:
        return f"budget: {cost.evaluations} of {budget.evaluations} evaluations are spent and the next round costs {evaluations}"
    if budget.seconds is not None and cost.wall >= budget.seconds:
        return f"budget: {cost.wall:.1f} s of {budget.seconds:g} s are spent"
    if budget.vlm_tokens is not None and cost.vlm_tokens >= budget.vlm_tokens:
        return f"budget: {cost.vlm_tokens} of {budget.vlm_tokens} tokens of the vision model are spent"
    return None
