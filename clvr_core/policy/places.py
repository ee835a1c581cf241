"""Where witnesses have found a fault, the next edit is confined to that place. Pure."""

from __future__ import annotations

from dataclasses import replace

from ..brief import Box, around
from ..trajectory import Action, Trajectory

GROWTH = 0.15
"""Share of its sides by which a place is larger than the fault in it, on each side: the right word may be longer."""


def within_faults(trajectory: Trajectory, action: Action) -> Action:
    """Return the action, and give an edit of the current canvas a region around the faults of the goals that it serves.

    Left as it is if it has a region, if one of its goals has no such place, and if an edit of these goals in a region has
    failed on this canvas already.
    """
    held = trajectory.current_step
    if held is None or action.kind != "EDIT" or action.region is not None or not action.goals:
        return action
    if action.references[:1] != (trajectory.current,):
        return action
    verdicts = map(held.verdict, action.goals)
    faults = [None if verdict is None else verdict.fault for verdict in verdicts]
    places = [fault for fault in faults if fault is not None]
    region = around(places) if len(places) == len(faults) else None
    tried = (step.action for step in trajectory.failed if step.parent == trajectory.current)
    if region is None or any(each.region and {*each.goals} == {*action.goals} for each in tried):
        return action
    return replace(action, region=_grown(region))


def _grown(box: Box) -> Box:
    left, top, right, bottom = box
    wide, high = GROWTH * (right - left), GROWTH * (bottom - top)
    edges = max(left - wide, 0.0), max(top - high, 0.0), min(right + wide, 1.0), min(bottom + high, 1.0)
    left, top, right, bottom = (round(edge, 4) for edge in edges)
    return left, top, right, bottom
