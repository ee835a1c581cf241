"""What a brief says is either true of a scene or not, and costs so many bits to say."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from clvr_core.stickers.sampling import random_brief, random_edit
from clvr_core.stickers.scene import (
    BACKDROPS,
    CELL,
    CELLS,
    COLORS,
    JITTER,
    NATURAL,
    NOUNS,
    SIGN,
    Scene,
    Thing,
    apply,
)
from clvr_core.stickers.spec import AtLeast, Backdrop, Item, Only, Place, Relation, Spec, related, waymarks

RED, BLUE = Thing("cat", "red", "small", 0), Thing("car", "blue", "large", 4)
STOP = Thing(SIGN, NATURAL, "large", 8, word="STOP")
CAT, CAR, BOARD = Item("cat", "red"), Item("car", "blue"), Item(SIGN, NATURAL, word="STOP")
BESIDE = Relation(CAT.key, "left of", CAR.key)


def scene(*things: Thing, backdrop: str = "plain") -> Scene:
    return Scene(things, backdrop)


class TestAnItem:
    def test_counts_are_exact(self):
        two = replace(CAT, count=2)
        assert not two.holds(scene(RED)) and two.holds(scene(RED, replace(RED, cell=5)))
        assert not two.holds(scene(RED, replace(RED, cell=5), replace(RED, cell=6)))

    def test_things_of_another_colour_or_noun_do_not_count(self):
        natural = replace(RED, color=NATURAL, cell=3)
        assert CAT.holds(scene(RED, replace(RED, color="blue", cell=1), replace(RED, noun="dog", cell=2), natural))

    def test_a_stated_size_binds_every_thing_and_an_unstated_one_none(self):
        pair = scene(RED, replace(RED, cell=1, size="large"))
        assert replace(CAT, count=2).holds(pair)
        assert not replace(CAT, count=2, size="small").holds(pair)

    def test_a_stated_word_must_stand_on_the_sign(self):
        assert BOARD.holds(scene(STOP)) and not BOARD.holds(scene(replace(STOP, word="STEP")))
        assert replace(BOARD, word=None).holds(scene(replace(STOP, word="STEP")))

    @pytest.mark.parametrize(
        ("place", "cells"),
        [
            (Place(), CELLS),
            (Place(row="top"), (0, 1, 2)),
            (Place(column="right"), (2, 5, 8)),
            (Place("middle", "center"), (4,)),
            (Place("bottom", "left"), (6,)),
        ],
    )
    def test_a_place_is_a_row_a_column_or_a_cell(self, place, cells):
        assert place.cells == tuple(cells)
        for cell in CELLS:
            assert replace(CAT, place=place).holds(scene(replace(RED, cell=cell))) == (cell in cells)

    def test_every_thing_must_stand_in_the_place(self):
        row = replace(CAT, count=2, place=Place(row="top"))
        assert row.holds(scene(RED, replace(RED, cell=2))) and not row.holds(scene(RED, replace(RED, cell=3)))


class TestARelation:
    @pytest.mark.parametrize(
        ("kind", "cells"), [("left of", (0, 3, 6)), ("right of", (2, 5, 8)), ("above", (0, 1, 2)), ("below", (6, 7, 8))]
    )
    def test_only_its_own_axis_counts(self, kind, cells):
        assert [cell for cell in CELLS if related(replace(RED, cell=cell), kind, BLUE)] == list(cells)

    def test_offsets_inside_a_cell_never_decide(self):
        for dx in (-JITTER, 0, JITTER):
            moved = replace(BLUE, dx=-dx, dy=dx)
            assert related(replace(RED, cell=3, dx=dx), "left of", moved) and not related(
                replace(RED, cell=1, dx=dx), "left of", moved
            )

    def test_half_a_cell_apart_is_enough_and_less_is_not(self):
        at = replace(BLUE, cell=3)
        assert related(at, "left of", replace(at, dx=CELL // 2))
        assert not related(at, "left of", replace(at, dx=CELL // 2 - 1))

    def test_it_needs_exactly_one_of_each(self):
        assert BESIDE.holds(scene(RED, BLUE))
        assert not BESIDE.holds(scene(RED)) and not BESIDE.holds(scene(RED, BLUE, replace(BLUE, cell=5)))


class TestASpec:
    def test_it_holds_where_all_items_and_relations_do(self):
        pair = scene(RED, BLUE)
        assert Spec((CAT, CAR), (BESIDE,)).holds(pair)
        assert not Spec((CAT, CAR), (replace(BESIDE, kind="right of"),)).holds(pair)
        assert not Spec((CAT, replace(CAR, size="small"))).holds(pair)

    def test_nothing_may_stand_there_that_it_does_not_name(self):
        assert Spec((CAT,)).holds(scene(RED)) and not Spec((CAT,)).holds(scene(RED, BLUE))

    @pytest.mark.parametrize("name", BACKDROPS)
    def test_a_stated_backdrop_must_be_there_and_an_unstated_one_may_be_any(self, name):
        shown = scene(RED, backdrop=name)
        assert Spec((CAT,)).holds(shown) and Spec((CAT,), (), name).holds(shown)
        assert not Spec((CAT,), (), "sea" if name == "night" else "night").holds(shown)


class TestTheChecklist:
    def test_is_the_backdrop_then_nothing_else_then_the_items_then_the_relations(self):
        items = (CAT, CAR)
        assert Spec(items, (BESIDE,)).statements == (Only(items), CAT, CAR, BESIDE)
        assert Spec(items, (BESIDE,), "sea").statements == (Backdrop("sea"), Only(items), CAT, CAR, BESIDE)

    def test_a_count_has_a_waymark_for_every_two_things_on_the_way(self):
        five, four, two = (replace(CAT, count=count) for count in (5, 4, 2))
        assert waymarks(five) == (AtLeast(replace(CAT, count=3)), AtLeast(CAT))
        assert waymarks(four) == (AtLeast(two),) and waymarks(two) == ()
        assert Spec((four,)).statements == (Only((four,)), four, AtLeast(two))

    def test_a_waymark_is_reached_by_that_many_or_more_of_the_right_size_and_place(self):
        mark = AtLeast(replace(CAT, count=2, size="small", place=Place(row="top")))
        assert mark.holds(scene(RED, replace(RED, cell=1)))
        assert mark.holds(scene(RED, replace(RED, cell=1), replace(RED, cell=2), BLUE))
        assert not mark.holds(scene(RED, replace(RED, cell=5)))
        assert not mark.holds(scene(RED, replace(RED, cell=1, size="large")))

    def test_nothing_else_allows_fewer_but_not_more(self):
        only = Only((replace(CAT, count=2),))
        assert only.holds(scene()) and only.holds(scene(RED, replace(RED, cell=1)))
        assert not only.holds(scene(BLUE)) and not only.holds(scene(*(replace(RED, cell=cell) for cell in range(3))))

    def test_all_of_it_holds_where_the_spec_does_and_only_there(self):
        rng = random.Random(1)
        for number in range(800):
            drawn, spec, _ = random_brief(rng, 1 + number % 8)
            shown = drawn if number % 2 else apply(random_edit(rng, drawn), drawn)
            assert all(statement.holds(shown) for statement in spec.statements) == spec.holds(shown)


class TestBits:
    KIND = math.log2(len(NOUNS) * (len(COLORS) + 1)) + 3

    def test_a_kind_and_a_count_cost_their_choices(self):
        assert Spec((CAT,)).bits == pytest.approx(self.KIND)

    def test_a_word_costs_its_letters_and_their_number_and_a_sign_no_kind(self):
        assert Spec((BOARD,)).bits == pytest.approx(3 + math.log2(5) + 4 * math.log2(26))

    def test_a_backdrop_costs_the_choice_of_one(self):
        assert Spec((CAT,), (), "sea").bits == pytest.approx(self.KIND + 3)

    def test_by_hand(self):
        # A size 1; a cell log2 9, a row for two things 2 log2 3; a relation log2 4 and 2 pointers among 2.
        one = Item("cat", "red", 1, "small", Place("top", "left"))
        two = Item("car", "blue", 2, None, Place(row="top"))
        spec = Spec((one, two), (Relation(one.key, "above", two.key),))
        assert spec.bits == pytest.approx(2 * self.KIND + 1 + 3.169925 + 2 * 1.584963 + 2 + 2)

    def test_every_statement_more_costs_more(self):
        plain = Spec((CAT, CAR))
        more = [
            Spec((CAT, CAR, Item("dog", "pink"))),
            Spec((replace(CAT, size="small"), CAR)),
            Spec((replace(CAT, place=Place(row="top")), CAR)),
            Spec((CAT, CAR), (BESIDE,)),
            Spec((CAT, CAR), (), "plain"),
        ]
        assert all(spec.bits > plain.bits for spec in more)

    def test_a_size_is_paid_for_each_thing(self):
        two = Spec((replace(CAT, count=2),))
        assert Spec((replace(CAT, count=2, size="small"),)).bits == pytest.approx(two.bits + 2)
