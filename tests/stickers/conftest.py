from __future__ import annotations

import pytest

from clvr_core.stickers import perceive
from tests.stickers import eyes


@pytest.fixture(scope="module")
def reading_eyes():
    """Pictures are those of eyes.picture_of, and are read by eyes.perceive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceive, "perceive", eyes.perceive, raising=False)
        yield
