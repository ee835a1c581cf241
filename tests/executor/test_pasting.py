"""Repairs of edits whose damage is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clvr_core.executor.pasting import SEAM, blend, put_back
from clvr_core.trajectory import Change
from clvr_core.verifier.changes import measure

SIDE = 200
PLACE = (0.25, 0.25, 0.75, 0.75)
INSIDE = np.zeros((SIDE, SIDE), bool)
INSIDE[50:150, 50:150] = True


@pytest.fixture(scope="module")
def before() -> np.ndarray:
    dots = np.random.default_rng(5).integers(60, 190, (25, 25, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(dots).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def edited(before) -> np.ndarray:
    """With a thing in the middle, and nothing else changed."""
    picture = before.copy()
    picture[70:130, 70:130] = (200, 40, 40)
    return picture


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.square(one.astype(float) - other).mean(), 1e-9))


def test_outside_every_pixel_is_as_before(before):
    repaired = put_back(before, 255 - before, Change(1.0, meant=(PLACE,)))
    assert (repaired == before)[~INSIDE].all() and not (repaired == before)[INSIDE].all()


def test_a_pixel_whose_centre_is_meant_is_taken_from_the_edit_as_it_is_measured(before):
    edge = 51.5 / SIDE
    after = before.copy()
    after[:, 51:] = 255 - before[:, 51:]
    change = measure(before, after, ((edge, 0.0, 1.0, 1.0),))
    assert change.outside == 0
    assert not (put_back(before, after, change) == before)[:, 51].all()


def test_what_the_edit_put_there_stays(before, edited):
    damaged = edited.copy()
    damaged[:20] = 0
    repaired = put_back(before, damaged, Change(0.1, meant=(PLACE,)))
    assert psnr(repaired, edited) > 45


def test_a_shift_of_colour_is_taken_out_of_the_inside_too(before, edited):
    tinted = edited + np.array([9, 0, 14], np.uint8)
    repaired = put_back(before, tinted, Change(meant=(PLACE,)))
    assert psnr(repaired, edited) > 45 > 35 > psnr(tinted, edited)


def test_what_moved_is_moved_back(before, edited):
    moved = np.roll(edited, (3, -5), (0, 1))
    change = measure(before, moved, (PLACE,))
    repaired = put_back(before, moved, change)
    assert psnr(repaired, edited) > 30 > 20 > psnr(moved, edited)


def test_without_a_place_the_whole_is_moved_back_and_nothing_is_pasted(before):
    moved = np.roll(before, 4, 1)
    repaired = put_back(before, moved, Change(offset=(4.0, 0.0), scale=1.0))
    assert (repaired == before)[:, :-4].all()


def test_what_grew_shrinks_back(before):
    grown = (
        Image.fromarray(before).resize((SIDE + 8, SIDE + 8), Image.Resampling.BICUBIC).crop((4, 4, SIDE + 4, SIDE + 4))
    )
    repaired = put_back(before, np.asarray(grown), Change(scale=1.04, offset=(0.0, 0.0)))
    assert psnr(repaired, before) > 30 > psnr(np.asarray(grown), before)


def test_nothing_to_put_back_changes_nothing(before):
    assert (put_back(before, before, Change(meant=(PLACE,), offset=(0.0, 0.0), scale=1.0)) == before).all()


def test_the_seam_lies_inside_and_is_soft(before):
    outer, inner = np.zeros_like(before), np.full_like(before, 255)
    row = blend(outer, inner, INSIDE)[100, :, 0].astype(int)
    reach = round(SEAM * SIDE)
    assert (row[:50] == 0).all() and (row[150:] == 0).all() and (row[50 + reach : 150 - reach] == 255).all()
    assert (np.diff(row[49 : 51 + reach]) > 0).all() and row[50] < 128


def test_the_edge_of_the_picture_is_no_seam(before):
    inside = np.zeros((SIDE, SIDE), bool)
    inside[:100] = True
    assert (blend(np.zeros_like(before), np.full_like(before, 255), inside)[:90] == 255).all()
