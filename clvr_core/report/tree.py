"""What the steps of a run mean beside each other: their tree by parent canvas, and what each did to the goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..brief import Goal
from ..trajectory import Step, Trajectory, Verdict

DEEPEST = 8
"""Branches of branches beyond this are laid out one after another."""


@dataclass(frozen=True, slots=True)
class Node:
    """A step at its place in the file, and the branches that start from its canvases and are not the line it stands in."""

    position: int
    step: Step
    branches: tuple[tuple[Node, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """`line` leads to the canvas handed over, each step from the canvas of the one before; `branches` started from nothing as well."""

    line: tuple[Node, ...]
    branches: tuple[tuple[Node, ...], ...]


def handed_over(trajectory: Trajectory) -> int | None:
    """The canvas of the outcome; of a run without one, the best so far."""
    return trajectory.outcome.canvas if trajectory.outcome else trajectory.best


def grow(trajectory: Trajectory) -> Tree:
    """Every step stands in it once. A parent that no earlier step drew counts as none."""
    steps = trajectory.steps
    parents = _parents(steps)
    children: dict[int | None, list[int]] = {}
    for position, parent in enumerate(parents):
        children.setdefault(parent, []).append(position)
    path, ahead = set(), _owner(steps, handed_over(trajectory), len(steps))
    while ahead is not None:
        path.add(ahead)
        ahead = parents[ahead]

    def following(kids: list[int], kept: bool) -> int | None:
        for good in (lambda kid: kid in path, lambda kid: steps[kid].accepted, lambda kid: not kept):
            fitting = [kid for kid in kids if good(kid)]
            if fitting:
                return fitting[-1]
        return None

    def line(first: int, depth: int) -> tuple[Node, ...]:
        nodes, waiting = [], [first]
        while waiting:
            position = waiting.pop()
            step, kids = steps[position], children.get(position, [])
            looks = [kid for kid in kids if not steps[kid].action.draws and kid not in children]
            kids = [kid for kid in kids if kid not in looks]
            heir = following(kids, step.accepted)
            others = [kid for kid in kids if kid != heir]
            deep = depth >= DEEPEST
            nodes.append(Node(position, step, () if deep else tuple(line(kid, depth + 1) for kid in others)))
            nodes.extend(Node(kid, steps[kid]) for kid in looks)
            waiting += [] if heir is None else [heir]
            waiting += reversed(others) if deep else []
        return tuple(nodes)

    roots = children.get(None, [])
    looks = [root for root in roots if not steps[root].action.draws and root not in children]
    heir = following([root for root in roots if root not in looks], True)
    branches = tuple(line(root, 1) for root in roots if root != heir and root not in looks)
    idle = tuple(Node(root, steps[root]) for root in looks)
    return Tree((() if heir is None else line(heir, 0)) + idle, branches)


def _parents(steps: Sequence[Step]) -> list[int | None]:
    owners: dict[int, int] = {}
    parents: list[int | None] = []
    for position, step in enumerate(steps):
        parents.append(None if step.parent is None else owners.get(step.parent))
        for candidate in step.candidates:
            owners.setdefault(candidate.canvas, position)
    return parents


def _owner(steps: Sequence[Step], canvas: int | None, before: int) -> int | None:
    found = (position for position in range(before) if any(drawn.canvas == canvas for drawn in steps[position].candidates))
    return next(found, None)


def owner(trajectory: Trajectory, canvas: int | None) -> int | None:
    """The place of the step that drew this canvas, None for one that was never drawn."""
    return _owner(trajectory.steps, canvas, len(trajectory.steps))


def known(steps: Sequence[Step], canvas: int | None) -> dict[str, Verdict]:
    """The last word on each goal about this canvas, in these steps."""
    verdicts: dict[str, Verdict] = {}
    for step in steps:
        if canvas is not None and step.chosen == canvas:
            verdicts.update((verdict.goal, verdict) for verdict in step.verdicts)
    return verdicts


def changes(trajectory: Trajectory, position: int) -> tuple[frozenset[str], frozenset[str]]:
    """Goals that this step met anew and goals that it broke, against the canvas it started from. A step that draws nothing does neither."""
    step = trajectory.steps[position]
    if not step.action.draws:
        return frozenset(), frozenset()
    before, after = known(trajectory.steps[:position], step.parent), {verdict.goal: verdict.state for verdict in step.verdicts}
    met = {goal for goal, verdict in before.items() if verdict.state == "met"}
    gained = frozenset(goal for goal, state in after.items() if before and state == "met" and goal not in met)
    return gained, frozenset(goal for goal in met if after.get(goal) == "unmet")


def all_goals(trajectory: Trajectory) -> tuple[Goal, ...]:
    """The goals of the run, and after them any that only a verdict or an action names."""
    goals = list(trajectory.goals or trajectory.brief.goals)
    seen = {goal.id for goal in goals}
    for step in trajectory.steps:
        for name in (*(verdict.goal for verdict in step.verdicts), *step.action.goals):
            if name not in seen:
                seen.add(name)
                goals.append(Goal(name, ""))
    return tuple(goals)
