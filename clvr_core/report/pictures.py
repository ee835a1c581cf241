"""Picture files as data URLs: small ones bit for bit, large ones reduced."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .markup import Html, el

PIXEL_ART = 192
"""Pictures up to this side are drawn with hard pixels, at a whole multiple of their size."""
THUMB = 56
LOSSLESS = 256 * 256


@dataclass(frozen=True, slots=True)
class Embedded:
    """`width`, `height`: pixels of the file itself."""

    url: str
    width: int
    height: int

    def shown(self, side: int) -> tuple[int, int]:
        """Width and height in CSS pixels when `side` is the room for the longer one."""
        longer = max(self.width, self.height)
        if longer <= PIXEL_ART:
            times = max(1, side // longer)
            return self.width * times, self.height * times
        ratio = min(1.0, side / longer)
        return max(1, round(self.width * ratio)), max(1, round(self.height * ratio))


@dataclass(frozen=True, slots=True)
class Missing:
    why: str


class Album:
    """The pictures of one run, by canvas. Keeps what it has encoded."""

    def __init__(self, pictures: Callable[[int], Path | None] | Mapping[int, Path]) -> None:
        self._find = pictures.get if isinstance(pictures, Mapping) else pictures
        self._kept: dict[tuple[int, int], Embedded | Missing] = {}

    def get(self, canvas: int, side: int) -> Embedded | Missing:
        """The picture with room for `side` CSS pixels, encoded for screens of two pixels to each of these."""
        if (canvas, side) not in self._kept:
            self._kept[canvas, side] = self._embed(self._find(canvas), 2 * side)
        return self._kept[canvas, side]

    def image(self, canvas: int, side: int, alt: str, empty: str = "") -> Html:
        """An <img>, or a placeholder that says which file is missing. `empty` names the file in case nothing was found."""
        picture = self.get(canvas, side)
        if isinstance(picture, Missing):
            return el(
                "span",
                el("strong", "No picture"),
                el("bdi", f"{empty} {picture.why}".strip()),
                class_="missing",
                role="img",
                aria_label=f"Missing picture. {alt}",
            )
        width, height = picture.shown(side)
        hard = max(picture.width, picture.height) <= PIXEL_ART
        return el("img", src=picture.url, alt=alt, width=width, height=height, class_="pixels" if hard else None, decoding="async")

    def thumb(self, canvas: int, alt: str) -> Html | None:
        """A small <img>, or nothing where there is no picture."""
        found = not isinstance(self.get(canvas, THUMB), Missing)
        return el("span", self.image(canvas, THUMB, alt), class_="thumb") if found else None

    @staticmethod
    def _embed(path: Path | None, side: int) -> Embedded | Missing:
        if path is None or not Path(path).is_file():
            return Missing("is not in the run folder")
        try:
            with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
                picture = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
            return Missing("cannot be read as a picture")
        width, height = picture.size
        file = io.BytesIO()
        if width * height <= LOSSLESS:
            picture.save(file, "PNG", optimize=True)
            kind = "png"
        else:
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            picture.save(file, "JPEG", quality=90, subsampling=0)
            kind = "jpeg"
        return Embedded(f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}", width, height)
