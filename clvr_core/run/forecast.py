"""What a run will cost, estimated from earlier runs before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..brief import Brief
from ..policy import policy_for
from ..trajectory import Step, Trajectory


@dataclass(frozen=True, slots=True)
class Forecast:
    """Upper bounds for a run.

    rounds: that draw.
    candidates: pictures of a round.
    calls: of the vision-language model, in all.
    seconds: wall time in all; None without a comparable earlier run.
    runs: how many earlier runs the estimate is made from.
    """

    rounds: int
    candidates: int
    calls: int
    seconds: float | None = None
    runs: int = 0


def forecast(brief: Brief, earlier: Iterable[Trajectory]) -> Forecast:
    """Take medians over the earlier runs (newest first) that have the brief's strategy and canvas size and the models
    of the newest such run. Without one, the calls are those that the strategy declares.

    Runs of earlier versions that nodes of the artist's own drew have no time of drawing, and are left out."""
    from statistics import median  # it brings fractions and decimals, without which the pack loads

    policy = policy_for(brief)
    rounds = brief.budget.rounds if policy.loops else 1
    candidates = policy.candidates(Trajectory(brief))
    alike = [run for run in earlier if _alike(run, brief)]
    used = [
        run for run in alike if run.models == alike[0].models and _drawing_steps(run) and run.cost.seconds.get("draw")
    ]
    if not used:
        return Forecast(rounds, candidates, rounds * (policy.calls + candidates - 1))
    pictures = rounds * candidates
    seconds = median(run.cost.wall / sum(len(step.candidates) for step in run.steps) for run in used)
    calls = median(run.cost.vlm_calls / len(_drawing_steps(run)) for run in used)
    return Forecast(rounds, candidates, round(rounds * calls), pictures * seconds, len(used))


def _alike(run: Trajectory, brief: Brief) -> bool:
    return (run.brief.strategy, run.brief.width, run.brief.height) == (brief.strategy, brief.width, brief.height)


def _drawing_steps(run: Trajectory) -> list[Step]:
    return [step for step in run.steps if step.candidates]
