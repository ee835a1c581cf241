"""Variants of a loop as arms of their own: `clvr+trace`, `director+no-rollback`. A strategy, then options with a plus. Without
options a loop is as the command line runs it: guided."""

from __future__ import annotations

from typing import Any

from ..brief import CONDITIONINGS
from ..errors import BadInput
from ..policy import LOOPS, Policy
from ..policy.strokes import Strokes

OPTIONS: dict[str, dict[str, Any]] = {
    **{mode: {"conditioning": mode} for mode in CONDITIONINGS if mode != "proxy"},
    "guided": {"guided": True},
    "unguided": {"guided": False},
    "conversation": {"conversation": True},
    "no-rollback": {"rollback": False},
    "no-grid": {"candidates": 1},
}
"""Option -> fields of the brief. guided: as without it, but in folders that were begun before loops were guided. no-grid:
one candidate a round in place of a micro-grid."""

STROKES: dict[str, tuple[dict[str, bool], dict[str, Any]]] = {
    "planner-only": ({"text": False, "picture": False}, {"rollback": False}),
    "inspector-only": ({"subscenes": False}, {}),
    "text-only": ({"picture": False}, {"rollback": False}),
    "additions": ({"text": False, "picture": False}, {}),
    "varied": ({"text": False}, {}),
}
"""Option of `strokes` alone -> fields of the policy and of the brief: the ablations of Think in Strokes (arXiv 2604.04746).

planner-only: sub-scenes, nothing is inspected and nothing rolled back. inspector-only: one shot, then corrections.
text-only: instructions are inspected, pictures are not. additions: each sub-scene once, rolled back if it cost a goal.
varied: corrections of what is seen too; `strokes` itself adds the inspection of the instructions, the critique. The paper
varies the data that its model learns from in the last three, these vary what the loop does.
"""


def base_of(arm: str) -> str:
    """The arm that this one is a variant of; itself if it is none."""
    return arm.partition("+")[0]


def options_of(arm: str, guided: bool = True) -> dict[str, Any]:
    """The fields of the brief that the arm sets.

    guided: whether a loop without options is.

    Raises BadInput for an unknown option, and for an option of an arm that is no loop.
    """
    base, *names = arm.split("+")
    if names and base not in LOOPS:
        raise BadInput(f"arm {arm!r:.60}: {base} takes no options; only {', '.join(LOOPS)} do")
    known = OPTIONS | {name: fields for name, (_, fields) in STROKES.items() if base == Strokes.name}
    fields: dict[str, Any] = {"guided": guided} if base in LOOPS else {}
    for name in names:
        if name not in known:
            raise BadInput(f"arm {arm!r:.60}: unknown option {name!r:.20}; the options are {', '.join(known)}")
        fields |= known[name]
    return fields


def policy_of(arm: str) -> Policy | None:
    """The policy that the arm runs in place of its strategy's own; None for that one. Raises BadInput as `options_of`."""
    options_of(arm)
    given: dict[str, bool] = {}
    for name in arm.split("+")[1:]:
        given |= STROKES[name][0] if name in STROKES else {}
    return Strokes(**given) if given else None
