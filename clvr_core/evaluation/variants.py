"""Variants of a loop as arms of their own: `clvr+trace`, `director+no-rollback`. A strategy, then options with a plus."""

from __future__ import annotations

from typing import Any

from ..brief import CONDITIONINGS
from ..errors import BadInput
from ..policy import LOOPS

OPTIONS: dict[str, dict[str, Any]] = {
    **{mode: {"conditioning": mode} for mode in CONDITIONINGS if mode != "proxy"},
    "guided": {"guided": True},
    "conversation": {"conversation": True},
    "no-rollback": {"rollback": False},
    "no-grid": {"candidates": 1},
}
"""Option -> fields of the brief. no-grid: one candidate a round in place of a micro-grid."""


def base_of(arm: str) -> str:
    """The arm that this one is a variant of; itself if it is none."""
    return arm.partition("+")[0]


def options_of(arm: str) -> dict[str, Any]:
    """The fields of the brief that the arm changes. Raises BadInput for an unknown option, and for an option of an arm
    that is no loop."""
    base, *names = arm.split("+")
    if names and base not in LOOPS:
        raise BadInput(f"arm {arm!r:.60}: {base} takes no options; only {', '.join(LOOPS)} do")
    fields: dict[str, Any] = {}
    for name in names:
        if name not in OPTIONS:
            raise BadInput(f"arm {arm!r:.60}: unknown option {name!r:.20}; the options are {', '.join(OPTIONS)}")
        fields |= OPTIONS[name]
    return fields
