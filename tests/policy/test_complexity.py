"""What follows from how much is asked for, where the brief wants that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.policy import policy_for, rules
from clvr_core.policy.complexity import HALF, complexity, of_goals, one_shot_chance, rounds_for
from clvr_core.records import to_json
from clvr_core.run.session import RunModels, Session, drive
from tests.fakes import trajectory
from tests.stickers.oracle import SIZE, OracleExecutor, load_vlm

FEW, MANY = (tuple(Goal(f"g{n}", f"a thing {n}") for n in range(count)) for count in (2, 30))
BRIEF = Brief("a brief of a few words", "director")


def test_more_of_anything_is_more_complex_and_less_likely_in_one_shot():
    base = (3, 2, 10, 1, 1)
    for place in range(5):
        more = tuple(value + (at == place) for at, value in enumerate(base))
        assert complexity(*more) > complexity(*base)
    assert one_shot_chance(HALF) == pytest.approx(0.5) and one_shot_chance(20) > 0.85 > 0.15 > one_shot_chance(
        70
    ) > one_shot_chance(10_000)


def test_the_gate_takes_goals_without_an_estimate_of_their_own_for_certain_unless_complexity_is_asked():
    asks = replace(BRIEF, estimate=True)
    gates = {
        (brief.estimate, len(goals)): policy_for(brief).plan(brief, goals).route
        for brief in (BRIEF, asks)
        for goals in (FEW, MANY)
    }
    assert (gates[False, 30], gates[True, 30], gates[True, 2]) == ("one shot", "staged", "one shot")


def test_it_never_opens_a_gate_that_the_goals_keep_shut():
    unlikely = tuple(replace(goal, feasibility=0.1) for goal in FEW)
    assert policy_for(BRIEF).plan(replace(BRIEF, estimate=True), unlikely).route == "staged"


def test_rounds_grow_with_complexity_and_never_above_the_budget():
    def limit(goals, estimate=True, rounds=50):
        return rules.round_limit(
            trajectory(goals=goals, brief=replace(BRIEF, estimate=estimate, budget=Budget(rounds)))
        )

    assert limit(FEW) == rounds_for(of_goals(BRIEF, FEW)) < limit(MANY) < 50
    assert limit(MANY, estimate=False) == 50 and limit(MANY, rounds=3) == 3 and limit(()) == 50


def test_a_run_that_does_not_ask_for_it_is_told_as_before():
    assert "estimate" not in to_json(BRIEF) and to_json(replace(BRIEF, estimate=True))["estimate"] is True


def test_a_loop_ends_at_the_rounds_that_its_goals_are_granted():
    brief = Brief("a red cat", "strokes", seed=1, **SIZE, budget=Budget(40, patience=40), estimate=True)
    # A hand that always errs: only the limit can end it.
    run = drive(Session(brief, RunModels(load_vlm(), OracleExecutor(fault=1.0))))
    granted = rounds_for(of_goals(brief, run.goals))
    assert run.outcome.reason == f"budget: {granted} rounds are spent" or run.outcome.met
    assert sum(step.action.draws for step in run.steps) <= granted < 40
