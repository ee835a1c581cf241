"""Complexity: the declared score, parses, tiers that differ in it and not in length, and the curve over them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.evaluation.curve import curve_of, logistic, partial, ranks
from clvr_core.evaluation.prompt_parse import Parse, estimate, of_record, of_words, of_world, tiers
from clvr_core.evaluation.statistics import area
from clvr_core.policy.complexity import complexity, of_goals
from clvr_core.world import world_named
from tests.fakes import FakeVlm

# Read off the CLVR paper's plot of ten tiers: median complexity, pass rate of CLVR, FLUX.2 (arXiv 2605.14876).
MEDIANS = np.array([4.5, 18.7, 36, 49, 62.5, 81, 100, 132, 172.5, 251.5])
PAPER = {
    98.79: [0.74, 0.66, 0.44, 0.47, 0.43, 0.41, 0.41, 0.37, 0.34, 0.29],
    73.89: [0.67, 0.53, 0.35, 0.48, 0.32, 0.40, 0.27, 0.32, 0.18, 0.185],
}


@pytest.mark.parametrize("printed", PAPER)
def test_the_area_under_the_papers_plotted_tiers_is_the_one_it_prints(printed):
    """98.9 against 98.79, and 73.95 against 73.89: as near as a plot can be read."""
    assert float(area(np.array(PAPER[printed]), MEDIANS)) == pytest.approx(printed, abs=0.15)


def test_the_area_under_a_flat_curve_is_its_height_times_its_span():
    assert area(np.full(10, 0.4), MEDIANS) == pytest.approx(0.4 * 247)


class TestTheScore:
    def test_is_the_declared_formula(self):
        assert complexity(3, 2, 7) == pytest.approx(10 * 2 + 2 * 2 + 3 * 3)
        assert complexity(3, 2, 7, texts=1, negations=2) == pytest.approx(33 + 4 + 6)

    def test_of_a_record_counts_things_attributes_and_places(self):
        record = {
            "include": [
                {"class": "dog", "count": 2, "color": "red"},
                {"class": "cat", "count": 1, "position": ["left of", 0]},
            ]
        }
        found = of_record({**record, "exclude": [{"class": "dog", "count": 3}]}, "two red dogs and a cat")
        assert (found.groups, found.entities, found.attributes, found.relations, found.negations, found.words) == (
            2,
            3,
            1,
            1,
            0,
            6,
        )
        assert of_record({**record, "exclude": [{"class": "bird", "count": 1}]}, "x").negations == 1

    def test_of_the_embedded_world_has_the_grammars_exact_bits(self):
        prompt = "a red circle and a large blue square at the top left. the blue square is above the red circle"
        found = of_world(prompt)
        assert found.bits == world_named().parse(prompt).bits and (
            found.entities,
            found.attributes,
            found.relations,
        ) == (
            2,
            3,
            2,
        )
        assert of_world("a photo of a llama") is None

    def test_of_words_is_asked_of_a_model_and_checked(self):
        reply = {
            "things": [
                {"name": "dog", "count": 2, "attributes": ["brown"]},
                {"name": "sofa", "count": 1, "attributes": []},
            ],
            "relations": [{"of": "Dog", "to": "sofa", "kind": "on"}],
            "absent": ["cat"],
            "texts": ["HELLO"],
        }
        found = of_words(FakeVlm([json.dumps(reply)]), "two brown dogs on a sofa, no cat, HELLO").value
        assert found == Parse(2, 3, 1, 1, 1, (5,), words=9)
        assert found.score == pytest.approx(10 * math.log2(4) + 4 + 3 * math.log2(10) + 4 + 3)

    @pytest.mark.parametrize(
        "reply",
        [
            {"things": []},
            {"things": [{"name": "dog", "count": 0}]},
            {"things": [{"name": "dog"}], "relations": [{"of": "dog", "to": "cat"}]},
        ],
    )
    def test_a_parse_without_sense_is_asked_for_again_and_then_given_up(self, reply):
        answer = of_words(FakeVlm([json.dumps(reply)] * 2), "a dog")
        assert answer.value is None and answer.failure and answer.calls == 2

    def test_grows_with_each_thing_that_is_asked_for(self):
        base = Parse(2, 3, 1, 1, words=10)
        for more in (
            Parse(3, 4, 1, 1, words=10),
            Parse(2, 3, 2, 1, words=10),
            Parse(2, 3, 1, 2, words=10),
            Parse(2, 3, 1, 1, 1, words=10),
        ):
            assert more.score > base.score and more.bits > base.bits

    def test_words_alone_tell_texts_and_denials(self):
        found = estimate('a sign that says "OPEN", without people')
        assert found.glyphs == (4,) and found.negations == 1

    def test_of_goals_costs_no_call_and_grows_with_them(self):
        brief = Brief("a red circle left of a blue square")
        goals = (
            Goal("g1", "a red circle"),
            Goal("g2", "a blue square"),
            Goal("g3", "the circle is left of the square", "layout"),
        )
        assert of_goals(brief, goals) == pytest.approx(complexity(2, 1, 8))
        assert of_goals(brief, (*goals, Goal("g4", "the word HI", "text"))) == pytest.approx(
            complexity(2, 1, 8, texts=1)
        )


class TestTiers:
    def test_are_equal_parts_in_rising_order(self):
        cut = tiers(list(range(100)), [10] * 100)
        assert (
            [len(tier) for tier in cut.members] == [10] * 10 and cut.members[0] == tuple(range(10)) and not cut.dropped
        )

    def test_are_trimmed_until_their_length_is_that_of_all(self):
        rng = np.random.default_rng(0)
        scores = np.arange(400)
        words = (20 + scores / 40 + rng.normal(0, 8, 400)).astype(int).clip(3)
        before = [words[place * 40 : place * 40 + 40].mean() for place in range(10)]
        cut = tiers(scores.tolist(), words.tolist())
        target = words.mean()
        assert max(abs(mean - target) for mean in before) > 0.15 * target
        assert all(abs(mean - target) <= 0.1 * target + 1e-9 for mean in cut.words)
        assert all(len(tier) >= 20 for tier in cut.members)
        assert sorted([place for tier in cut.members for place in tier] + list(cut.dropped)) == list(range(400))

    def test_of_too_few_prompts_are_refused(self):
        with pytest.raises(ValueError, match="3 prompts make no 10 tiers"):
            tiers([1, 2, 3], [1, 2, 3])


class TestTheCurve:
    @staticmethod
    def made(half: float, slope: float, count: int = 1000):
        rng = np.random.default_rng(1)
        scores = rng.uniform(10, 90, count)
        passed = (rng.random(count) < 1 / (1 + np.exp(slope * (scores - half)))).astype(float)
        return scores, rng.integers(10, 40, count), passed

    def test_finds_where_half_is_passed_and_how_steeply_it_falls(self):
        scores, words, passed = self.made(half=45, slope=0.12)
        found = curve_of(scores.tolist(), words.tolist(), passed)
        assert found["c50"] == pytest.approx(45, abs=2) and found["slope"] == pytest.approx(0.12, abs=0.02)
        assert found["c50_ci95"][0] < 45 < found["c50_ci95"][1] and abs(found["length_given_complexity"]) < 0.1
        assert found["auc_ci95"][0] < found["auc"] < found["auc_ci95"][1] and found["tail"] < 0.1

    def test_says_so_if_length_explains_it(self):
        scores, words, _ = self.made(45, 0.12)
        found = curve_of(scores.tolist(), words.tolist(), (words < 25).astype(float))
        assert found["length_given_complexity"] < -0.5

    def test_takes_an_atom_count_as_its_own_tiers(self):
        counts = [float(3 + place % 8) for place in range(80)]
        found = curve_of(counts, [10] * 80, np.array([float(count < 6) for count in counts]))
        assert found["medians"] == [3, 4, 5, 6, 7, 8, 9, 10] and found["pass"] == [1, 1, 1, 0, 0, 0, 0, 0]
        assert found["median_passed"] == 4
        none = curve_of(counts, [10] * 80, np.zeros(80))
        assert none is not None and none["median_passed"] is None

    def test_is_none_where_there_is_nothing_to_draw(self):
        assert curve_of([1.0] * 50, [5] * 50, np.ones(50)) is None
        assert curve_of([None] * 50, [5] * 50, np.ones(50)) is None
        assert curve_of(list(range(50)), [5] * 50, np.full(50, np.nan)) is None

    def test_a_half_beyond_the_tiers_is_not_told(self):
        scores, words, passed = self.made(half=150, slope=0.03)
        assert logistic(scores, passed) is not None and "c50" not in curve_of(scores.tolist(), words.tolist(), passed)

    def test_a_pass_that_does_not_fall_has_no_half(self):
        assert logistic(np.arange(50.0), np.ones(50)) is None
        assert logistic(np.arange(50.0), (np.arange(50) > 20).astype(float)) is None


def test_ranks_share_the_mean_of_ties():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]


def test_a_partial_correlation_is_none_where_nothing_varies():
    assert partial(np.ones(5), np.arange(5.0), np.arange(5.0)[::-1]) is None
