"""The straight line of kept steps that leads to the best canvas of a run, and its words in the first person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..run.conditioning import words_of
from ..trajectory import Step, Trajectory

Kind = Literal["", "kept", "active verification", "passive verification", "comparison", "proxy prompts"]
"""What decided about a trajectory; "" in a record from before there was this code."""


class Rejected(Exception):
    """The trajectory is not used as data. The message says why, and `kind` which check failed."""

    def __init__(self, kind: Kind, why: str) -> None:
        super().__init__(f"{kind}: {why}")
        self.kind: Kind = kind


PASSIVE: Kind = "passive verification"


@dataclass(frozen=True, slots=True)
class Line:
    """A kept step, and the failed attempts from the same canvas before it."""

    step: Step
    failed: tuple[Step, ...] = ()


def line_of(trajectory: Trajectory) -> tuple[Line, ...]:
    """Return the kept steps from the last generation to the best canvas.

    Raises Rejected if there is none, if the edit verifier rejected one of the steps, or if a step refers to a canvas
    off the line.
    """
    step, steps = trajectory.best_step, []
    while step is not None:
        steps.insert(0, step)
        step = None if step.action.kind == "GENERATE" else trajectory.step_of(step.parent)
    if not steps or steps[0].action.kind != "GENERATE":
        raise Rejected(PASSIVE, "nothing was generated")
    canvases = [step.chosen for step in steps]
    for place, step in enumerate(steps):
        if step.action.kind != "EDIT":
            continue
        if step.edit.success is False:
            raise Rejected(
                PASSIVE, f"step {place + 1}: the edit verifier says that the instruction was not carried out"
            )
        if step.edit.over_edit is not None and step.edit.over_edit > 0.5:
            raise Rejected(
                PASSIVE,
                f"step {place + 1}: the edit verifier says that something else changed too ({step.edit.over_edit:.2f})",
            )
        if any(reference not in canvases[:place] for reference in step.action.references):
            raise Rejected(PASSIVE, f"step {place + 1} refers to a canvas that is not on the way to the last")
    return tuple(Line(step, _before(trajectory, step, steps)) for step in steps)


def _before(trajectory: Trajectory, step: Step, kept: list[Step]) -> tuple[Step, ...]:
    return tuple(
        failed
        for failed in trajectory.failed
        if failed.parent == step.parent and failed.index < step.index and failed not in kept
    )


def thought(line: Line) -> str:
    """Return the step in the first person: what was tried and rolled back, then what is done now."""
    tried = [
        f"I tried this: {words_of(failed.action)}. It did not hold ({failed.reason}), so I went back."
        for failed in line.failed
    ]
    now = line.step.action.summary or (
        "I lay out the scene." if line.step.action.kind == "GENERATE" else "I change what is still wrong."
    )
    return " ".join([*tried, now])


def closing(trajectory: Trajectory) -> str:
    goals = "; ".join(goal.text for goal in trajectory.goals)
    return f"I check every requirement on the last canvas: {goals}. All of them hold, so I stop here."
