"""Measure Drift: what it keeps, and who reads it."""

from __future__ import annotations

import pytest
from clvr_pack.nodes.host.calibrations import calibration_file, calibration_name
from clvr_pack.nodes.host.sockets import ExecutorHandle
from clvr_pack.nodes.loop.inputs import brief_of

from clvr_core.run.calibration import Calibration, read_calibration
from tests.evaluation.test_drift import SIDE, WithVae
from tests.nodes.graph import Graph


def measured(levels: float):
    handle = ExecutorHandle(WithVae(levels), SIDE, SIDE, lambda text: None, weights=f"w{levels}")
    return handle, Graph({"1": {"class_type": "CLVR_MeasureDrift", "inputs": {"executor": handle, "seed": 3}}}).run("1")


@pytest.mark.usefixtures("host")
def test_what_it_finds_is_the_default_of_the_next_brief():
    handle, (curve, depth, tolerance, report) = measured(3.0)
    assert tuple(curve.shape) == (1, 540, 960, 3) and f"depth to use: {depth}" in report
    assert read_calibration(calibration_file(), calibration_name(handle)) == Calibration(tolerance, depth)
    budget = brief_of("any", handle).budget
    assert (budget.depth, budget.tolerance) == (depth, tolerance)
    own = brief_of("any", handle, depth=2, tolerance=0.0).budget
    assert (own.depth, own.tolerance) == (2, None)


@pytest.mark.usefixtures("host")
def test_another_executor_keeps_the_usual_limits():
    handle, _ = measured(3.0)
    other = ExecutorHandle(handle.executor, SIDE, SIDE, lambda text: None, weights="others")
    assert (brief_of("any", other).budget.depth, brief_of("any", other).budget.tolerance) == (3, 1.0)
