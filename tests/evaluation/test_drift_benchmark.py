"""benchmarks/drift.py with an executor that draws what it is told: every turn is right, and what is worn is told so."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import drift
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.scene import CANVAS, CELLS, NATURAL, Scene, Thing
from tests.stickers import oracle

KINDS: dict[tuple[int, ...], Thing] = {}
"""Ink -> the thing that it stands for."""
PAPER, SIDES = (240, 240, 240), {"small": 28, "large": 40}


def painted(scene: Scene) -> np.ndarray:
    """A square of its own ink for each thing, so that what is put back beside it leaves it as it was."""
    picture = np.full((CANVAS, CANVAS, 3), PAPER, np.uint8)
    for thing in scene.things:
        kind = replace(thing, cell=0, dx=0, dy=0)
        ink = tuple(hashlib.sha256(repr(kind).encode()).digest()[:3])
        (x, y), half = Thing("cat", NATURAL, "small", thing.cell).center, SIDES[thing.size] // 2
        picture[y - half : y + half, x - half : x + half] = ink
        KINDS[ink] = kind
    return picture


def perceive(picture: np.ndarray) -> Perception:
    things, unclear = [], []
    for cell in CELLS:
        x, y = Thing("cat", NATURAL, "small", cell).center
        ink = tuple(picture[y, x].tolist())
        if ink in KINDS:
            things.append(replace(KINDS[ink], cell=cell))
        elif ink != PAPER:
            unclear.append(cell)
    return Perception(tuple(things), "plain", tuple(unclear))


@pytest.fixture(scope="module", autouse=True)
def seen():
    """Neither art nor a reader is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift, "random_backdrop", lambda rng: "plain")
        patch.setattr(drift, "render", painted)
        patch.setattr(drift, "perceive", perceive)
        patch.setattr(oracle, "picture_of", painted)
        patch.setattr(oracle, "perceive", perceive)
        yield


class Exact(oracle.OracleExecutor):
    window = None

    def tokens(self, prompt: str) -> int:
        return 1


@pytest.fixture(scope="module")
def plans():
    return [drift.plan_of(0, number) for number in range(2)]


def test_a_session_has_ten_turns_that_leave_three_cells_alone(plans):
    for plan in plans:
        assert len(plan.edits) == drift.TURNS and len(set(CELLS) - plan.touched(drift.TURNS)) >= 3
        assert all(before != after for before, after in zip(plan.scenes, plan.scenes[1:]))
        assert drift.plan_of(0, plan.number) == plan != drift.plan_of(1, plan.number)


@pytest.mark.parametrize("arm", ["plain", "all", "all without depth"])
def test_with_an_exact_executor_every_turn_is_right_and_the_rest_is_as_it_was(plans, arm):
    chosen = drift.arms_of(3, 1.0, 3)[arm]
    executor = drift.Worn(Exact(), 0.0)
    ends = (
        drift.recursive(chosen, plans, executor, 0.0, 0)
        if chosen.pictures
        else drift.closed(chosen, plans, executor, 3, 0.0, 0)
    )
    result = drift.summary({arm: [drift.measured(plan, end) for plan, end in zip(plans, ends)]})[arm]
    assert set(result["all_right"].values()) == {1.0} and set(result["every_turn"].values()) == {1.0}
    assert result["evaluations"] == 80, "one edit a turn"


def test_artificial_drift_is_seen_in_the_cells_that_no_turn_spoke_of(plans):
    ends = drift.recursive(drift.Arm(pictures=1), plans, drift.Worn(Exact(), 1.0), 0.0, 0)
    worn = drift.summary({"plain": [drift.measured(plan, end) for plan, end in zip(plans, ends)]})["plain"]
    assert worn["psnr"]["10"] < 40


def test_shares_have_intervals_and_ratios_are_paired():
    low, high = drift.wilson(9, 10)
    assert low < 0.9 < high and drift.decibels(0.0) == drift.EQUAL and drift.decibels(255.0**2) == 0.0
    one, none = drift.np.ones(8), drift.np.zeros(8)
    assert drift.times(one, one) == {"ratio": 1.0, "ci": [1.0, 1.0]}
    assert drift.times(one, none)["ratio"] is None and drift.times(none, none)["ratio"] == 1.0
