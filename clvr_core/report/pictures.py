"""Picture files as data URLs: small ones bit for bit, large ones reduced."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from ..storage.pictures import DECODING_ERRORS, opened
from ..storage.png_decode import bare

LOSSLESS = 256 * 256
"""Pixels up to which a picture is stored without loss."""
SIDE = 1024
"""Pixels of the longer side of a reduced picture: the largest size that the page shows, at two device pixels to a CSS
pixel, and the size of most models' canvases."""
_LARGE = 1 << 22
"""Pixels beyond which a picture is decoded while no other is."""
_ALONE = ThreadPoolExecutor(1)
"""Decodes the large pictures. With a lock in its place each thread would keep the memory that it once had."""


def embedded(path: Path | None) -> dict[str, str]:
    """Return the picture as {"url": data URL}, or {"missing": why there is none}."""
    if path is None or not Path(path).is_file():
        return {"missing": "is not in the run folder"}
    try:
        data = Path(path).read_bytes()
        with opened(data) as image:
            count = image.width * image.height
            if count <= LOSSLESS and image.format == "PNG" and image.mode == "RGB" and not image.info:
                return {"url": _data_url("png", bare(data, count, checked=True).getvalue())}
            if count > _LARGE:
                return {"url": _ALONE.submit(_url, image, False).result()}
            return {"url": _url(image, count <= LOSSLESS)}
    except DECODING_ERRORS:
        return {"missing": "cannot be read as a picture"}


def _url(image: Image.Image, lossless: bool) -> str:
    picture, file = image if image.mode == "RGB" else image.convert("RGB"), io.BytesIO()
    if lossless:
        picture.copy().save(file, "PNG", optimize=True)
    else:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        picture.save(file, "JPEG", quality=90, subsampling=0)
    return _data_url("png" if lossless else "jpeg", file.getvalue())


def _data_url(form: str, data: bytes) -> str:
    return f"data:image/{form};base64,{base64.b64encode(data).decode()}"
