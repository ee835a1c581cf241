"""Edits turn one scene into another, and every edit has an edit that undoes it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from clvr_core.stickers.sampling import EDIT_KINDS, random_edit, random_scene
from clvr_core.stickers.scene import (
    CELLS,
    COLORS,
    NATURAL,
    NOUNS,
    OWN,
    SIGN,
    Edit,
    Scene,
    Thing,
    apply,
    cell_name,
    cell_of,
    look,
    looks,
)

CAT, CAR = Thing("cat", "red", "small", 0, 1, -2), Thing("car", "blue", "large", 4)
STOP = Thing(SIGN, NATURAL, "large", 8, word="STOP")


def undo(edit: Edit, before: Scene) -> Edit:
    if edit.cell is None:
        return Edit("backdrop", None, backdrop=before.backdrop)
    there = before.at(edit.cell)
    if edit.kind == "move":
        return Edit("move", edit.to, thing=there, to=edit.cell)
    return Edit("remove", edit.cell) if there is None else Edit("put", edit.cell, thing=there)


def with_a_sign(rng: random.Random) -> Scene:
    """A scene in which every kind of edit is possible."""
    scene = random_scene(rng, rng.randint(1, 6))
    taken = scene.without([8]).things or (CAT,)
    return Scene((*taken, STOP), scene.backdrop).with_thing(replace(CAT, cell=7))


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_and_its_inverse_leave_the_scene_as_it_was(kind):
    rng = random.Random(kind)
    for _ in range(300):
        before = with_a_sign(rng)
        edit = random_edit(rng, before, kind)
        after = apply(edit, before)
        assert edit.kind == kind and after != before
        assert apply(undo(edit, before), after) == before


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_touches_only_the_cells_it_names(kind):
    rng = random.Random(kind)
    for _ in range(300):
        before = with_a_sign(rng)
        edit = random_edit(rng, before, kind)
        after = apply(edit, before)
        assert {cell for cell in CELLS if before.at(cell) != after.at(cell)} <= edit.cells
        assert (before.backdrop == after.backdrop) == (kind != "backdrop")


class TestASceneIsAGrid:
    def test_two_things_cannot_share_a_cell(self):
        with pytest.raises(ValueError, match="share a cell"):
            Scene((CAT, Thing("car", "blue", "large", CAT.cell)))

    def test_things_stand_in_the_order_of_their_cells(self):
        assert Scene((CAR, CAT)) == Scene((CAT, CAR)) and Scene((CAR, CAT)).things == (CAT, CAR)

    def test_free_cells_are_those_that_hold_nothing(self):
        assert Scene((CAT, CAR)).free() == (1, 2, 3, 5, 6, 7, 8)

    def test_every_cell_has_a_name_of_its_own(self):
        assert [cell_of(*cell_name(cell).split()) for cell in CELLS] == list(CELLS)

    def test_a_centre_is_in_pixels_from_the_top_left(self):
        assert CAT.center == (33, 30) and CAR.center == (96, 96)


class TestLooks:
    def test_the_colour_that_a_noun_has_anyway_is_its_natural_look(self):
        assert look("banana", "yellow") == look("banana", None) == NATURAL and look("banana", "blue") == "blue"

    def test_a_sign_has_no_colour(self):
        assert look(SIGN, "red") == NATURAL and looks(SIGN) == (NATURAL,)

    @pytest.mark.parametrize("noun", NOUNS)
    def test_every_look_of_a_noun_is_another(self, noun):
        assert {look(noun, color) for color in COLORS} == set(looks(noun)) - (set() if noun in OWN else {NATURAL})
        assert len(looks(noun)) == len(set(looks(noun))) and OWN.get(noun) not in looks(noun)


class TestWhatEachEditDoes:
    def test_put_replaces_whatever_was_there(self):
        new = Thing("dog", "green", "large", CAT.cell)
        assert apply(Edit("put", CAT.cell, thing=new), Scene((CAT, CAR), "sea")) == Scene((new, CAR), "sea")

    def test_recolor_resize_and_word_keep_everything_else(self):
        scene = Scene((CAT, STOP), "night")
        for edit, after in (
            (Edit("recolor", 0, color="pink"), replace(CAT, color="pink")),
            (Edit("resize", 0, size="large"), replace(CAT, size="large")),
            (Edit("word", 8, word="GO"), replace(STOP, word="GO")),
        ):
            assert apply(edit, scene) == scene.with_thing(after)

    def test_a_change_of_the_backdrop_leaves_every_thing(self):
        assert apply(Edit("backdrop", None, backdrop="snow"), Scene((CAT, STOP))) == Scene((CAT, STOP), "snow")

    def test_move_keeps_the_offset_unless_a_new_one_is_given(self):
        assert apply(Edit("move", 0, to=8), Scene((CAT,))) == Scene((replace(CAT, cell=8),))
        landed = replace(CAT, cell=8, dx=3, dy=3)
        assert apply(Edit("move", 0, thing=landed, to=8), Scene((CAT,))) == Scene((landed,))

    def test_move_onto_a_taken_cell_is_refused(self):
        with pytest.raises(ValueError, match="share a cell"):
            apply(Edit("move", CAT.cell, to=CAR.cell), Scene((CAT, CAR)))

    @pytest.mark.parametrize(
        "edit",
        [
            Edit("remove", 8),
            Edit("recolor", 8, color="red"),
            Edit("resize", 8, size="small"),
            Edit("word", 8, word="GO"),
            Edit("move", 8, to=7),
            Edit("move", 8, to=0),
        ],
    )
    def test_an_edit_of_an_empty_cell_changes_nothing(self, edit):
        assert apply(edit, Scene((CAT, CAR))) == Scene((CAT, CAR))

    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (Edit("paint", 0), "paint"),
            (Edit("recolor", 0), "recolor"),
            (Edit("put", 0), "no thing"),
            (Edit("remove", None), "no cell"),
            (Edit("backdrop", None), "names none"),
        ],
    )
    def test_an_edit_without_what_it_needs_is_refused_by_name(self, edit, said):
        with pytest.raises(ValueError, match=said):
            apply(edit, Scene((CAT,)))
