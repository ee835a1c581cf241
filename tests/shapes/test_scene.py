"""Edits turn one scene into another, and every edit has an edit that undoes it."""

from __future__ import annotations

import random

import pytest

from clvr_core.shapes.sampling import EDIT_KINDS, random_edit, random_scene
from clvr_core.shapes.scene import CELLS, Edit, Scene, Thing, apply, cell_name, cell_of

RED, BLUE = Thing("circle", "red", "small", 0, 1, -2), Thing("square", "blue", "large", 4)


def undo(edit: Edit, before: Scene) -> Edit:
    there = before.at(edit.cell)
    if edit.kind == "move":
        return Edit("move", edit.to, thing=there, to=edit.cell)
    return Edit("remove", edit.cell) if there is None else Edit("put", edit.cell, thing=there)


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_and_its_inverse_leave_the_scene_as_it_was(kind):
    rng = random.Random(kind)
    for _ in range(500):
        before = random_scene(rng, rng.randint(1, 8))
        edit = random_edit(rng, before, kind)
        after = apply(edit, before)
        assert edit.kind == kind and after != before
        assert apply(undo(edit, before), after) == before


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_touches_only_the_cells_it_names(kind):
    rng = random.Random(kind)
    for _ in range(500):
        before = random_scene(rng, rng.randint(1, 8))
        edit = random_edit(rng, before, kind)
        after = apply(edit, before)
        assert {cell for cell in CELLS if before.at(cell) != after.at(cell)} <= edit.cells


class TestASceneIsAGrid:
    def test_two_things_cannot_share_a_cell(self):
        with pytest.raises(ValueError, match="share a cell"):
            Scene((RED, Thing("square", "blue", "large", RED.cell)))

    def test_things_stand_in_the_order_of_their_cells(self):
        assert Scene((BLUE, RED)) == Scene((RED, BLUE)) and Scene((BLUE, RED)).things == (RED, BLUE)

    def test_free_cells_are_those_that_hold_nothing(self):
        assert Scene((RED, BLUE)).free() == (1, 2, 3, 5, 6, 7, 8)

    def test_every_cell_has_a_name_of_its_own(self):
        assert [cell_of(*cell_name(cell).split()) for cell in CELLS] == list(CELLS)

    def test_a_centre_is_in_pixels_from_the_top_left(self):
        assert RED.center == (17, 14) and BLUE.center == (48, 48)


class TestWhatEachEditDoes:
    def test_put_replaces_whatever_was_there(self):
        new = Thing("cross", "green", "large", RED.cell)
        assert apply(Edit("put", RED.cell, thing=new), Scene((RED, BLUE))) == Scene((new, BLUE))

    def test_recolor_and_resize_keep_everything_else(self):
        assert apply(Edit("recolor", 0, color="cyan"), Scene((RED,))) == Scene(
            (Thing("circle", "cyan", "small", 0, 1, -2),)
        )
        assert apply(Edit("resize", 0, size="large"), Scene((RED,))) == Scene(
            (Thing("circle", "red", "large", 0, 1, -2),)
        )

    def test_move_keeps_the_offset_unless_a_new_one_is_given(self):
        assert apply(Edit("move", 0, to=8), Scene((RED,))) == Scene((Thing("circle", "red", "small", 8, 1, -2),))
        landed = Thing("circle", "red", "small", 8, 3, 3)
        assert apply(Edit("move", 0, thing=landed, to=8), Scene((RED,))) == Scene((landed,))

    def test_move_onto_a_taken_cell_is_refused(self):
        with pytest.raises(ValueError, match="share a cell"):
            apply(Edit("move", RED.cell, to=BLUE.cell), Scene((RED, BLUE)))

    @pytest.mark.parametrize(
        "edit",
        [
            Edit("remove", 8),
            Edit("recolor", 8, color="red"),
            Edit("resize", 8, size="small"),
            Edit("move", 8, to=7),
            Edit("move", 8, to=0),
        ],
    )
    def test_an_edit_of_an_empty_cell_changes_nothing(self, edit):
        assert apply(edit, Scene((RED, BLUE))) == Scene((RED, BLUE))

    def test_an_unknown_edit_is_refused_by_name(self):
        with pytest.raises(ValueError, match="paint"):
            apply(Edit("paint", 0), Scene((RED,)))
