"""What a brief says is either true of a scene or not, and costs so many bits to say."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from clvr_core.shapes.sampling import random_brief, random_edit
from clvr_core.shapes.scene import CELL, CELLS, JITTER, Thing, apply
from clvr_core.shapes.spec import AtLeast, Item, Only, Place, Relation, Spec, related, waymarks

RED, BLUE = Thing("circle", "red", "small", 0), Thing("square", "blue", "large", 4)
CIRCLE, SQUARE = Item("circle", "red"), Item("square", "blue")
BESIDE = Relation(CIRCLE.key, "left of", SQUARE.key)


class TestAnItem:
    def test_counts_are_exact(self):
        two = replace(CIRCLE, count=2)
        assert not two.holds([RED]) and two.holds([RED, replace(RED, cell=5)])
        assert not two.holds([RED, replace(RED, cell=5), replace(RED, cell=6)])

    def test_things_of_another_colour_or_shape_do_not_count(self):
        assert CIRCLE.holds([RED, replace(RED, color="blue", cell=1), replace(RED, shape="cross", cell=2)])

    def test_a_stated_size_binds_every_thing_and_an_unstated_one_none(self):
        pair = [RED, replace(RED, cell=1, size="large")]
        assert replace(CIRCLE, count=2).holds(pair)
        assert not replace(CIRCLE, count=2, size="small").holds(pair)

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
            assert replace(CIRCLE, place=place).holds([replace(RED, cell=cell)]) == (cell in cells)

    def test_every_thing_must_stand_in_the_place(self):
        row = replace(CIRCLE, count=2, place=Place(row="top"))
        assert row.holds([RED, replace(RED, cell=2)]) and not row.holds([RED, replace(RED, cell=3)])


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
        assert related(at, "left of", replace(at, dx=CELL // 2)) and not related(
            at, "left of", replace(at, dx=CELL // 2 - 1)
        )

    def test_it_needs_exactly_one_of_each(self):
        assert BESIDE.holds([RED, BLUE])
        assert not BESIDE.holds([RED]) and not BESIDE.holds([RED, BLUE, replace(BLUE, cell=5)])


class TestASpec:
    def test_it_holds_where_all_items_and_relations_do(self):
        assert Spec((CIRCLE, SQUARE), (BESIDE,)).holds([RED, BLUE])
        assert not Spec((CIRCLE, SQUARE), (replace(BESIDE, kind="right of"),)).holds([RED, BLUE])
        assert not Spec((CIRCLE, replace(SQUARE, size="small"))).holds([RED, BLUE])

    def test_nothing_may_stand_there_that_it_does_not_name(self):
        assert Spec((CIRCLE,)).holds([RED]) and not Spec((CIRCLE,)).holds([RED, BLUE])


class TestTheChecklist:
    def test_is_nothing_else_then_the_items_then_the_relations(self):
        assert Spec((CIRCLE, SQUARE), (BESIDE,)).statements == (Only((CIRCLE, SQUARE)), CIRCLE, SQUARE, BESIDE)

    def test_a_count_has_a_waymark_for_every_two_things_on_the_way(self):
        five, four, two = (replace(CIRCLE, count=count) for count in (5, 4, 2))
        assert waymarks(five) == (AtLeast(replace(CIRCLE, count=3)), AtLeast(CIRCLE))
        assert waymarks(four) == (AtLeast(two),) and waymarks(two) == ()
        assert Spec((four,)).statements == (Only((four,)), four, AtLeast(two))

    def test_a_waymark_is_reached_by_that_many_or_more_of_the_right_size_and_place(self):
        mark = AtLeast(replace(CIRCLE, count=2, size="small", place=Place(row="top")))
        assert mark.holds([RED, replace(RED, cell=1)]) and mark.holds(
            [RED, replace(RED, cell=1), replace(RED, cell=2), BLUE]
        )
        assert not mark.holds([RED, replace(RED, cell=5)]) and not mark.holds([RED, replace(RED, cell=1, size="large")])

    def test_nothing_else_allows_fewer_but_not_more(self):
        only = Only((replace(CIRCLE, count=2),))
        assert only.holds([]) and only.holds([RED, replace(RED, cell=1)])
        assert not only.holds([BLUE]) and not only.holds([replace(RED, cell=cell) for cell in range(3)])

    def test_all_of_it_holds_where_the_spec_does_and_only_there(self):
        rng = random.Random(1)
        for number in range(1000):
            scene, spec, _ = random_brief(rng, 1 + number % 8)
            shown = scene if number % 2 else apply(random_edit(rng, scene), scene)
            assert all(statement.holds(shown.things) for statement in spec.statements) == spec.holds(shown.things)


class TestBits:
    def test_a_kind_and_a_count_cost_log2_of_40_and_3(self):
        assert Spec((CIRCLE,)).bits == pytest.approx(math.log2(40) + 3)

    def test_by_hand(self):
        # Two items 2 x (log2 40 + 3); one size 1; a cell log2 9, a row for two things 2 log2 3; a relation log2 4 and 2 pointers among 2.
        spec = Spec(
            (
                Item("circle", "red", 1, "small", Place("top", "left")),
                Item("square", "blue", 2, None, Place(row="top")),
            ),
            (Relation(("red", "circle"), "above", ("blue", "square")),),
        )
        assert spec.bits == pytest.approx(2 * (5.321928 + 3) + 1 + 3.169925 + 2 * 1.584963 + 2 + 2)

    def test_every_statement_more_costs_more(self):
        plain = Spec((CIRCLE, SQUARE))
        more = [
            Spec((CIRCLE, SQUARE, Item("cross", "cyan"))),
            Spec((replace(CIRCLE, size="small"), SQUARE)),
            Spec((replace(CIRCLE, place=Place(row="top")), SQUARE)),
            Spec((CIRCLE, SQUARE), (BESIDE,)),
        ]
        assert all(spec.bits > plain.bits for spec in more)
        cell = Spec((replace(CIRCLE, place=Place("top", "left")), SQUARE))
        assert cell.bits > more[2].bits
        assert Spec((CIRCLE, SQUARE), (BESIDE, replace(BESIDE, kind="above"))).bits > more[3].bits

    def test_a_size_is_paid_for_each_thing(self):
        two = Spec((replace(CIRCLE, count=2),))
        assert Spec((replace(CIRCLE, count=2, size="small"),)).bits == pytest.approx(two.bits + 2)
