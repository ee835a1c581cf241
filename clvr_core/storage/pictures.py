"""Decodes pictures of others within bounds: PNG, JPEG and WebP."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image

from ..protocols import Picture
from .png_decode import bare, check_pixels
from .png_encode import SIGNATURE

MAX_PIXELS = 1 << 26
"""A limit, because a small file can hold a huge picture: this many pixels unpack to 200 MB."""
MAX_WEBP = 1 << 24
"""Pixels of a WebP, whose decoder holds each of them four times."""
FORMATS = ("PNG", "JPEG", "WEBP")
DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""What `opened` and `pixels` raise for a file that is not a whole picture; each describes itself in its text."""
_BAND = 1 << 22
"""Pixels that are converted at a time."""


@contextmanager
def opened(data: bytes, formats: tuple[str, ...] = FORMATS, most: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture, for `pixels` to decode.

    formats: by Pillow's names.
    most: pixels up to which a picture is decoded.

    Raises one of DECODING_ERRORS for what is no picture, has more pixels, or is a PNG that lacks some of them.
    """
    file = bare(data, most) if data.startswith(SIGNATURE) else io.BytesIO(data)
    with Image.open(file, formats=formats) as image:
        check_pixels(image.width, image.height, min(most, MAX_WEBP) if image.format == "WEBP" else most)
        yield image


def pixels(image: Image.Image, mode: Literal["RGB", "L"] = "RGB") -> Picture:
    """Decode an opened picture to uint8 H x W x 3, or H x W for the mode L. Transparency is left out.

    Bands of rows are converted one after another, so that no second copy of a large picture is made.
    """
    image.load()
    found = np.empty((image.height, image.width, 3)[: 3 if mode == "RGB" else 2], np.uint8)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        found[top : top + rows] = np.asarray(band.convert(mode))
    return found
