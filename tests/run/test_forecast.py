from __future__ import annotations

from dataclasses import replace

import pytest

from clvr_core.brief import SIDE, STRATEGIES, Brief, Budget
from clvr_core.run.forecast import Forecast, forecast
from clvr_core.trajectory import Cost
from tests.fakes import step, trajectory


def run(seconds: float, calls: int, rounds: int = 2, strategy: str = "clvr", models=None, width: int = SIDE):
    steps = [
        replace(step(canvas=number), cost=Cost({"draw": seconds / rounds}, vlm_calls=calls // rounds, images=1))
        for number in range(rounds)
    ]
    return trajectory(*steps, brief=Brief("x", strategy, width=width), models=models or {"executor": "e"})


def test_without_earlier_runs_the_time_is_not_guessed():
    assert forecast(Brief("x", budget=Budget(rounds=5)), []) == Forecast(5, 1, 15)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_has_a_number_of_calls(strategy):
    told = forecast(Brief("x", strategy, budget=Budget(rounds=3)), [])
    assert told.calls >= 1 and (told.rounds == 1) == (strategy in ("oneshot", "best-of-n"))


def test_earlier_runs_tell_by_their_median():
    told = forecast(Brief("x", budget=Budget(rounds=6)), [run(4.0, 6), run(40.0, 6), run(2.0, 6)])
    assert told == Forecast(6, 1, 18, 12.0, 3)


def test_a_grid_of_candidates_costs_as_many_pictures():
    told = forecast(Brief("x", "director", budget=Budget(rounds=2)), [run(4.0, 4, strategy="director")])
    assert told.candidates == 4 and told.seconds == pytest.approx(2 * 4 * 2.0)


def test_only_runs_of_the_same_kind_tell():
    others = [run(9.0, 6, strategy="strokes"), run(9.0, 6, width=1024)]
    assert forecast(Brief("x"), others).runs == 0
    newest = run(4.0, 6, models={"executor": "new"})
    assert forecast(Brief("x", budget=Budget(rounds=2)), [newest, run(90.0, 6), *others]).seconds == pytest.approx(4.0)


def test_a_run_that_drew_nothing_tells_nothing():
    assert forecast(Brief("x"), [trajectory(brief=Brief("x"), models={"executor": "e"})]).runs == 0
