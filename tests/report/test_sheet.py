from __future__ import annotations

import numpy as np
import pytest

from clvr_core.errors import BadInput
from clvr_core.report import contact_sheet
from clvr_core.report.sheet import GAP

RED, BLUE = (np.full((10, 20, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))


def test_pictures_stand_row_by_row_enlarged_without_smoothing() -> None:
    sheet = contact_sheet([(RED, ""), (BLUE, ""), (RED, "")], columns=2, scale=3)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (GAP + 2 * (30 + 2 + GAP), GAP + 2 * (60 + 2 + GAP), 3)
    red, blue = (sheet == (255, 0, 0)).all(-1), (sheet == (0, 0, 255)).all(-1)
    assert red.sum() == 2 * 30 * 60 and blue.sum() == 30 * 60
    assert red[GAP + 1, GAP + 1] and blue[GAP + 1, GAP + 1 + 60 + 2 + GAP] and red[GAP + 1 + 30 + 2 + GAP, GAP + 1]


def test_labels_wrap_and_end_in_dots() -> None:
    short = contact_sheet([(RED, "one")], 1, 4)
    long = contact_sheet([(RED, "several words that need more than one line " * 50)], 1, 4)
    word = contact_sheet([(RED, "w" * 5000)], 1, 4)
    assert short.shape[0] < long.shape[0] == word.shape[0]
    assert short.shape[1] == long.shape[1] == word.shape[1]


def test_sizes_may_differ_and_any_letter_may_stand_in_a_label() -> None:
    small = np.zeros((4, 4, 3), np.uint8)
    sheet = contact_sheet([(RED, "\u6f22\u5b57 \u062f\u0627\u0626\u0631\u0629"), (small, "\ud83d \n \xe9")], 5)
    assert (sheet == 0).all(-1).sum() >= 64


@pytest.mark.parametrize(("pictures", "columns", "scale"), [([], 1, 1), ([(RED, "")], 0, 1), ([(RED, "")], 1, 0)])
def test_nonsense_is_refused(pictures: list, columns: int, scale: int) -> None:
    with pytest.raises(BadInput):
        contact_sheet(pictures, columns, scale)
