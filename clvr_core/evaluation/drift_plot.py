"""The curve of a drift test as a picture, by Pillow alone: ComfyUI brings no plotting library."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..protocols import Picture
from .drift import DriftReport

SIZE = 960, 540
LEFT, TOP, RIGHT, BOTTOM = 90, 70, 30, 70
"""Margins around the curves, in pixels."""
COLOURS = {"vae": "#7a7f87", "fresh": "#1f6fd6", "recursive": "#c4442c", "edits": "#1d8f5a"}
NAMES = {
    "vae": "VAE alone",
    "fresh": "change nothing, of the clean picture",
    "recursive": "change nothing, of the last answer",
    "edits": "small edits, each of the last",
}
INK, GRID = "#24272b", "#d9dce0"


def plot_drift(report: DriftReport) -> Picture:
    """Return the damage to the rest over the edits in a row, uint8 540 x 960 x 3."""
    image = Image.new("RGB", SIZE, "white")
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(19), ImageFont.load_default(15)
    curves = {name: report.damages(name) for name in NAMES if name in report.curves}
    times = max(len(points) for points in curves.values())
    top = max(1.5, 1.1 * max(max(points) for points in curves.values()))
    width, height = SIZE[0] - LEFT - RIGHT, SIZE[1] - TOP - BOTTOM

    def at(number: float, value: float) -> tuple[float, float]:
        return LEFT + width * number / times, TOP + height * (1 - value / top)

    step = _step(top)
    for count in range(int(top / step) + 1):
        value = count * step
        pen.line([at(0, value), at(times, value)], GRID)
        pen.text((LEFT - 10, at(0, value)[1]), f"{value:g}", INK, small, "rm")
    for number in range(times + 1):
        pen.text((at(number, 0)[0], SIZE[1] - BOTTOM + 8), str(number), INK, small, "ma")
    pen.line([at(0, 1), at(times, 1)], INK, 2)
    pen.text((LEFT + width - 4, at(times, 1)[1] - 4), "visible", INK, small, "rs")
    depth = report.calibration.depth
    pen.line([at(depth, 0), at(depth, top)], GRID, 2)
    for place, (name, points) in enumerate(curves.items()):
        line = [at(0, 0), *(at(number, value) for number, value in enumerate(points, 1))]
        pen.line(line, COLOURS[name], 3, "curve")
        for x, y in line[1:]:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), COLOURS[name])
        y = TOP + 14 + 24 * place
        pen.line([(LEFT + 16, y), (LEFT + 46, y)], COLOURS[name], 3)
        pen.text((LEFT + 54, y), NAMES[name], INK, small, "lm")
    title = f"{report.executor[:60]}: {depth} edits in a row, then from a clean picture"
    pen.text((LEFT, 34), title, INK, font, "lm")
    pen.text((LEFT + width / 2, SIZE[1] - 22), "edits since the clean picture", INK, small, "mm")
    pen.text((14, 52), "damage to what was to stay", INK, small, "lm")
    return np.asarray(image)


def _step(top: float) -> float:
    """Distance of the grid's lines: four to ten of them."""
    return next(step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10_000, 1e9) if top / step <= 10)
