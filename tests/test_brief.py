"""What a brief may be, what it costs at most, and the split of its seed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from clvr_core.brief import MAX_PROMPT, STRATEGIES, Brief, Budget, Goal
from clvr_core.errors import BadInput
from clvr_core.trajectory import Cost, seed_for, timeless
from tests.fakes import step, trajectory


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": ""}, "the brief is empty"),
        ({"prompt": " \n\t"}, "the brief is empty"),
        ({"prompt": "x" * (MAX_PROMPT + 1)}, "20,001 characters; at most 20,000"),
        ({"strategy": "hope"}, f"unknown strategy 'hope'; choose one of {', '.join(STRATEGIES)}"),
        ({"conditioning": "all"}, "unknown conditioning 'all'; choose one of proxy, instruction, summary, trace"),
        ({"candidates": 0}, "candidates is 0"),
        ({"candidates": 65}, "candidates is 65"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"width": 0}, "0 x 192"),
        ({"height": -8}, "192 x -8"),
        ({"width": 8193}, "8193 x 192; both must be between 1 and 8,192 pixels"),
        ({"height": 10**9}, "192 x 1000000000"),
        ({"goals": (Goal("g1", "a"), Goal("g2", "b"), Goal("g1", "c"))}, "two goals have the id 'g1'"),
    ],
)
def test_a_brief_that_cannot_be_run_is_refused_with_the_value_found(fields, said):
    with pytest.raises(BadInput, match=said):
        Brief(**{"prompt": "a cat", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "x" * MAX_PROMPT},
        {"prompt": "\u732b"},
        {"candidates": 1},
        {"candidates": 64},
        {"seed": 2**63 - 1},
        {"width": 1},
    ],
    ids=str,
)
def test_the_limits_themselves_are_allowed(fields):
    Brief(**{"prompt": "a cat", **fields})


@pytest.mark.parametrize("name", ["rounds", "images", "evaluations", "seconds", "vlm_tokens", "patience"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_budget_is_above_nothing_and_finite(name, value):
    with pytest.raises(BadInput, match=f"budget: {name} is {value}"):
        Budget(**{name: value})


def test_a_brief_and_its_goals_are_frozen():
    for frozen, field in ((Brief("a cat"), "prompt"), (Budget(), "rounds"), (Goal("g1", "a cat"), "text")):
        with pytest.raises(FrozenInstanceError):
            setattr(frozen, field, None)


class TestSeeds:
    def test_the_split_is_the_documented_one_and_stays_it(self):
        # printf clvr/7/2/1 | sha256sum, the first 63 bits. A change here makes other pictures of every run that was ever recorded.
        assert seed_for(7, 2, 1) == 8668140197684119931

    def test_run_step_and_candidate_each_give_another_seed(self):
        drawn = {seed_for(run, at, candidate) for run in range(12) for at in range(12) for candidate in range(12)}
        assert len(drawn) == 12**3 and all(0 <= seed < 2**63 for seed in drawn)


class TestCost:
    def test_it_adds_up_part_by_part(self):
        assert Cost({"draw": 1.0}, 1, 2, 3, 4) + Cost({"draw": 2.0, "judge": 0.5}, 10, 20, 30, 40) == Cost(
            {"draw": 3.0, "judge": 0.5}, 11, 22, 33, 44
        )

    def test_a_run_costs_its_steps_and_what_was_spent_beside_them(self):
        run = trajectory(
            *(replace(step("EDIT", index), cost=Cost({"draw": 1.0}, images=1)) for index in range(3)),
            overhead=Cost({"think": 2.0}),
        )
        assert run.cost == Cost({"think": 2.0, "draw": 3.0}, images=3) and run.cost.wall == 5.0

    def test_what_is_written_into_pictures_knows_no_time(self):
        run = trajectory(replace(step("EDIT", 0), cost=Cost({"draw": 1.0}, 5)), overhead=Cost({"think": 2.0}, 7))
        assert timeless(run).cost == Cost(vlm_tokens=12)


class TestTheTreeOfSteps:
    run = trajectory(
        step("GENERATE", 0),
        step("EDIT", 1, parent=0, accepted=False),
        step("END", parent=0, accepted=False),
        step("EDIT", 2, parent=0),
    )

    def test_a_rolled_back_branch_stays(self):
        assert [failed.chosen for failed in self.run.failed] == [1]
        assert (self.run.current, self.run.best, self.run.canvases) == (2, 2, 3)

    def test_canvases_and_steps_find_each_other(self):
        assert self.run.step_of(1).index == 1 and self.run.current_step.index == 3
        assert self.run.step_of(None) is None and self.run.step_of(9) is None
        assert self.run.candidate(2).file == "canvas-002.png"
        with pytest.raises(KeyError):
            self.run.candidate(9)
        with pytest.raises(KeyError):
            self.run.goal("g9")
