"""The reader of the sticker world as a judge: exact truth that never saw what steered the pictures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

from ..errors import BadInput
from ..protocols import Picture
from ..stickers import perceive as reader
from ..stickers.grammar import parse
from ..stickers.judge import holds
from ..stickers.perceive import Perception
from ..stickers.phrases import describe
from ..stickers.scene import CANVAS, NATURAL, OWN, SPANS, Thing
from ..witness.detectors import Detection
from .benchmarks.base import Item
from .detector import ColorOf, Detector
from .judging import Judged


def name_of_reader() -> str:
    """Return what reads, in words."""
    return ", ".join(filter(None, ("reader of the sticker world", reader.source())))


def seen_in(picture: Picture) -> Perception:
    """Read a picture. Raises BadInput for one of another size than the world's, and without the reader's weights."""
    if picture.shape != (CANVAS, CANVAS, 3):
        raise BadInput(
            f"a picture is {picture.shape[1]} x {picture.shape[0]}; the sticker world's reader takes those of {CANVAS} x {CANVAS}"
        )
    return reader.perceive(picture)


class ReaderJudge:
    """Whether a picture shows its brief exactly.

    Of a prompt in GenEval's form all atoms have one answer: that the whole brief holds, and that nothing else is there,
    which GenEval's own rules allow. Of a long brief each goal has its own.
    """

    protocol = "exact scene: everything asked for and nothing else; of a long brief, each goal"
    words = hashlib.sha256(protocol.encode()).hexdigest()
    parallel = 1

    def __init__(self) -> None:
        self.name = name_of_reader()

    def look(self, item: Item, pictures: Sequence[Picture]) -> Judged:
        started = time.perf_counter()
        seen = seen_in(pictures[-1])
        if item.record.get("include"):
            whole = seen.clean and parse(item.prompt).holds(seen.scene())
            answers: dict[str, float | None] = {atom.id: float(whole) for atom in item.atoms}
        else:
            answers = {atom.id: float(holds(atom.text, seen)) for atom in item.atoms}
        said = {} if all(answers.values()) else {next(name for name, yes in answers.items() if not yes): told(seen)}
        return Judged(answers, said, calls=1, seconds=time.perf_counter() - started)


def told(seen: Perception) -> str:
    """Return what was read, in words."""
    things = ", ".join(describe(thing) for thing in seen.things) or "nothing"
    unclear = f"; {len(seen.unclear)} unclear" if seen.unclear else ""
    return f"{things}; scene: {seen.backdrop or 'unclear'}{unclear}"


class ReaderDetector(Detector):
    """The reader as an object detector with colours, for GenEval's rules on boxes. What is unclear has no box, and a sign
    is no class of theirs."""

    def __init__(self) -> None:
        super().__init__(name_of_reader(), lambda picture, names: [])

    def found(self, picture: Picture) -> list[Detection]:
        return [Detection(thing.noun, _box(thing), 1.0) for thing in seen_in(picture).things]

    def color_of(self, picture: Picture) -> ColorOf:
        looks = {_box(thing): _color(thing) for thing in seen_in(picture).things}
        return lambda detections: [looks[detection.box] for detection in detections]


def _box(thing: Thing) -> tuple[float, float, float, float]:
    (x, y), half = thing.center, SPANS[thing.size] / 2
    return x - half, y - half, x + half, y + half


def _color(thing: Thing) -> str:
    return thing.color if thing.color != NATURAL else OWN.get(thing.noun, NATURAL)
