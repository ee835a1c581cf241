"""The plot of a merge report: norms, cosine and survival by block, with the values that the paper expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from ..protocols import Picture
from .measures import DELTAS

COLORS = {"aligned": "#1f6fd6", "lora": "#b1417c", "distilled": "#1d8f5a"}
AMBER, GRAY, GRID, INK, BAND = "#c98a1b", "#8a8f98", "#e6e6e4", "#28282a", "#e3e5e8"
FINE = 2
"""The plot is drawn this many times larger and then reduced, because Pillow's lines are not antialiased."""
LEFT, RIGHT, TOP, HEIGHT, GAP, STEP = 96, 20, 30, 210, 24, 26


@dataclass(frozen=True)
class Line:
    """A curve: a value for each block, None where there is none."""

    name: str
    color: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Panel:
    """One diagram.

    label: its title.
    lines: its curves.
    low, high: range of the vertical axis.
    ticks: values with a grid line.
    logarithmic: scale of the vertical axis.
    band: expected range as (low, high, words), drawn as a grey band.
    mark: expected value, drawn as a grey line.
    """

    label: str
    lines: Sequence[Line]
    low: float
    high: float
    ticks: Sequence[float]
    logarithmic: bool = False
    band: tuple[float, float, str] | None = None
    mark: float | None = None

    def height_of(self, value: float) -> float:
        """Return the place of a value on the vertical axis: 0 at `low`, 1 at `high`, values outside moved to the nearer
        end."""
        low, high, value = (
            (log10(each) for each in (self.low, self.high, value)) if self.logarithmic else (self.low, self.high, value)
        )
        return min(max((value - low) / (high - low), 0.0), 1.0)


def picture(values: dict[str, Any]) -> Picture:
    """Draw the plot of a report that `merge_report` returned: uint8 H x W x 3, wider for more blocks."""
    blocks = values["blocks"]
    panels = _panels(blocks)
    step = max(STEP, 640 // max(len(blocks), 1))
    names = [_turned(name) for name in blocks]
    bottom = max((name.height for name in names), default=0) // FINE
    width = LEFT + step * max(len(blocks), 1) + RIGHT
    height = TOP + len(panels) * (HEIGHT + GAP) + bottom + 10
    sheet = Image.new("RGB", (width * FINE, height * FINE), "white")
    pen = ImageDraw.Draw(sheet)
    title = (
        "deltas by block, estimated from a sample" if values["sampled"] else "deltas by block, every weight measured"
    )
    pen.text((LEFT * FINE, 6 * FINE), title, fill=INK, font=_font(14))
    for number, panel in enumerate(panels):
        _draw(pen, panel, TOP + number * (HEIGHT + GAP), width, step)
    for index, name in enumerate(names):
        place = (LEFT + step * index + step // 2) * FINE - name.width // 2
        sheet.paste(name, (place, (height - bottom - 6) * FINE))
    return np.asarray(sheet.resize((width, height), Image.Resampling.LANCZOS))


def _panels(blocks: dict[str, dict[str, Any]]) -> list[Panel]:
    roles = [role for role in DELTAS if any(role in figures for figures in blocks.values())]

    def lines(key: str) -> list[Line]:
        return [
            Line(role, COLORS[role], [_percent(figures.get(role, {}).get(key)) for figures in blocks.values()])
            for role in roles
        ]

    norms, kept = lines("relative_norm"), lines("survival")
    norms = [Line(line.name, line.color, [value or None for value in line.values]) for line in norms]
    low, high = _range(norms, 2.0, 3.0)
    decades = [10.0**power for power in range(floor(log10(low)), ceil(log10(high)) + 1)]
    least, most = _range(kept, 0.0, 100.0)
    across = [
        Line("cosine, aligned against distilled", AMBER, [figures["cosine"] for figures in blocks.values()]),
        Line("share of sign conflicts", GRAY, [figures["sign_conflicts"] for figures in blocks.values()]),
    ]
    return [
        Panel(
            "norm, % of the base's", norms, decades[0], decades[-1], decades, True, (2.0, 3.0, "the paper's 2 to 3 %")
        ),
        Panel("cosine, conflicts", across, -1.0, 1.0, (-1.0, -0.5, 0.0, 0.5, 1.0), mark=0.0),
        Panel("left after rounding, %", kept, least, most, [*_ticks(least, most), 90.0], mark=90.0),
    ]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _range(lines: Sequence[Line], *more: float) -> tuple[float, float]:
    found = [*(value for line in lines for value in line.values if value is not None), *more]
    return min(found), max(found)


def _ticks(low: float, high: float) -> list[float]:
    """Return about four ticks at multiples of 1, 2.5 or 5 times a power of ten."""
    rough = (high - low) / 4
    power = 10.0 ** floor(log10(rough))
    step = next(each * power for each in (1, 2.5, 5, 10) if each * power >= rough)
    return [step * index for index in range(ceil(low / step), floor(high / step) + 1)]


def _draw(pen: ImageDraw.ImageDraw, panel: Panel, top: int, width: int, step: int) -> None:
    right = width - RIGHT

    def y(value: float) -> float:
        return (top + HEIGHT - panel.height_of(value) * (HEIGHT - 34)) * FINE

    if panel.band:
        pen.rectangle((LEFT * FINE, y(panel.band[1]), right * FINE, y(panel.band[0])), fill=BAND)
    for tick in panel.ticks:
        pen.line((LEFT * FINE, y(tick), right * FINE, y(tick)), fill=GRID, width=FINE)
        pen.text(((LEFT - 8) * FINE, y(tick)), f"{tick:g}", fill=INK, font=_font(11), anchor=_anchor("rm"))
    if panel.mark is not None:
        pen.line((LEFT * FINE, y(panel.mark), right * FINE, y(panel.mark)), fill=GRAY, width=FINE)
    for line in panel.lines:
        _curve(pen, line, y, step)
    pen.text((8 * FINE, (top + 6) * FINE), panel.label, fill=INK, font=_font(12))
    shown = [(line.name, line.color) for line in panel.lines] + ([(panel.band[2], BAND)] if panel.band else [])
    place = right * FINE
    for name, color in reversed(shown):
        place -= pen.textlength(name, font=_font(12))
        pen.text((place, (top + 6) * FINE), name, fill=INK, font=_font(12))
        place -= 22 * FINE
        pen.rectangle((place, (top + 9) * FINE, place + 16 * FINE, (top + 17) * FINE), fill=color)
        place -= 12 * FINE


def _curve(pen: ImageDraw.ImageDraw, line: Line, y: Callable[[float], float], step: int) -> None:
    before = None
    for index, value in enumerate(line.values):
        here = None if value is None else ((LEFT + step * index + step / 2) * FINE, y(value))
        if here:
            if before:
                pen.line((*before, *here), fill=line.color, width=FINE + 1)
            reach = 3 * FINE
            pen.ellipse((here[0] - reach, here[1] - reach, here[0] + reach, here[1] + reach), fill=line.color)
        before = here


def _turned(name: str) -> Image.Image:
    """Draw the name of a block, turned to be read from bottom to top."""
    left, _, right, bottom = _font(11).getbbox(name)
    label = Image.new("RGB", (int(right - left) + 8, int(bottom) + 6), "white")
    ImageDraw.Draw(label).text((4, 1), name, fill=INK, font=_font(11))
    return label.transpose(Image.Transpose.ROTATE_90)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * FINE) if features.check("freetype2") else ImageFont.load_default()


def _anchor(wanted: str) -> str | None:
    return wanted if features.check("freetype2") else None
