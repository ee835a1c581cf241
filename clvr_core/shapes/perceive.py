"""Picture -> scene, exactly or not at all: what is drawn but is not cleanly one of the world's things is reported as
junk.

Every pixel of a clean picture is a mixture of the background and one palette colour, also after blur, resampling or
noise. So each pixel is given the colour of the nearest such mixture, pixels of one colour are joined into blobs, and
the alpha of each blob is compared with drawn shapes at their true size. What the drawn shapes do not explain is junk
too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from .render import coverage
from .scene import BACKGROUND, CANVAS, CELL, CELLS, COLORS, GRID, JITTER, PALETTE, RADII, SHAPES, SIZES, Scene, Thing

THING_AREA = 18  # px; a smaller blob is dirt
DIRT_AREA = 6  # px; a smaller blob is noise
MATCH = 0.82  # soft IoU; below, the blob has no shape of the world
LEAD = 0.05  # of the best shape before the next; below, the blob is half-way between two shapes
MISFIT = 0.25  # mean over 3 x 3 px of alpha minus that of the best shape; beyond, a piece is missing or too much
COLOR_DISTANCE = 60.0  # RGB; farther from its palette colour, a thing is mixed
COLOR_LEAD = 0.7  # of the distance from the next palette colour; farther from its own than that, a thing is mixed too
FAINT = 40.0  # RGB distance from the background, averaged over 3 x 3 px, that makes a mark
REACH = JITTER + 1.5  # px from the cell's centre; farther out, a thing stands between cells

SIDE = 36  # px of the window in which a blob is read: a large triangle about its centroid, its soft edge and a shift
HALF = SIDE // 2
SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
BLURS = (0.0, 0.8, 1.5)
KINDS = tuple((shape, size) for shape in SHAPES for size in SIZES)
BLANK = np.array(BACKGROUND, np.float32)
COLOR_OFFSETS = np.array([PALETTE[color] for color in COLORS], np.float32) - BLANK
COLOR_NORMS = (COLOR_OFFSETS**2).sum(1)
PIXEL_Y, PIXEL_X = np.indices((CANVAS, CANVAS)).reshape(2, -1)
PIXEL_CELL = PIXEL_Y // CELL * GRID + PIXEL_X // CELL


@dataclass(frozen=True, slots=True)
class Sighting:
    """One blob on the canvas.

    thing   the best reading, offsets rounded to pixels; None if the blob cannot be read as a thing
    center  (x, y) in pixels on the canvas: of the thing as drawn if it was read, else of the blob's pixels
    area    in pixels
    match   soft IoU with the best drawn shape, 0..1; 0 where none was tried
    cells   those that hold at least 6 px of the blob, or else the one of its centre
    reason  "" for a clean thing, else "unknown shape", "mixed colour", "out of place", "two in one cell", "dirt" or
    "stray mark"
    """

    thing: Thing | None
    center: tuple[float, float]
    area: float
    match: float
    cells: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Perception:
    """The clean things in the order of their cells, at most one a cell, and everything else that is drawn."""

    things: tuple[Thing, ...] = ()
    junk: tuple[Sighting, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.junk

    @property
    def unclear(self) -> tuple[int, ...]:
        """The cells that hold junk, ascending."""
        return tuple(sorted({cell for sighting in self.junk for cell in sighting.cells}))

    def at(self, cell: int) -> Thing | None:
        return next((thing for thing in self.things if thing.cell == cell), None)

    def scene(self) -> Scene:
        """The clean things; of two in one cell `perceive` has already moved the worse match to the junk."""
        return Scene(self.things)


@dataclass(frozen=True, slots=True)
class EditCheck:
    """How an edit went.

    target_ok       the edit's cells hold what was wanted and nothing else
    untouched_ok    every other cell holds what it held before
    moved           the other cells where something moved, changed, vanished or appeared, ascending
    outside_change  mean absolute change of the pixels outside the edit's cells, 0..1
    """

    target_ok: bool
    untouched_ok: bool
    moved: tuple[int, ...]
    outside_change: float

    @property
    def success(self) -> bool:
        return self.target_ok and self.untouched_ok


def source() -> str:
    """Say by what pictures are read where that is not this perceiver: nothing else."""
    return ""


def perceive(image: np.ndarray) -> Perception:
    """Reads a uint8 96 x 96 x 3 picture. Raises ValueError for any other shape or dtype."""
    _require_canvas(image)
    return _perceived(image.tobytes())


@lru_cache(256)  # the same few pictures are perceived many times
def _perceived(pixels: bytes) -> Perception:
    seen = sightings(np.frombuffer(pixels, np.uint8).reshape(CANVAS, CANVAS, 3))
    things = tuple(sighting.thing for sighting in seen if sighting.thing and not sighting.reason)
    return Perception(things, tuple(sighting for sighting in seen if sighting.reason))


def sightings(image: np.ndarray) -> tuple[Sighting, ...]:
    """All that is drawn on a picture, clean things first, in the order of their cells.

    Takes and raises what `perceive` does.
    """
    _require_canvas(image)
    offset = image.astype(np.float32) - BLANK
    smooth = _mean(offset)
    colors, alpha = _mixtures(offset, smooth)
    blobs = _blobs(np.where(alpha >= 0.5, colors, 0))
    views = _views(offset, blobs)
    strays = _blobs(_unexplained(smooth, blobs, views))
    seen = [
        *_one_per_cell([view.sighting for view in views]),
        *(blobs.unread(number, "dirt") for number in blobs.sized(DIRT_AREA, THING_AREA)),
        *(strays.unread(number, "stray mark") for number in strays.sized(DIRT_AREA)),
    ]
    return tuple(sorted(seen, key=lambda sighting: (sighting.reason != "", _cell_at(sighting.center), sighting.center)))


def matches(perception: Perception, scene: Scene, tolerance_px: int = 3) -> bool:
    """Say whether the same things are in the same cells, nothing else is drawn, and no centre differs by more than the
    tolerance."""
    return (
        perception.clean
        and len(perception.things) == len(scene.things)
        and all(_same(perception.at(thing.cell), thing, tolerance_px) for thing in scene.things)
    )


def check_edit(
    before: np.ndarray, after: np.ndarray, expected: Scene, cells: frozenset[int], tolerance_px: int = 3
) -> EditCheck:
    """Check an edit of `cells` that should have led to `expected`; only those cells of it are compared, without
    offsets.

    The other cells are compared with `before`, within the tolerance in x and y: what was wrong there already does not
    count against the edit, and junk may vanish. Raises ValueError as `perceive` does.
    """
    old, new = perceive(before), perceive(after)
    fresh = {
        cell
        for junk in new.junk
        if not any(_same_junk(junk, known, tolerance_px) for known in old.junk)
        for cell in junk.cells
    }
    others = [cell for cell in CELLS if cell not in cells]
    moved = tuple(cell for cell in others if cell in fresh or not _same(new.at(cell), old.at(cell), tolerance_px))
    wanted = all(_kind(new.at(cell)) == _kind(expected.at(cell)) for cell in cells)
    return EditCheck(wanted and cells.isdisjoint(new.unclear), not moved, moved, _change(before, after, others))


def misread(perception: Perception, rate: float, rng: random.Random) -> Perception:
    """Return the perception of a reader that errs: each thing is overlooked with probability `rate`, and each of shape,
    colour and size of the others is replaced with the same probability.

    Junk stays. Raises ValueError for a rate outside 0 to 1.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"a misreading rate is a probability, 0 to 1, not {rate}")

    def atom(value: str, values: tuple[str, ...]) -> str:
        return rng.choice([other for other in values if other != value]) if rng.random() < rate else value

    return Perception(
        tuple(
            replace(
                thing, shape=atom(thing.shape, SHAPES), color=atom(thing.color, COLORS), size=atom(thing.size, SIZES)
            )
            for thing in perception.things
            if rng.random() >= rate
        ),
        perception.junk,
    )


