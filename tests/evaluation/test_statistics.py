"""Areas under pass curves, and how sure one can be of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clvr_core.evaluation.statistics import RESAMPLES, auc, interval, ratio, resample

MEDIANS = np.array([10.0, 20.0, 40.0])


def outcomes(*rates: float, briefs: int = 100) -> np.ndarray:
    """tiers x briefs, the first `rate` of each tier passed."""
    return np.array([[float(place < round(rate * briefs)) for place in range(briefs)] for rate in rates])


class TestAuc:
    @pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
    def test_of_a_constant_rate_is_the_rate_times_the_range(self, rate):
        assert auc(outcomes(rate, rate, rate), MEDIANS) == pytest.approx(rate * 30)

    def test_is_the_trapezoid_between_tiers(self):
        assert auc(outcomes(1.0, 0.5, 0.0), MEDIANS) == pytest.approx(10 * 0.75 + 20 * 0.25)

    def test_takes_any_number_of_resamples_at_once(self):
        stacked = np.stack([outcomes(1, 1, 1), outcomes(0, 0, 0)])
        assert auc(stacked, MEDIANS).tolist() == [30.0, 0.0]

    def test_of_the_tiers_that_clvr_plots_is_what_it_prints(self):
        """arXiv 2605.14876, its curve over prompt complexity: 98.9."""
        medians = np.array([4.5, 18.7, 36, 49, 62.5, 81, 100, 132, 172.5, 251.5])
        rates = (0.74, 0.66, 0.44, 0.47, 0.43, 0.41, 0.41, 0.37, 0.34, 0.29)
        assert auc(outcomes(*rates), medians) == pytest.approx(98.9, abs=0.5)


class TestResampling:
    def test_arms_are_resampled_together(self):
        arms = {"a": outcomes(0.7, 0.5, 0.3), "b": outcomes(0.7, 0.5, 0.3)}
        samples = resample(arms, MEDIANS)
        assert samples["a"].shape == (RESAMPLES,) and np.array_equal(samples["a"], samples["b"])

    def test_a_constant_lead_has_an_interval_of_no_width(self):
        """Where one arm passes exactly when the other does not, their areas add up to the range in every resample."""
        low = outcomes(0.5, 0.5, 0.5)
        samples = resample({"low": low, "rest": 1 - low}, MEDIANS)
        assert np.allclose(samples["low"] + samples["rest"], 30)

    def test_where_all_pass_there_is_nothing_to_be_unsure_of(self):
        bounds = interval(resample({"a": outcomes(1, 1, 1)}, MEDIANS)["a"])
        assert bounds.low == bounds.high == 30

    def test_the_spread_is_that_of_a_mean_of_coin_tosses(self):
        samples = resample({"a": outcomes(0.5, 0.5, 0.5)}, MEDIANS)["a"]
        # Weights of the tiers in the trapezoid: 5, 15 and 10; each rate has a standard deviation of 0.05.
        assert samples.std() == pytest.approx(0.05 * math.sqrt(5**2 + 15**2 + 10**2), rel=0.05)
        assert samples.mean() == pytest.approx(15, abs=0.1)

    def test_the_same_seed_gives_the_same_resamples(self):
        arms = {"a": outcomes(0.7, 0.5, 0.3)}
        assert np.array_equal(resample(arms, MEDIANS, seed=1)["a"], resample(arms, MEDIANS, seed=1)["a"])
        assert not np.array_equal(resample(arms, MEDIANS, seed=1)["a"], resample(arms, MEDIANS, seed=2)["a"])


class TestInterval:
    def test_is_the_middle_of_the_samples(self):
        bounds = interval(np.arange(1001.0))
        assert (bounds.low, bounds.high) == (25, 975)
        assert interval(np.arange(1001.0), level=0.5).low == 250

    def test_may_reach_to_infinity(self):
        bounds = interval(np.array([1.0] * 50 + [np.inf] * 50))
        assert (bounds.low, bounds.high) == (1, np.inf)


class TestRatio:
    def test_by_hand(self):
        samples = {"a": np.array([2.0, 4.0, 6.0]), "b": np.array([1.0, 2.0, 3.0])}
        bounds = ratio(samples, "a", "b")
        assert (bounds.low, bounds.high) == (2, 2)

    def test_pairs_cancel_what_both_share(self):
        noise = np.random.default_rng(0).uniform(1, 10, RESAMPLES)
        bounds = ratio({"a": 3 * noise, "b": noise}, "a", "b")
        assert (bounds.low, bounds.high) == pytest.approx((3, 3))

    def test_over_nothing_is_infinite_and_of_nothing_over_nothing_one(self):
        some, none = np.full(100, 5.0), np.zeros(100)
        assert ratio({"a": some, "b": none}, "a", "b").low == ratio({"a": some, "b": none}, "a", "b").high == np.inf
        assert (ratio({"a": none, "b": none}, "a", "b").low, ratio({"a": none, "b": some}, "a", "b").high) == (1, 0)

    def test_where_some_resamples_are_empty_the_bound_is_infinite_and_never_undefined(self):
        bounds = ratio({"a": np.full(100, 5.0), "b": np.array([1.0] * 90 + [0.0] * 10)}, "a", "b")
        assert (bounds.low, bounds.high) == (5, np.inf)
