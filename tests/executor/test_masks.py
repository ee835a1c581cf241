"""A region in fractions of the canvas as the pixels that may change."""

from __future__ import annotations

import numpy as np
import pytest

from clvr_core.executor.masks import mask_of, within_mask
from clvr_core.protocols import DrawRequest
from tests.fakes import grey


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [((0.25, 0.5, 0.5, 0.75), (46, 79), (21, 54)), ((0.0, 0.0, 1.0, 1.0), (0, 100), (0, 100))],
)
def test_a_region_becomes_a_mask_with_a_margin(region, rows, columns):
    mask = mask_of(region, 100, 100)
    assert mask.dtype == np.uint8 and mask.shape == (100, 100)
    inside = np.zeros((100, 100), bool)
    inside[slice(*rows), slice(*columns)] = True
    assert np.array_equal(mask == 255, inside) and np.array_equal(mask == 0, ~inside)


def test_a_mask_has_a_soft_seam_on_its_inner_side_and_outside_it_nothing_changes():
    canvas, mask = np.random.default_rng(0).integers(0, 90, (100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)
    mask[:, :50] = 200
    found = within_mask(DrawRequest("a", 1, (canvas,), 100, 100, mask), grey(250, 100, 100))
    assert np.array_equal(found[:, 50:], canvas[:, 50:]) and (found[:, :48] == 250).all()
    seam = found[:, 48:50].mean((0, 2))
    assert 250 > seam[0] > seam[1] > canvas.mean(), "no step is as large as that of a hard cut"
