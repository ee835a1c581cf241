"""Draws the icon and the banner for ComfyUI's registry: a picture of the embedded world inside the loop that paints it.

    python docs/emblem.py

Needs the pictures of the stickers (clvr_core/stickers/art.py). Writes docs/icon.png, 400 x 400 pixels, and docs/banner.png,
1680 x 720, the 21:9 that the registry asks for.
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clvr_core.stickers.art import picture, tinted
from clvr_core.stickers.scene import NATURAL

DOCS = Path(__file__).parent
SCALE = 4
"""Everything is drawn so many times larger, and scaled down."""
NIGHT, PAPER, INK = "#14181f", "#f4f1ea", "#e8e6e1"
YELLOW, RED, GREEN, BLUE = "#f2c230", "#d8452e", "#2f9e5b", "#3b6fd4"
STICKERS = (("cat", "red", 39, 39), ("umbrella", "yellow", 61, 39), ("tree", NATURAL, 39, 61), ("car", "blue", 61, 61))
"""Noun, look and middle, in hundredths of the emblem."""
GAP = 16
"""Degrees between two arrows of the loop."""


def emblem(side: int) -> Image.Image:
    """Draw the emblem on a transparent square of this many pixels."""
    unit = side * SCALE / 100
    image = Image.new("RGBA", (side * SCALE, side * SCALE))
    draw = ImageDraw.Draw(image)
    for number, color in enumerate((YELLOW, RED, GREEN, BLUE)):
        arrow(draw, unit, 90 * number - 90, color)
    box(draw, unit, (27, 27, 73, 73), 5, PAPER)
    for noun, color, x, y in STICKERS:
        paste(image, tinted(picture(noun), color), (x * unit, y * unit), 17 * unit)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def arrow(draw: ImageDraw.ImageDraw, unit: float, start: float, color: str) -> None:
    """Draw a quarter of the loop, from this angle clockwise, with its head at the end."""
    middle, radius, width = 50 * unit, 42 * unit, 8 * unit
    end = start + 90 - GAP
    reach = radius + width / 2
    draw.arc(
        [middle - reach, middle - reach, middle + reach, middle + reach], start, end, fill=color, width=round(width)
    )
    tip = [(end + 12, 42), (end - 1, 34.5), (end - 1, 49.5)]
    draw.polygon([at(middle, distance * unit, angle) for angle, distance in tip], fill=color)


def paste(image: Image.Image, sticker: Image.Image, middle: tuple[float, float], span: float) -> None:
    scale = span / max(sticker.size)
    sticker = sticker.resize((round(sticker.width * scale), round(sticker.height * scale)), Image.Resampling.LANCZOS)
    image.alpha_composite(sticker, (round(middle[0] - sticker.width / 2), round(middle[1] - sticker.height / 2)))


def at(middle: float, distance: float, degrees: float) -> tuple[float, float]:
    angle = math.radians(degrees)
    return middle + distance * math.cos(angle), middle + distance * math.sin(angle)


def box(
    draw: ImageDraw.ImageDraw, unit: float, sides: tuple[float, float, float, float], round_by: float, color: str
) -> None:
    draw.rounded_rectangle([side * unit for side in sides], round_by * unit, fill=color)


def main() -> None:
    icon = Image.new("RGBA", (400, 400))
    ImageDraw.Draw(icon).rounded_rectangle([0, 0, 399, 399], 72, fill=NIGHT)
    icon.alpha_composite(emblem(340), (30, 30))
    icon.quantize(128, Image.Quantize.FASTOCTREE).save(DOCS / "icon.png", optimize=True)

    banner = Image.new("RGBA", (1680, 720), NIGHT)
    banner.alpha_composite(emblem(520), (110, 100))
    draw = ImageDraw.Draw(banner)
    draw.text((730, 190), "CLVR", font=ImageFont.load_default(190), fill=INK)
    draw.text((738, 412), "Plan, draw, judge, keep or roll back:", font=ImageFont.load_default(42), fill=INK)
    draw.text((738, 470), "a picture is done when it shows your prompt.", font=ImageFont.load_default(42), fill=INK)
    banner.convert("RGB").quantize(128).save(DOCS / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
