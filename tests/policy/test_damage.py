"""Damage of an edit: the worst of its measures, each against its usual limit."""

from __future__ import annotations

import pytest

from clvr_core.policy.damage import BLURRED, GROWN, MOVED, NOISY, REPAINTED, TINTED, damage
from clvr_core.trajectory import Change

AT_THE_LIMIT = [
    Change(outside=REPAINTED),
    Change(offset=(0.6 * MOVED, -0.8 * MOVED)),
    Change(scale=1 - GROWN),
    Change(colour=(0.0, TINTED, 0.0)),
    Change(sharpness=1 + BLURRED),
    Change(noise=-NOISY),
]


@pytest.mark.parametrize("change", AT_THE_LIMIT)
def test_each_measure_is_one_at_its_limit(change):
    assert damage(change) == pytest.approx(1)


@pytest.mark.parametrize("change", [None, Change(), Change(strength=200.0, uneven=50.0, meant=((0.0, 0.0, 1.0, 1.0),))])
def test_what_is_not_measured_or_was_meant_is_no_damage(change):
    assert damage(change) == 0


def test_the_worst_counts():
    assert damage(Change(outside=3 * REPAINTED, noise=NOISY, offset=(MOVED, 0.0))) == pytest.approx(3)
