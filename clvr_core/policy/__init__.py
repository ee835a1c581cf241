"""The strategies: what to do next, given what was judged. Pure: no tensor, no file, no clock."""

from __future__ import annotations

from ..brief import Brief
from .base import Directive, Policy, StrategyPlan
from .clvr import Clvr
from .controls import BestOfN, OneShot
from .director import Director
from .strokes import Strokes

__all__ = ["Directive", "Policy", "StrategyPlan", "policy_for"]

POLICIES: dict[str, Policy] = {policy.name: policy for policy in (Clvr(), Director(), Strokes(), OneShot(), BestOfN())}


def policy_for(brief: Brief) -> Policy:
    return POLICIES[brief.strategy]
