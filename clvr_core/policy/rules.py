"""The rules that all strategies share: how a canvas scores, what counts as better, when to stop. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..brief import Goal
from ..trajectory import ActionKind, Ended, State, Step, Trajectory, Verdict, states
from .complexity import of_goals, rounds_for

WEIGHT: dict[State, float] = {"met": 1.0, "unsure": 0.5, "unmet": 0.0, "pending": 0.0}
"""What a verdict counts in a score."""
UNCLEAR: tuple[State, ...] = ("error", "unsure")
"""States in which the judge has not decided."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ends: as a code and in a sentence."""

    ended: Ended
    reason: str


def judged(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Goal -> weight, of the goals that the judge answered: an `error` says nothing about the picture."""
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
    """Ids of the goals without a clear verdict, or without any: the artist may have wished for them after the
    judging."""
    found = {verdict.goal: verdict.state for verdict in verdicts}
    return frozenset(goal.id for goal in goals if found.get(goal.id, "unsure") in UNCLEAR)


def met(verdicts: Iterable[Verdict]) -> frozenset[str]:
    return frozenset(verdict.goal for verdict in verdicts if verdict.state == "met")


def lost(before: Iterable[Verdict], after: Iterable[Verdict]) -> frozenset[str]:
    """Ids of the goals that were met before and are now unmet or unsure. A goal without an answer is not lost."""
    now = states(after)
    return frozenset(goal for goal in met(before) if now.get(goal) in ("unmet", "unsure"))


def costs(served: Sequence[str], before: Sequence[Verdict], after: Sequence[Verdict]) -> bool:
    """Whether a repair costs what its edit won: the canvas before it is ahead by the goals that the edit served, or by
    all if it named none."""
    first, second = ([verdict for verdict in each if not served or verdict.goal in served] for each in (before, after))
    return ahead(first, second)


def wanted(goals: Sequence[Goal]) -> tuple[Goal, ...]:
    """The goals that can hold together: of two in conflict the earlier one."""
    kept: list[Goal] = []
    for goal in goals:
        if not any(other.id in goal.conflicts_with or goal.id in other.conflicts_with for other in kept):
            kept.append(goal)
    return tuple(kept)


def kinds(trajectory: Trajectory, *allowed: ActionKind) -> tuple[ActionKind, ...]:
    """The allowed kinds of action without GENERATE if the run edits a given picture."""
    return tuple(kind for kind in allowed if not (trajectory.brief.picture and kind == "GENERATE"))


def all_met(trajectory: Trajectory, step: Step | None) -> bool:
    """Whether the step's canvas meets every wanted goal, by a verdict on each."""
    return step is not None and bool(trajectory.goals) and not open_goals(trajectory, step)


def satisfied(trajectory: Trajectory, step: Step | None) -> bool:
    """Whether the step's canvas meets every wanted goal that must hold; every wanted goal if none must."""
    return step is not None and bool(trajectory.goals) and not musts(trajectory, open_goals(trajectory, step))


def musts(trajectory: Trajectory, goals: Iterable[str]) -> tuple[str, ...]:
    """The given goals that must hold; all of them if the run has no goal that must."""
    needed = {goal.id for goal in trajectory.goals if goal.need == "must"}
    return tuple(goal for goal in goals if goal in needed or not needed)


def open_goals(trajectory: Trajectory, step: Step | None) -> tuple[str, ...]:
    """Ids of the wanted goals that the step's canvas does not meet, in the brief's order."""
    done = met(step.verdicts) if step else frozenset()
    return tuple(goal.id for goal in wanted(trajectory.goals) if goal.id not in done)


def ahead(challenger: Sequence[Verdict], holder: Sequence[Verdict]) -> bool:
    """Whether the challenger's summed weight is higher over the goals judged on both canvases.

    If the sums are equal, the challenger is ahead if it meets all that the holder meets and also a goal that was not
    judged on the holder. Without this rule one missing answer would keep back every later canvas.
    """
    new, old = judged(challenger), judged(holder)
    if not new or not old:
        return bool(new) and not old
    change = sum(new[goal] - old[goal] for goal in old.keys() & new.keys())
    won = met(challenger) - old.keys()
    return change > 0 or (change == 0 and bool(won) and met(holder) <= met(challenger))


def better(challenger: Step, holder: Step | None) -> bool:
    """Whether the challenger's canvas is strictly better by the verdicts. A tie or a missing judgement keeps the
    holder."""
    return challenger.chosen is not None if holder is None else ahead(challenger.verdicts, holder.verdicts)


def best(steps: Iterable[Step]) -> Step | None:
    """The step with the best canvas: each is compared with the best one before it."""
    found = None
    for step in steps:
        if takes_lead(step, found):
            found = step
    return found


def takes_lead(step: Step, holder: Step | None) -> bool:
    """Whether the step's canvas takes the place of the best one: it is better, or as good and less edited."""
    if step.chosen is None:
        return False
    return better(step, holder) or (
        step.ruling == "less edited" and holder is not None and holder.chosen == step.parent
    )


def choose(verdicts: Sequence[Sequence[Verdict]], damages: Sequence[float] = ()) -> int:
    """Index of the best of several candidates; of equals the least damaged, then the first. 0 if none was judged.

    damages: of each candidate, beyond what is tolerated; empty if none is damaged.
    """
    pick = 0
    for index, each in enumerate(verdicts):
        spared = bool(damages) and damages[index] < damages[pick] and not ahead(verdicts[pick], each)
        if ahead(each, verdicts[pick]) or spared:
            pick = index
    return pick


def level(verdicts: Sequence[Sequence[Verdict]]) -> tuple[int, ...]:
    """Indices of the candidates that no verdict separates from the one of `choose`, that one first."""
    first = choose(verdicts)
    rest = (index for index, each in enumerate(verdicts) if index != first and not ahead(verdicts[first], each))
    return (first, *rest)


def rounds_without_gain(trajectory: Trajectory) -> int:
    """How many of the last steps were not kept, counted since the artist last changed the course of the run."""
    count, steered = 0, max((remark.after for remark in trajectory.remarks if remark.steers), default=-1)
    for step in reversed(trajectory.steps):
        if step.accepted or step.index <= steered:
            break
        count += 1
    return count


def round_limit(trajectory: Trajectory) -> int:
    """The budget's limit of rounds, or a smaller one by the complexity of the goals if `Brief.estimate` is set."""
    brief = trajectory.brief
    if not brief.estimate or not trajectory.goals:
        return brief.budget.rounds
    return min(brief.budget.rounds, rounds_for(of_goals(brief, trajectory.goals)))


def spent(trajectory: Trajectory, images: int = 0, evaluations: int = 0) -> Stop | None:
    """Which limit of the budget is reached, or would be exceeded by a round of so many images and evaluations; None if
    the budget has room."""
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
        spent_so_far = f"{cost.evaluations} of {budget.evaluations} evaluations are spent"
        return f"budget: {spent_so_far} and the next round costs {evaluations}"
    if budget.seconds is not None and cost.wall >= budget.seconds:
        return f"budget: {cost.wall:.1f} s of {budget.seconds:g} s are spent"
    if budget.vlm_tokens is not None and cost.vlm_tokens >= budget.vlm_tokens:
        return f"budget: {cost.vlm_tokens} of {budget.vlm_tokens} tokens of the vision model are spent"
    return None
