"""How an edit went, told from what is seen before and after it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from clvr_core.stickers.comparing import changed, compared, matches
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.sampling import EDIT_KINDS, random_edit, random_scene
from clvr_core.stickers.scene import CELLS, Scene, Thing, apply

CAT, CAR = Thing("cat", "red", "small", 0), Thing("car", "blue", "large", 4)


def seen(scene: Scene, *unclear: int) -> Perception:
    return Perception(scene.without(unclear).things, scene.backdrop, unclear)


class TestMatches:
    def test_a_scene_matches_itself_and_no_edit_of_it(self):
        rng = random.Random(0)
        for number in range(300):
            scene = random_scene(rng, number % 9)
            assert matches(seen(scene), scene)
            assert not matches(seen(apply(random_edit(rng, scene), scene)), scene)

    def test_what_is_unclear_matches_nothing(self):
        scene = Scene((CAT,))
        assert not matches(seen(scene, 4), scene) and not matches(Perception((CAT,), None), scene)

    def test_offsets_count_within_the_tolerance(self):
        scene = Scene((CAT,))
        for dx, ok in ((3, True), (4, False)):
            assert matches(Perception((replace(CAT, dx=dx),)), scene) is ok
        assert not matches(Perception((replace(CAT, dx=2),)), scene, tolerance=1)


class TestCompared:
    @pytest.mark.parametrize("kind", EDIT_KINDS)
    def test_an_edit_that_went_well_is_a_success_and_one_that_was_not_made_is_none(self, kind):
        rng = random.Random(kind)
        for _ in range(200):
            before = random_scene(rng, rng.randint(2, 8))
            edit = random_edit(rng, before, kind)
            after = apply(edit, before)
            assert compared(seen(before), seen(after), after, edit.cells).success
            there = None if edit.cell is None else before.at(edit.cell)
            if there is None or edit.thing is None or there.kind != edit.thing.kind:
                undone = compared(seen(before), seen(before), after, edit.cells)
                assert not undone.target_ok and undone.untouched_ok and undone.moved == ()

    def test_a_change_elsewhere_is_told_by_its_cells(self):
        before, after = Scene((CAT, CAR)), Scene((replace(CAT, color="pink"), replace(CAR, size="small")))
        found = compared(seen(before), seen(after, 8), after, {0})
        assert found.target_ok and not found.untouched_ok and found.moved == (4, 8)

    def test_a_backdrop_that_changes_unasked_is_no_success(self):
        before, after = Scene((CAT,), "sea"), Scene((replace(CAT, color="pink"),), "sea")
        found = compared(seen(before), seen(replace(after, backdrop="night")), after, {0})
        assert found.target_ok and not found.untouched_ok and found.moved == ()

    def test_an_edited_cell_that_is_unclear_is_not_as_wanted(self):
        before, after = Scene((CAT, CAR)), Scene((CAR,))
        found = compared(seen(before), seen(after, 0), after, {0})
        assert not found.target_ok and found.untouched_ok

    def test_what_was_unclear_before_does_not_count(self):
        before, after = Scene((CAT, CAR)), Scene((CAR,))
        unclear = Perception((CAT,), None, (4, 8))
        assert compared(unclear, seen(after), after, {0}).success
        assert changed(unclear, seen(before)) == () and set(changed(seen(Scene()), seen(before))) == {0, 4} < set(CELLS)
