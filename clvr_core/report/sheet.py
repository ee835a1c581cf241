"""Contact sheets: many labelled pictures in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from ..errors import BadInput
from ..protocols import Picture

PAPER, INK, FRAME = (255, 255, 255), (40, 40, 42), (205, 205, 203)
GAP, PAD, LINES = 12, 4, 3


def contact_sheet(pictures: Sequence[tuple[Picture, str]], columns: int, scale: int = 2) -> Picture:
    """Return a grid of labelled pictures, uint8 H x W x 3, row by row from the top left.

    pictures: (uint8 h x w x 3, label). Sizes may differ; the largest sets the size of a cell.
    columns: pictures in a row, at least 1.
    scale: every pixel is enlarged by this whole number, at least 1.

    A label wraps at the width of its cell and ends in "..." after three lines. Raises BadInput without pictures and for
    a number below 1.
    """
    if not pictures:
        raise BadInput("a contact sheet needs at least one picture")
    if columns < 1 or scale < 1:
        raise BadInput(f"a contact sheet has columns and scale of 1 or more; found {columns} and {scale}")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    wide = scale * max(picture.shape[1] for picture, _ in pictures)
    high = scale * max(picture.shape[0] for picture, _ in pictures)

    font = ImageFont.load_default(13) if features.check("freetype2") else ImageFont.load_default()
    labels = [_wrap(label, wide, font) for _, label in pictures]
    line = _extent("Ag", font)[3] + 2
    strips = [max(len(label) for label in labels[row * columns : (row + 1) * columns]) * line for row in range(rows)]
    heights = [high + 2 + (PAD + strip if strip else 0) + GAP for strip in strips]

    sheet = Image.new("RGB", (GAP + columns * (wide + 2 + GAP), GAP + sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, ((picture, _), label) in enumerate(zip(pictures, labels)):
        row, column = divmod(index, columns)
        left, top = GAP + column * (wide + 2 + GAP), GAP + sum(heights[:row])
        tile = Image.fromarray(np.repeat(np.repeat(picture, scale, 0), scale, 1))
        x, y = left + 1 + (wide - tile.width) // 2, top + 1 + (high - tile.height) // 2
        pen.rectangle((x - 1, y - 1, x + tile.width, y + tile.height), outline=FRAME)
        sheet.paste(tile, (x, y))
        for number, words in enumerate(label):
            pen.text((left + 1, top + high + 2 + PAD + number * line), words, fill=INK, font=font)
    return np.array(sheet)


def _extent(words: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> tuple[int, int, int, int]:
    left, top, right, bottom = font.getbbox(words)
    return int(left), int(top), int(right), int(bottom)


def _wrap(label: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """Return at most LINES lines that fit into `width` pixels. A word that is too wide is broken."""
    if isinstance(font, ImageFont.ImageFont):  # Pillow without FreeType: Latin-1 only
        label = label.encode("latin-1", "replace").decode("latin-1")
    lines = [""]
    for word in label[: LINES * width].split():
        together = f"{lines[-1]} {word}".strip()
        if _extent(together, font)[2] <= width:
            lines[-1] = together
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and _extent(lines[-1] + letter, font)[2] > width:
                lines.append("")
            lines[-1] += letter
    lines = [line for line in lines if line]
    if len(lines) > LINES:
        lines = lines[:LINES]
        while lines[-1] and _extent(lines[-1] + "...", font)[2] > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + "..."
    return lines