def _kind(thing: Thing | None) -> tuple[str, str, str] | None:
    return thing.kind if thing else None


def _near(a: tuple[float, float], b: tuple[float, float], tolerance_px: float) -> bool:
    return abs(a[0] - b[0]) <= tolerance_px and abs(a[1] - b[1]) <= tolerance_px


def _same(a: Thing | None, b: Thing | None, tolerance_px: float) -> bool:
    return _kind(a) == _kind(b) and (a is None or b is None or _near(a.center, b.center, tolerance_px))


def _same_junk(a: Sighting, b: Sighting, tolerance_px: float) -> bool:
    return _kind(a.thing) == _kind(b.thing) and _near(a.center, b.center, tolerance_px) and 0.5 < a.area / b.area < 2


def _change(before: np.ndarray, after: np.ndarray, cells: list[int]) -> float:
    if not cells:
        return 0.0
    change = (
        abs(after.astype(np.float32) - before.astype(np.float32))
        .reshape(GRID, CELL, GRID, CELL, 3)
        .mean((1, 3, 4))
        .ravel()
    )
    return float(change[cells].mean() / 255)


# ---- from pixels to blobs


def _require_canvas(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != (CANVAS, CANVAS, 3):
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"the perceiver reads uint8 arrays of shape ({CANVAS}, {CANVAS}, 3), not {found}")


