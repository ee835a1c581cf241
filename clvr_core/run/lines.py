"""The lines of a journal: which of them stand after rewinds, what a decision's line holds, and the trajectory that the
lines add up to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..brief import Brief, Goal
from ..records import from_json, to_json
from ..text import shown
from ..trajectory import Cost, Outcome, Remark, Route, Step, Trajectory, with_codes

REWIND = "rewind"
"""Event of a line that takes back the lines that a run with a larger budget would not have written."""


DECISIONS: dict[str, tuple[str, ...]] = {
    "planned": ("goals", "plan", "gate", "route"),
    "step": ("steps", "current", "best", "goals"),
    "remarked": ("goals", "remarks", "steps", "current", "best"),
    "end": ("steps", "current", "best", "outcome"),
}
"""By event of a decision: the fields of the trajectory that its line carries, beside warnings and overhead. A step has
goals only if it changed them."""


def standing(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], set[int]]:
    """Return the lines that no later rewind took back, and the canvases that only the other lines name.

    Raises ValueError for a rewind that keeps more lines than there are.
    """
    stand: list[dict[str, Any]] = []
    gone: set[int] = set()
    for number, line in enumerate(lines, 1):
        if line["event"] != REWIND:
            stand.append(line)
            continue
        keep = line.get("keep")
        if not isinstance(keep, int) or not 1 <= keep <= len(stand):
            raise ValueError(f"line {number} keeps {shown(keep, 40)} of {len(stand)} lines")
        gone |= canvases_of(stand[keep:])
        del stand[keep:]
        if "budget" in line and isinstance(brief := stand[0].get("brief"), dict):
            stand[0] = {**stand[0], "brief": {**brief, "budget": line["budget"]}}
    return stand, gone - canvases_of(stand)


def canvases_of(lines: list[dict[str, Any]]) -> set[int]:
    """The canvases that the lines name as given or drawn. Fields of an unexpected type are skipped."""
    given = {
        0
        for line in lines
        if line["event"] == "start" and isinstance(line.get("brief"), dict) and line["brief"].get("picture")
    }
    drawn = (
        line["result"].get("candidates")
        for line in lines
        if line["event"] in ("drawn", "repaired") and isinstance(line.get("result"), dict)
    )
    listed = (
        candidate.get("canvas")
        for each in drawn
        if isinstance(each, list)
        for candidate in each
        if isinstance(candidate, dict)
    )
    return given | {canvas for canvas in listed if isinstance(canvas, int) and canvas >= 0}


def decision_line(event: str, before: Trajectory, after: Trajectory) -> dict[str, Any]:
    """The line of a decision that led from `before` to `after`: what is new or changed, so that `trajectory_from` finds
    `after` again."""
    line: dict[str, Any] = {"event": event, "warnings": list(after.warnings), "overhead": to_json(after.overhead)}
    known = {step.index: step for step in before.steps}
    for name in DECISIONS[event]:
        value = getattr(after, name)
        if (event, name) == ("step", "goals") and value == before.goals:
            continue
        if name == "steps":
            value = [step for step in after.steps if known.get(step.index) is not step]
        line[name] = to_json(value)
    return line


@dataclass(frozen=True, slots=True)
class DecisionLine:
    """A decision's line as `decision_line` wrote it; a field that its event does not have is at its default."""

    goals: tuple[Goal, ...] = ()
    plan: tuple[tuple[str, ...], ...] = ()
    gate: str = ""
    route: Route = ""
    steps: tuple[Step, ...] = ()
    current: int | None = None
    best: int | None = None
    outcome: Outcome | None = None
    overhead: Cost = field(default_factory=Cost)
    warnings: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()


def trajectory_from(lines: list[dict[str, Any]]) -> Trajectory:
    """The trajectory as far as the lines tell it. Raises ValueError naming the line and the field that cannot be
    read."""
    first = lines[0]
    brief = from_json(Brief, first.get("brief"), "line 1: brief")
    trajectory = Trajectory(brief, models=first.get("models", {}), prompts=first.get("prompts", {}))
    steps: dict[int, Step] = {}  # in the order of the lines that brought them
    for number, line in enumerate(lines[1:], 2):
        if line["event"] not in DECISIONS:
            continue
        read = from_json(DecisionLine, line, f"line {number}")
        trajectory = replace(trajectory, overhead=read.overhead, warnings=read.warnings)
        if line["event"] == "planned":
            trajectory = replace(trajectory, goals=read.goals, plan=read.plan, gate=read.gate, route=read.route)
        else:
            steps |= {step.index: step for step in read.steps}
            trajectory = replace(trajectory, current=read.current, best=read.best, outcome=read.outcome)
        if line["event"] == "remarked":
            trajectory = replace(trajectory, goals=read.goals, remarks=read.remarks)
        if line["event"] == "step" and "goals" in line:
            trajectory = replace(trajectory, goals=read.goals)
    return with_codes(replace(trajectory, steps=tuple(steps.values())))
