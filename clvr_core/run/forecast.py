"""What a run is going to cost, told from earlier ones: before it is begun."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from ..brief import Brief
from ..policy import policy_for
from ..trajectory import Trajectory

CALLS = {"clvr": 3, "director": 2, "strokes": 4, "oneshot": 1, "best-of-n": 1}
"""Calls of the vision-language model in a round of one picture, where no earlier run tells: to decide, to inspect the text (strokes), to
judge the goals, to check the edit."""
ALONE = ("oneshot", "best-of-n")


@dataclass(frozen=True, slots=True)
class Forecast:
    """At most so much. `seconds` None: no earlier run tells. `runs`: how many told."""

    rounds: int
    candidates: int
    calls: int
    seconds: float | None = None
    runs: int = 0


def forecast(brief: Brief, earlier: Iterable[Trajectory]) -> Forecast:
    """Medians over earlier runs of the same strategy, size of canvas and models as the newest of them; newest first."""
    rounds = 1 if brief.strategy in ALONE else brief.budget.rounds
    candidates = policy_for(brief).candidates(Trajectory(brief))
    told = [run for run in earlier if _alike(run, brief)]
    told = [run for run in told if run.models == told[0].models and _drawn(run)]
    if not told:
        return Forecast(rounds, candidates, rounds * (CALLS[brief.strategy] + candidates - 1))
    pictures = rounds * candidates
    seconds = median(run.cost.wall / sum(len(step.candidates) for step in run.steps) for run in told)
    calls = median(run.cost.vlm_calls / len(_drawn(run)) for run in told)
    return Forecast(rounds, candidates, round(rounds * calls), pictures * seconds, len(told))


def _alike(run: Trajectory, brief: Brief) -> bool:
    return (run.brief.strategy, run.brief.width, run.brief.height) == (brief.strategy, brief.width, brief.height)


def _drawn(run: Trajectory) -> list:
    return [step for step in run.steps if step.candidates]
