"""The picture that a run begins from, at a size that can be drawn."""

from __future__ import annotations

import numpy as np
import pytest

from clvr_core.run.start_image import crop_to_size, fit_to_canvas


def size_of(width: int, height: int, step: int = 16) -> tuple[int, int]:
    """Of a picture of this size, fitted into 64 x 64."""
    high, wide = fit_to_canvas(np.zeros((height, width, 3), np.uint8), 64, 64, step).shape[:2]
    return wide, high


@pytest.mark.parametrize(
    ("given", "found"),
    [((200, 100), (80, 32)), ((32, 64), (32, 64)), ((40, 40), (32, 32)), ((2000, 10), (896, 16)), ((10, 10), (16, 16))],
)
def test_it_keeps_its_proportions_and_each_side_at_least_one_step(given, found):
    assert size_of(*given) == found


def test_one_that_fits_is_not_touched():
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    assert fit_to_canvas(picture, 64, 64, 16) is picture and crop_to_size(picture, 64, 48) is picture


def test_a_hand_of_one_size_is_given_the_middle_of_it():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200
    assert crop_to_size(picture, 40, 40).min() == 200
