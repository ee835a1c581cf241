"""Pictures for a server: encoded once as long as they are kept, and never one for another."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from clvr_core.vlm.encoded import EncodedPictures


@pytest.fixture
def saved(monkeypatch):
    """The sizes of the pictures that were encoded."""
    sizes, own = [], Image.Image.save

    def save(image, *given, **named):
        sizes.append(image.size)
        return own(image, *given, **named)

    monkeypatch.setattr(Image.Image, "save", save)
    return sizes


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*shape, 3)).astype(np.uint8)


def shown(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_the_same_pixels_are_encoded_once_and_the_same_bytes_of_another_shape_again(saved):
    encoded, picture = EncodedPictures(64), noise(0, 8, 4)
    first = encoded.url(picture, "jpeg")
    assert encoded.url(picture.copy(), "jpeg") is first and len(saved) == 1
    assert (shown(encoded.url(picture.reshape(4, 8, 3), "jpeg")) == picture.reshape(4, 8, 3)).all()
    assert (shown(encoded.url(picture[:, ::-1], "jpeg")) == picture[:, ::-1]).all() and len(saved) == 3


def test_a_form_is_kept_apart_from_the_other(saved):
    encoded, picture = EncodedPictures(1024), noise(1, 600, 520)
    urls = [encoded.url(picture, form) for form in ("jpeg", "png", "jpeg", "png")]
    assert urls[0].startswith("data:image/jpeg;") and urls[1].startswith("data:image/png;") and urls[:2] == urls[2:]
    assert len(saved) == 2 and (shown(urls[1]) == picture).all()


def test_what_was_not_asked_for_longest_is_forgotten_first(saved):
    pictures = [noise(seed, 32, 32) for seed in range(3)]
    encoded = EncodedPictures(64, most=2 * len(EncodedPictures(64).url(pictures[0], "png")) + 200)
    saved.clear()
    for place in (0, 1, 0, 2, 0, 1):
        assert (shown(encoded.url(pictures[place], "png")) == pictures[place]).all()
    assert len(saved) == 4, "0, 1, 2, and 1 again: 0 was asked for in between"


def test_one_that_is_larger_than_all_that_is_kept_is_sent_all_the_same():
    encoded, picture = EncodedPictures(64, most=10), noise(4, 16, 16)
    assert [(shown(encoded.url(picture, "png")) == picture).all() for _ in range(2)] == [True, True]