def _mean(field: np.ndarray) -> np.ndarray:
    """3 x 3 mean over the first two axes, zero outside."""
    padded = np.zeros((field.shape[0] + 2, field.shape[1] + 2, *field.shape[2:]), field.dtype)
    padded[1:-1, 1:-1] = field
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def _spread(field: np.ndarray, pick: np.ufunc) -> np.ndarray:
    """3 x 3 `pick` (np.maximum, np.minimum) over the last two axes."""
    rows = field.copy()
    pick(rows[..., 1:, :], field[..., :-1, :], out=rows[..., 1:, :])
    pick(rows[..., :-1, :], field[..., 1:, :], out=rows[..., :-1, :])
    out = rows.copy()
    pick(out[..., 1:], rows[..., :-1], out=out[..., 1:])
    pick(out[..., :-1], rows[..., 1:], out=out[..., :-1])
    return out


def _squares(field: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i", field, field)


def _mixtures(offset: np.ndarray, smooth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel as a share of one colour over the background: (1 + the colour's index, alpha), both 0 where nothing is
    drawn."""
    drawn = np.flatnonzero(_squares(offset) > FAINT**2)
    # The mean of neighbours lies on the same line from background to colour as the pixel itself, with a third of the
    # noise.
    norms = COLOR_NORMS[:, None]
    dots = COLOR_OFFSETS @ smooth.reshape(-1, 3)[drawn].T
    share = np.clip(dots / norms, 0, 1)
    nearest = (share * (share * norms - 2 * dots)).argmin(0)
    colors, alpha = np.zeros((CANVAS, CANVAS), np.int32), np.zeros((CANVAS, CANVAS), np.float32)
    colors.flat[drawn] = nearest + 1
    alpha.flat[drawn] = (
        np.einsum("ij,ij->i", offset.reshape(-1, 3)[drawn], COLOR_OFFSETS[nearest]) / COLOR_NORMS[nearest]
    )
    return colors, alpha


class _Blobs(NamedTuple):
    """Connected regions of one colour, numbered from 1; row 0 of each table is for the rest of the canvas."""

    numbers: np.ndarray  # canvas, noise left out
    colors: np.ndarray
    areas: np.ndarray
    centers: np.ndarray  # (x, y) means of the pixels
    spans: np.ndarray  # pixels by cell

    def sized(self, low: int, high: float = np.inf) -> list[int]:
        return (np.flatnonzero((self.areas[1:] >= low) & (self.areas[1:] < high)) + 1).tolist()

    def unread(self, number: int, reason: str, match: float = 0.0) -> Sighting:
        center = tuple(self.centers[number].tolist())
        cells = tuple(np.flatnonzero(self.spans[number] >= DIRT_AREA).tolist()) or (_cell_at(center),)
        return Sighting(None, center, float(self.areas[number]), match, cells, reason)


def _blobs(colors: np.ndarray) -> _Blobs:
    """The 8-connected regions of one nonzero value: runs of each row, joined to those they touch in the next."""
    padded = np.pad(colors, ((0, 0), (1, 1)))
    row, flat = padded.shape[1], padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = edges[:-1], edges[1:]
    drawn = flat[starts] > 0
    starts, ends = starts[drawn], ends[drawn]
    values, root = flat[starts].tolist(), list(range(len(starts)))

    def find(run: int) -> int:
        while root[run] != run:
            root[run] = root[root[run]]
            run = root[run]
        return run

    first = np.searchsorted(ends, starts + row, side="left").tolist()
    last = np.searchsorted(starts, ends + row, side="right").tolist()
    for run, value in enumerate(values):
        for below in range(first[run], last[run]):
            if values[below] == value:
                root[find(below)] = find(run)
    roots, which = np.unique(np.array([find(run) for run in root], np.int64), return_inverse=True)
    numbers = np.zeros(padded.shape, np.int64)
    numbers[padded > 0] = np.repeat(which + 1, ends - starts)
    numbers = numbers[:, 1:-1].ravel()
    count = len(roots) + 1
    spans = np.bincount(numbers * len(CELLS) + PIXEL_CELL, minlength=count * len(CELLS)).reshape(count, len(CELLS))
    areas = spans.sum(1)
    centers = np.stack([np.bincount(numbers, axis) for axis in (PIXEL_X, PIXEL_Y)], 1) / np.maximum(areas, 1)[:, None]
    kept = np.where(areas[numbers] < DIRT_AREA, 0, numbers).reshape(colors.shape)
    return _Blobs(kept, np.concatenate([[0], flat[starts[roots]]]), areas, centers, spans)


# ---- from blobs to things


class _Templates(NamedTuple):
    """The drawn shapes in windows about their centroids, indexed by kind, blur, y shift, x shift."""

    alpha: np.ndarray
    areas: np.ndarray
    outer: np.ndarray  # where nothing of the thing is left, even when blurred
    centroids: np.ndarray  # (x, y) about the centre, by kind


@cache
def _templates() -> _Templates:
    axis = np.arange(SIDE, dtype=np.float32) - HALF
    stack, centroids = [], []
    for shape, size in KINDS:
        centered = coverage(shape, RADII[size], side=SIDE)
        centroids.append((centered.sum(0) @ axis / centered.sum(), centered.sum(1) @ axis / centered.sum()))
        left, up = np.round(centroids[-1]).tolist()
        shifted = np.stack([[coverage(shape, RADII[size], (x - left, y - up), SIDE) for x in SHIFTS] for y in SHIFTS])
        stack.append([_blur(shifted, sigma) for sigma in BLURS])
    alpha = np.array(stack)
    outer = _spread(_spread(alpha, np.maximum), np.maximum) < 0.1
    return _Templates(alpha, alpha.sum((-2, -1)), outer, np.array(centroids))


def _blur(alpha: np.ndarray, sigma: float) -> np.ndarray:
    if not sigma:
        return alpha
    place = np.arange(SIDE, dtype=np.float32)
    kernel = np.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    kernel /= kernel[HALF].sum()
    return kernel @ alpha @ kernel


class _View(NamedTuple):
    """A blob of the area of a thing: its reading, and the window and the template for it."""

    sighting: Sighting
    number: int
    window: tuple[slice, slice]  # on the canvas with its margin
    color: int
    template: tuple[int, ...]


def _margin(field: np.ndarray) -> np.ndarray:
    """The canvas with HALF px of zeros around, so that every window is whole."""
    wide = np.zeros((CANVAS + SIDE, CANVAS + SIDE, *field.shape[2:]), field.dtype)
    wide[HALF:-HALF, HALF:-HALF] = field
    return wide


def _views(offset: np.ndarray, blobs: _Blobs) -> list[_View]:
    owners = blobs.numbers
    for _ in range(2):  # px of soft edge
        owners = np.where(owners > 0, owners, _spread(owners, np.maximum))
    cores = np.where(_spread(blobs.numbers, np.minimum) == _spread(blobs.numbers, np.maximum), blobs.numbers, 0)
    owners, cores, offset = _margin(owners), _margin(cores), _margin(offset)
    views = []
    for number in blobs.sized(THING_AREA):
        x, y = (round(place) for place in blobs.centers[number].tolist())
        window, color = (slice(y, y + SIDE), slice(x, x + SIDE)), int(blobs.colors[number]) - 1
        owned, core, pixels = owners[window] == number, cores[window] == number, offset[window]
        alpha = np.clip(pixels @ COLOR_OFFSETS[color] / COLOR_NORMS[color], 0, 1) * owned
        beyond = max(int(blobs.areas[number]) - int(np.count_nonzero(owned)), 0)
        template, match, lead, (dx, dy) = _match(alpha, beyond)
        misfit = abs(_mean(alpha - _templates().alpha[template])).max()
        if match < MATCH or lead < LEAD or misfit > MISFIT:
            sighting = blobs.unread(number, "unknown shape", match)
        elif not _is_color(pixels[core if core.any() else owned], color):
            sighting = blobs.unread(number, "mixed colour", match)
        else:
            sighting = _placed(blobs.unread(number, "", match), KINDS[template[0]], COLORS[color], (x + dx, y + dy))
        views.append(_View(sighting, number, window, color, template))
    return views


def _match(alpha: np.ndarray, beyond: int) -> tuple[tuple[int, ...], float, float, tuple[float, float]]:
    """The best template for a blob with `beyond` more pixels outside the window: (its index, soft IoU, lead before the
    best other shape, (x, y) of the thing's centre about that of the window). The centroid leaves one shift to try for
    each kind."""
    templates, axis = _templates(), np.arange(SIDE, dtype=np.float32) - HALF
    area = max(float(alpha.sum()), 1.0)  # a wide ring has nothing at its centroid
    centers = np.array([alpha.sum(0) @ axis, alpha.sum(1) @ axis]) / area - templates.centroids
    steps = np.round((centers + templates.centroids.round() - SHIFTS[0]) / (SHIFTS[1] - SHIFTS[0])).astype(int)
    x, y = np.clip(steps, 0, len(SHIFTS) - 1).T
    tried = np.arange(len(KINDS)), slice(None), y, x
    common = np.minimum(templates.alpha[tried], alpha).sum((-2, -1))
    scores = common / (area + beyond + templates.areas[tried] - common)
    kind, blur = divmod(int(scores.argmax()), len(BLURS))
    *_, second, first = np.sort(scores.reshape(len(SHAPES), -1).max(1)).tolist()
    return (kind, blur, int(y[kind]), int(x[kind])), first, first - second, tuple(centers[kind].tolist())


def _is_color(pixels: np.ndarray, color: int) -> bool:
    median = np.sort(pixels, 0)[len(pixels) // 2]
    distances = np.sqrt(((COLOR_OFFSETS - median) ** 2).sum(1))
    own, distances[color] = distances[color], np.inf
    return bool(own < min(COLOR_DISTANCE, COLOR_LEAD * distances.min()))


def _placed(sighting: Sighting, kind: tuple[str, str], color: str, center: tuple[float, float]) -> Sighting:
    home = Thing(kind[0], color, kind[1], _cell_at(center))
    dx, dy = center[0] - home.center[0], center[1] - home.center[1]
    reason = "" if max(abs(dx), abs(dy)) <= REACH else "out of place"
    return replace(sighting, thing=replace(home, dx=round(dx), dy=round(dy)), center=center, reason=reason)


def _cell_at(center: tuple[float, float]) -> int:
    column, row = (min(max(int((place + 0.5) // CELL), 0), GRID - 1) for place in center)
    return row * GRID + column


def _one_per_cell(seen: list[Sighting]) -> list[Sighting]:
    taken, kept = set[int](), []
    for sighting in sorted(seen, key=lambda sighting: -sighting.match):
        if sighting.thing and not sighting.reason:
            if sighting.thing.cell in taken:
                sighting = replace(sighting, reason="two in one cell")
            else:
                taken.add(sighting.thing.cell)
        kept.append(sighting)
    return kept


def _unexplained(smooth: np.ndarray, blobs: _Blobs, views: list[_View]) -> np.ndarray:
    """int32 canvas: 1 where there is something more than 2 px away from every blob, or from the outline of what it was
    read as."""
    marked = _margin(_squares(smooth) > FAINT**2)
    junk = blobs.numbers > 0
    for view in views:
        if view.sighting.thing:
            junk &= blobs.numbers != view.number
            marked[view.window] &= _templates().outer[view.template]
    marked = marked[HALF:-HALF, HALF:-HALF]
    return (marked & ~_spread(_spread(junk, np.maximum), np.maximum)).astype(np.int32)
