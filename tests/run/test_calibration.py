"""The limits of a budget by what was measured of the executor."""

from __future__ import annotations

import pytest

from clvr_core.brief import Budget
from clvr_core.errors import BadInput
from clvr_core.run.calibration import Calibration, read_calibration, write_calibration


def test_an_executor_that_was_not_measured_has_the_usual_limits(tmp_path):
    assert read_calibration(tmp_path / "drift.json", "any") == Calibration(1.0, 3)


def test_what_is_written_is_read_and_leaves_the_others(tmp_path):
    file = tmp_path / "new" / "drift.json"
    write_calibration(file, "one", Calibration(2.5, 4))
    write_calibration(file, "other", Calibration(1.0, 2))
    assert read_calibration(file, "one") == Calibration(2.5, 4)
    assert read_calibration(file, "other") == Calibration(1.0, 2)


@pytest.mark.parametrize(
    ("tolerance", "depth", "found"),
    [(1.0, None, (2.5, 4)), (2.0, None, (5.0, 4)), (0, None, (None, 4)), (1.0, 0, (2.5, None)), (1.0, 7, (2.5, 7))],
)
def test_a_tolerance_is_a_multiple_of_what_the_executor_does_at_its_best(tolerance, depth, found):
    budget = Calibration(2.5, 4).budget(Budget(rounds=5), tolerance, depth)
    assert (budget.tolerance, budget.depth, budget.rounds) == (*found, 5)


def test_a_tolerance_stays_in_its_range():
    assert Calibration(90.0).budget(Budget(), 90.0, None).tolerance == 100.0


@pytest.mark.parametrize(("tolerance", "depth"), [(-1.0, None), (1.0, -2)])
def test_a_limit_below_zero_is_refused(tolerance, depth):
    with pytest.raises(BadInput, match="below 0"):
        Calibration().budget(Budget(), tolerance, depth)


@pytest.mark.parametrize("text", ["{", "[]", '{"any": {"depth": "three"}}', '{"any": 3}', "[" * 100_000])
def test_a_damaged_file_is_named(tmp_path, text):
    file = tmp_path / "drift.json"
    file.write_text(text)
    with pytest.raises(BadInput, match=r"drift\.json cannot be read"):
        read_calibration(file, "any")
