"""A region in fractions of the canvas as the pixels that may change."""

from __future__ import annotations

import numpy as np
import pytest

from clvr_core.executor.masks import mask_of


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
