"""What is measured of an edit, on pictures whose change is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from clvr_core.trajectory import Change
from clvr_core.verifier import changes
from clvr_core.verifier.changes import Pair, measure
from tests.verifier.changed_pictures import FILE, cases

SIDE, ROOM = 320, 20
STILL = Change(offset=(0.0, 0.0), scale=1.0)
PLACE = (0.25, 0.25, 0.5, 0.5)


@pytest.fixture(scope="module")
def wide() -> np.ndarray:
    """A picture with structure at every place, ROOM pixels larger on each side than those compared."""
    dots = np.random.default_rng(7).integers(40, 215, (40, 40, 3), dtype=np.uint8)
    side = SIDE + 2 * ROOM
    return np.asarray(Image.fromarray(dots).resize((side, side), Image.Resampling.BICUBIC))


@pytest.fixture
def before(wide) -> np.ndarray:
    return window(wide, 0, 0)


def window(wide: np.ndarray, right: int, down: int) -> np.ndarray:
    """The middle of the picture, whose content lies so many pixels further to the right and down."""
    top, left = ROOM - down, ROOM - right
    return np.ascontiguousarray(wide[top : top + SIDE, left : left + SIDE])


def with_square(picture: np.ndarray, side: int = 60, at: int = 90) -> np.ndarray:
    picture = picture.copy()
    picture[at : at + side, at : at + side] = (250, 10, 10)
    return picture


def test_equal_pictures_differ_in_nothing(before):
    assert measure(before, before.copy()) == STILL


def test_what_changes_where_it_was_meant_is_left_out(before):
    change = measure(before, with_square(before), (PLACE,))
    assert change == Change(offset=(0.0, 0.0), scale=1.0, meant=(PLACE,))


def test_what_changes_elsewhere_is_told_as_a_share_of_the_rest(before):
    place = (0.5, 0.5, 1.0, 1.0)
    change = measure(before, with_square(before), (place,))
    assert change.outside == pytest.approx(60 * 60 / (SIDE * SIDE * 0.75), abs=1e-3) and change.strength > 50
    assert change.colour == (0.0, 0.0, 0.0) and change.offset == (0.0, 0.0)


def test_of_an_edit_that_named_no_place_the_area_of_large_change_was_meant(before):
    change = measure(before, with_square(before))
    (left, top, right, bottom), *more = change.meant
    assert not more and change.outside == 0
    assert 70 <= left * SIDE <= 90 and 150 <= right * SIDE <= 170 and (left, right) == (top, bottom)


def test_of_two_such_areas_the_greater_was_meant_and_the_other_is_a_fault(before):
    change = measure(before, with_square(with_square(before), 30, 250))
    assert change.outside == pytest.approx(900 / SIDE**2, rel=0.1) and change.meant[0][2] < 0.6


def test_an_area_in_two_diagonal_parts_is_one(before):
    after = with_square(with_square(before, 50, 90), 50, 140)
    assert measure(before, after).outside == 0


def test_a_mask_says_exactly_what_could_change(before):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[90:150, 90:150] = 255
    change = measure(before, with_square(before), ((0.0, 0.0, 0.1, 0.1),), mask)
    assert change.outside == 0 and change.meant == ((90 / SIDE, 90 / SIDE, 150 / SIDE, 150 / SIDE),)


def test_where_all_was_meant_nothing_is_known_of_the_rest(before):
    whole = ((0.0, 0.0, 1.0, 1.0),)
    assert measure(before, 255 - before, whole) == Change(meant=whole)


@pytest.mark.parametrize("moved", [(3, 0), (-2, 5), (0, -8)])
def test_an_offset_is_found_and_is_no_edit_of_one_place(wide, before, moved):
    change = measure(before, window(wide, *moved))
    assert change.offset == pytest.approx(moved, abs=0.5) and change.scale == pytest.approx(1, abs=2e-3)
    assert change.meant == () and change.outside > 0.4


@pytest.mark.parametrize("growth", [1.02, 0.98])
def test_a_change_of_scale_is_found(before, growth):
    side = round(SIDE * growth)
    grown = Image.fromarray(before).resize((side, side), Image.Resampling.BICUBIC)
    spare = (side - SIDE) // 2
    after = np.asarray(grown.crop((spare, spare, spare + SIDE, spare + SIDE)))
    assert measure(before, after, ()).scale == pytest.approx(growth, abs=5e-3)


def test_a_flat_picture_has_too_little_structure_for_an_offset():
    flat = np.full((96, 96, 3), 200, np.uint8)
    change = measure(flat, flat - 30, ())
    assert change.offset is None and change.scale is None and change.outside == 1


def test_a_lighter_picture_is_told_in_lightness(before):
    change = measure(before, before + 12, ())
    lightness, green_red, blue_yellow = change.colour
    assert 4 < lightness < 6 and max(abs(green_red), abs(blue_yellow)) < 0.5 and change.offset == (0.0, 0.0)


def test_lab_of_a_known_colour():
    """sRGB red is L 53.24, a 80.09, b 67.20 under D65."""
    black, red = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), (255, 0, 0), np.uint8)
    assert measure(black, red, ()).colour == pytest.approx((53.24, 80.09, 67.20), abs=0.1)


def test_a_shift_of_colour_in_one_half_is_uneven(before):
    after = before.copy()
    after[: SIDE // 3] += 15
    assert measure(before, after, ()).uneven > 4 > measure(before, before + 15, ()).uneven


def test_blur_and_noise_are_told(before):
    blurred = np.asarray(Image.fromarray(before).filter(ImageFilter.GaussianBlur(4)))
    assert measure(before, blurred, ()).sharpness < 0.9
    drawn = np.random.default_rng(1).normal(0, 6, before.shape)
    noisy = measure(before, np.clip(before + drawn, 0, 255).astype(np.uint8), ())
    assert noisy.noise == pytest.approx(6, abs=1.5) and noisy.sharpness > 1


def test_the_numbers_are_short_and_plain(before):
    change = measure(before, with_square(before, 60, 10), (PLACE,))
    numbers = (change.outside, change.strength, *change.colour, change.uneven, change.sharpness, change.noise)
    assert all(type(number) is float and number == round(number, 4) for number in numbers)


def test_the_browser_is_tested_with_the_shares_found_here():
    assert json.loads(FILE.read_text("utf-8")) == cases()


def test_things_of_a_plain_picture_that_match_each_other_by_chance_are_no_offset():
    """Two equal squares of four are repainted: the best match of the rest lies at their distance."""
    before = np.full((96, 96, 3), 240, np.uint8)
    for top, left in ((8, 8), (8, 60), (60, 8), (60, 60)):
        before[top : top + 24, left : left + 24] = (200, 30, 30)
    after = before.copy()
    after[8:32, 8:32], after[60:84, 60:84] = 240, (30, 30, 200)
    for meant in (None, ((0.0, 0.0, 0.4, 0.4), (0.55, 0.55, 1.0, 1.0)), ()):
        change = measure(before, after, meant)
        assert change.offset == (0.0, 0.0) and change.scale == 1.0


def striped(height: int, width: int) -> np.ndarray:
    return np.kron(
        np.random.default_rng(4).integers(0, 256, (9, 1, 3), dtype=np.uint8), np.ones((height // 9, width, 1), np.uint8)
    )


def slope(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(
        np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (height, width, 3))
    )


@pytest.mark.parametrize("side", [27, 90, 315, 600])
@pytest.mark.parametrize("made", [striped, slope, lambda height, width: np.full((height, width, 3), 90, np.uint8)])
def test_pictures_that_are_the_same_where_they_are_seen_have_the_numbers_of_all_others(made, side, monkeypatch):
    """A shorter way is taken for them, which must lead to the same place."""
    before = made(side // 9 * 9, side)
    after = before.copy()
    after[: side // 3, : side // 2] = (250, 20, 200)
    places = ((0.0, 0.0, 0.25, 0.25),)
    short = measure(before, after, places)
    taken = []

    def whole(old, new, differing, outside):
        factor = -(-max(old.size) // changes.SMALL)
        old, new, outside = (each.reduce(factor) for each in (old, new, outside))
        taken.append(changes._offset(old, new, np.asarray(outside), factor))
        return (*changes._colour(old, new, outside), *taken[0])

    monkeypatch.setattr(changes, "_colour_and_offset", whole)
    monkeypatch.setattr(changes, "_unmoved", lambda *_: pytest.fail("the shorter way"))
    assert measure(before, after, places) == short and len(taken) == 1


def test_a_pair_is_measured_once_in_the_same_words(before, monkeypatch):
    pair, mask = Pair(before, with_square(before)), np.zeros((SIDE, SIDE), np.uint8)
    first, all_counts = pair.measure((PLACE,)), pair.measure(())
    assert all_counts.outside > first.outside == 0
    assert pair.measure((PLACE,), mask).outside > 0 == pair.measure((PLACE,), mask + 255).outside, "a mask goes first"
    areas = pair.areas
    assert areas == Pair(before, with_square(before)).areas != ()
    monkeypatch.setattr(changes, "_difference", lambda *_: pytest.fail("it is known"))
    assert pair.measure([PLACE]) is first and pair.measure(()) is all_counts and pair.areas is areas


@pytest.mark.parametrize("level", [90, 133, 201])
@pytest.mark.parametrize("shape", [(140, 314), (97, 90), (279, 299)])
def test_nothing_is_known_of_the_offset_of_a_plain_picture_in_which_a_dot_was_changed(shape, level):
    """What a sum leaves of the plain picture in its last bits had a place of its own, and so an offset."""
    before = np.full((*shape, 3), level, np.uint8)
    after, (row, column) = before.copy(), (shape[0] * 2 // 3, shape[1] // 2)
    after[row : row + 2, column : column + 2] += 17
    for places in (((0.2, 0.15, 1.0, 0.27),), ((0.2, 0.15, 1.0, 0.27), (0.0, 0.33, 1.0, 0.54))):
        change = measure(before, after, places)
        assert change.offset is None and change.scale is None and change.strength == 17
