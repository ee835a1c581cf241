"""Picture files as data URLs: small ones bit for bit, large ones reduced."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

LOSSLESS = 256 * 256
"""Pixels up to which a picture is stored without loss."""
SIDE = 1024
"""Pixels of the longer side of a reduced picture: the largest size that the page shows, at two device pixels to a CSS
pixel, and the size of most models' canvases."""


def embedded(path: Path | None) -> dict[str, str]:
    """Return the picture as {"url": data URL}, or {"missing": why there is none}."""
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
