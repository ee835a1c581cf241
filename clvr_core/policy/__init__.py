"""The strategies: what to do next, given the verdicts so far. Pure: no tensor, no file, no clock."""

from __future__ import annotations

from ..brief import Brief
from .base import Directive, Policy, StrategyPlan
from .clvr import Clvr
from .controls import BestOfN, OneShot
from .director import Director
from .strokes import Strokes

__all__ = ["BASELINES", "LOOPS", "POLICIES", "Directive", "Policy", "StrategyPlan", "policy_for", "strategies_text"]

POLICIES: dict[str, Policy] = {policy.name: policy for policy in (Clvr(), Director(), Strokes(), OneShot(), BestOfN())}
"""By name, in the order in which a widget lists them. `brief.Strategy` has the same names."""
LOOPS = tuple(name for name, policy in POLICIES.items() if policy.loops)
BASELINES = tuple(name for name, policy in POLICIES.items() if not policy.loops)


def strategies_text() -> str:
    """What each strategy does, for the tooltip of the widget that chooses one."""
    loops = [f"{name}: {POLICIES[name].hint}." for name in LOOPS]
    return f"{' '.join(loops)} {' and '.join(BASELINES)}: {POLICIES[BASELINES[0]].hint}."


def policy_for(brief: Brief) -> Policy:
    return POLICIES[brief.strategy]
