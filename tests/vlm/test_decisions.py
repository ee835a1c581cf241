"""What is made of the probabilities of Yes and No."""

from __future__ import annotations

import math

import pytest

from clvr_core.vlm.decisions import LEAST_MASS, weigh


@pytest.mark.parametrize(
    ("yes", "no", "weighed"),
    [
        (1.0, 0.0, 1.0),
        (0.0, 1.0, 0.0),
        (0.9, 0.06, 0.9),
        (0.06, 0.9, 0.1),
        (0.5, 0.5, 0.5),
        (0.48, 0.5, 0.5),
        (0.29, 0.01, 0.5),
        (0.01, 0.29, 0.5),
        (0.64, 0.0, 0.64),
        (0.995, 0.01, 0.99),
        (0.0, 1.005, 0.0),
    ],
)
def test_what_lies_on_other_words_lowers_the_confidence(yes, no, weighed):
    assert weigh(yes, no).yes == pytest.approx(weighed)


def test_it_never_raises_it():
    parts = [place / 40 for place in range(41)]
    for yes, no in ((yes, no) for yes in parts for no in parts if LEAST_MASS <= yes + no <= 1):
        confident, ratio = weigh(yes, no, 3), yes / (yes + no)
        assert confident.tokens == 3
        assert abs(confident.yes - 0.5) <= abs(ratio - 0.5) + 1e-9
        assert confident.yes <= max(yes, 0.5) and 1 - confident.yes <= max(no, 0.5)


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        (math.nan, 0.5),
        (0.9, math.nan),
        (math.nan, math.nan),
        (-0.1, 0.9),
        (0.9, -0.1),
        (0.9, 0.2),
        (math.inf, 0.0),
        (1.2, 0.0),
    ],
)
def test_what_is_no_distribution_is_no_answer(yes, no):
    decision = weigh(yes, no)
    assert decision.yes is None and "no distribution" in decision.evidence


def test_without_yes_and_no_there_is_no_answer():
    assert weigh(0.15, 0.04).yes is None and "would not begin" in weigh(0.15, 0.04).evidence
