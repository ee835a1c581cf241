"""Recognises an action that was tried and rolled back, although it comes in other words. Pure functions."""

from __future__ import annotations

import re

from ..brief import Box
from ..trajectory import Action, Step, Trajectory
from . import rules
from .states import smaller_share

SAME_REGION = 0.7
"""Share of the smaller of two regions that the other covers, from which they are the same place."""
FILLER = frozenset(
    "a an the please so that it its is are be of to with in on at now very just should must there this these into "
    "picture image canvas".split()
)
"""Words in which two instructions may differ and ask for the same."""
KEEPS = re.compile(r"(?:keep|leave|preserve|retain|maintain|do not change|don.t change|everything else|nothing else)\b")
CLAUSES = re.compile(r"[.;:,!?\n]+|\b(?:and|then)\b", re.IGNORECASE)
WORD = re.compile(r"[^\W_]+")


def repeated(trajectory: Trajectory, action: Action) -> Step | None:
    """The step that tried an equivalent of this action and was rolled back; None if there is none.

    A step that was not judged tells nothing of its action and does not count, nor does one from before the artist last
    changed the course.
    """
    if not action.draws:
        return None
    steered = max((remark.after for remark in trajectory.remarks if remark.steers), default=-1)
    failed = (step for step in reversed(trajectory.failed) if step.index > steered and step.ruling != "not judged")
    return next((step for step in failed if equivalent(action, step.action)), None)


def equivalent(one: Action, other: Action) -> bool:
    """Whether two actions ask for the same: kind, target, region and goals are the same, and so are the words, but for
    the order of clauses, filler, and what is to stay."""
    if one.kind != other.kind or one.references != other.references or one.strength != other.strength:
        return False
    share = bool(set(one.goals) & set(other.goals)) or not one.goals or not other.goals
    return share and _same_region(one.region, other.region) and wording(one) == wording(other)


def wording(action: Action) -> frozenset[tuple[str, ...]]:
    """What the action asks for: each clause as its words in order, without filler, and no clause on what stays."""
    text = action.edit_prompt if action.kind == "EDIT" else action.scene_prompt
    clauses = (clause.strip().lower() for clause in CLAUSES.split(text))
    said = (WORD.findall(clause) for clause in clauses if not KEEPS.match(clause))
    told = (tuple(word for word in words if word not in FILLER) for words in said)
    return frozenset(words for words in told if words)


def another_way(trajectory: Trajectory, action: Action, redraws: bool = True) -> Action:
    """What to do in place of an action that failed before: draw the brief's own words, edit for one open goal after the
    other in its own words, and at last END, which asks the final gate.

    redraws: whether the strategy draws a scene anew.
    """
    why = "What I would do was tried and rolled back, so I try another way."
    ways = []
    if redraws and not trajectory.brief.picture:
        wanted = tuple(goal.id for goal in rules.wanted(trajectory.goals))
        ways.append(Action("GENERATE", why, trajectory.brief.prompt, goals=wanted))
    if (current := trajectory.current) is not None:
        for goal in rules.open_goals(trajectory, trajectory.current_step):
            asked = f"Change the picture so that it shows: {trajectory.goal(goal).text}."
            words = f"{asked} Keep everything else exactly as it is."
            ways.append(Action("EDIT", why, edit_prompt=words, references=(current,), goals=(goal,)))
    untried = (way for way in ways if repeated(trajectory, way) is None)
    return next(untried, Action("END", "All that I know was tried and rolled back.", goals=action.goals))


def _same_region(one: Box | None, other: Box | None) -> bool:
    if one is None or other is None:
        return one is other
    return smaller_share(one, other) >= SAME_REGION
