"""Picture files as data URLs: small ones bit for bit, large ones reduced."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

LOSSLESS = 256 * 256
SIDE = 1024
"""Pixels of the longer side of a reduced picture: what the page shows at most, for a screen of two pixels to each of CSS's, and what most
models draw."""


def embedded(path: Path | None) -> dict[str, str]:
    """`url`, or in `missing` why there is no picture."""
    if path is None or not Path(path).is_file():
        return {"missing": "is not in the run folder"}
    try:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
            picture = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return {"missing": "cannot be read as a picture"}
    file = io.BytesIO()
    if picture.width * picture.height <= LOSSLESS:
        picture.save(file, "PNG", optimize=True)
        kind = "png"
    else:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        picture.save(file, "JPEG", quality=90, subsampling=0)
        kind = "jpeg"
    return {"url": f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"}
