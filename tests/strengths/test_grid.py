"""The pure part of the search: the grid, what is compared next, the ranking, who leaves early."""

from __future__ import annotations

import itertools

import pytest

from clvr_core.errors import BadInput
from clvr_core.strengths.grid import Compared, Pair, Space, Strengths, final_ranking, position, rank, upper_half

BRIEFS = ("a barn", "a cat")


def space(**changed) -> Space:
    return Space(**{"alphas": (1.0, 0.5), "lora_factors": (1.0, 0.0), "briefs": BRIEFS, "seeds": (0, 1)} | changed)


def play(space: Space, best_of, order=sorted) -> list[Compared]:
    """Make all comparisons that the search asks for; best_of: pair -> winner."""
    made: list[Compared] = []
    while not (now := position(space, made)).over:
        made += [
            Compared(pair, best_of(pair)) for pair in order(now.missing, key=lambda pair: (pair.second, pair.brief))
        ]
    return made


def by(values):
    """The point of the larger value wins, equal ones tie."""

    def winner(pair: Pair) -> int:
        first, second = values[pair.first], values[pair.second]
        return -1 if first == second else int(second > first)

    return winner


def test_the_points_begin_with_the_first_value_of_each_axis():
    found = Space((1.0, 0.5), (1.0,), (0.8, 0.4), BRIEFS).points
    assert found == (Strengths(1, 1, 0.8), Strengths(1, 1, 0.4), Strengths(0.5, 1, 0.8), Strengths(0.5, 1, 0.4))
    assert Space((1.0, 0.5), (1.0,), (0.8, 0.4), BRIEFS).words(2) == "alpha 0.5, LoRA x 0.8"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"alphas": (1.0,), "lora_factors": (1.0,)}, "the grid has 1 point, 1 x 1 x 1; give 2 to 27"),
        ({"alphas": tuple(range(28))}, "the grid has 56 points"),
        ({"alphas": (1.0, 1.0)}, r"--alphas is \[1.0, 1.0\]; give different numbers"),
        ({"betas": (1.0, float("nan"))}, "--betas is .* between -1000 and 1000"),
        ({"briefs": ()}, "--briefs has 0 entries; give 1 to 8"),
        ({"briefs": ("a barn", " ")}, "--briefs has an empty brief"),
        ({"seeds": tuple(range(9))}, "--seeds has 9 entries"),
    ],
)
def test_a_grid_that_cannot_be_judged_is_refused(changed, words):
    with pytest.raises(BadInput, match=words):
        space(**changed)


def test_a_round_compares_every_two_points_on_every_brief_once():
    now = position(space(), ())
    pairs = [(pair.first, pair.second) for pair in now.missing if pair.brief == 1]
    assert now.round == 0 and len(now.missing) == 12 and pairs == list(itertools.combinations(range(4), 2))
    half = [Compared(pair, -1) for pair in now.missing[:5]]
    assert position(space(), half).missing == now.missing[5:]


def test_the_lower_half_leaves_and_one_point_alone_ends_the_search():
    values = [3, 2, 1, 0]
    made = play(space(), by(values))
    assert {pair.pair.first for pair in made if pair.pair.round == 1} == {0} and len(made) == 12 + 2
    assert position(space(), made).left == (0,)
    assert [each.point for each in final_ranking(space(), made)] == [0, 1, 2, 3]
    short = play(space(alphas=(1.0, 0.5), lora_factors=(1.0,)), by([0, 1]))
    assert {each.pair.round for each in short} == {0}, "the second round has nobody to compare"


def test_without_early_stop_every_point_meets_every_other_in_every_round():
    made = play(space(early=False), by([0, 1, 2, 3]))
    assert len(made) == space().most_comparisons == 24
    assert [each.point for each in final_ranking(space(), made)] == [3, 2, 1, 0]


def test_points_that_are_level_stay_together_and_the_earlier_is_first():
    made = play(space(), by([1, 1, 1, 1]))
    assert len(made) == 24 and [each.point for each in final_ranking(space(), made)] == [0, 1, 2, 3]
    now = [Compared(pair, by([2, 1, 1, 1])(pair)) for pair in position(space(), ()).missing]
    assert upper_half(range(4), now) == (0, 1, 2, 3), "the second place is shared by three"


def test_no_answer_is_no_loss_and_no_reason_to_leave():
    first = position(space(), ()).missing
    silent = [Compared(pair, None if 3 in (pair.first, pair.second) else by([3, 2, 1, 0])(pair)) for pair in first]
    assert upper_half(range(4), silent) == (0, 1, 3)
    standings = {each.point: each for each in rank(range(4), silent)}
    assert standings[3].strength == 1.0 and (standings[3].lost, standings[3].unanswered) == (0, 6)
    assert upper_half(range(4), [Compared(pair, None) for pair in first]) == (0, 1, 2, 3)


def test_the_strengths_are_those_of_bradley_and_terry():
    """Two points, three wins to one, and each a tie with an opponent of strength 1: the equations by hand."""
    pair = Pair(0, 0, 0, 1)
    made = [Compared(pair, winner) for winner in (0, 0, 0, 1)]
    found = {each.point: each.strength for each in rank((0, 1), made)}
    p, q = found[0], found[1]
    assert pytest.approx(p * (4 / (p + q) + 1 / (p + 1)), rel=1e-5) == 3.5
    assert pytest.approx(q * (4 / (p + q) + 1 / (q + 1)), rel=1e-5) == 1.5
    ties = rank((0, 1), [Compared(pair, -1)] * 4)
    assert [each.strength for each in ties] == pytest.approx([1.0, 1.0]) and ties[0].tied == 4


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_comparisons_come_in_does_not_matter(seed):
    import random

    shuffled = random.Random(seed)
    made = play(space(), by([0, 3, 1, 2]), lambda pairs, key: shuffled.sample(pairs, len(pairs)))
    assert final_ranking(space(), made) == final_ranking(space(), play(space(), by([0, 3, 1, 2])))
