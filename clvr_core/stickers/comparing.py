"""What differs between a canvas and the scene that was wanted, or the canvas before an edit."""

from __future__ import annotations

from collections.abc import Iterable

from .perceive import EditCheck, Perception
from .scene import CELLS, JITTER, Scene, Thing


def matches(perception: Perception, scene: Scene, tolerance: int = JITTER) -> bool:
    """Say whether the same things are in the same cells before the same backdrop, nothing else is there or unclear, and
    no offset differs by more than the tolerance in pixels."""
    return (
        perception.clean
        and perception.backdrop == scene.backdrop
        and all(alike(perception.at(cell), scene.at(cell), tolerance) for cell in CELLS)
    )


def compared(before: Perception, after: Perception, expected: Scene, cells: Iterable[int]) -> EditCheck:
    """Check an edit of `cells` that should have led to `expected`; only those cells of it are compared, without
    offsets, and its backdrop.

    The other cells are compared with `before`: what was unclear there already does not count against the edit. The
    backdrop is what the edit names if the expected one is another than that before.
    """
    cells = frozenset(cells)
    setting = before.backdrop is not None and expected.backdrop != before.backdrop
    wanted = all(_kind(after.at(cell)) == _kind(expected.at(cell)) for cell in cells)
    wanted = wanted and cells.isdisjoint(after.unclear) and (not setting or after.backdrop == expected.backdrop)
    moved = changed(before, after, cells)
    return EditCheck(wanted, not moved and (setting or same_backdrop(before, after)), moved)


def changed(before: Perception, after: Perception, cells: Iterable[int] = ()) -> tuple[int, ...]:
    """Return the cells outside `cells`, ascending, where a thing is another than it was or stands more than JITTER
    pixels from where it stood, or that have become unclear. What was unclear may be anything."""
    given = {*cells, *before.unclear}
    return tuple(
        cell
        for cell in CELLS
        if cell not in given and (cell in after.unclear or not alike(before.at(cell), after.at(cell)))
    )


def same_backdrop(before: Perception, after: Perception) -> bool:
    """Say whether the backdrop is as it was; one that was unclear may be anything."""
    return before.backdrop in (None, after.backdrop)


def alike(one: Thing | None, other: Thing | None, tolerance: int = JITTER) -> bool:
    """Say whether two things are of one kind and stand within the tolerance of each other, in pixels along each axis."""
    if one is None or other is None:
        return one is other
    near = abs(one.dx - other.dx) <= tolerance and abs(one.dy - other.dy) <= tolerance
    return one.kind == other.kind and near


def _kind(thing: Thing | None) -> tuple[str, str, str, str] | None:
    return thing.kind if thing else None
