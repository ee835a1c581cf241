"""Picture -> scene, exactly or not at all: what is not clearly one of the world's things is reported as unclear.

The reader is a small network of its own (reader.py), which was trained on drawn scenes and never sees what the loop is
about.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput
from .codes import KINDS, LOOKS
from .scene import BACKDROPS, CANVAS, CELLS, JITTER, LETTERS, PLAIN, SIGN, SIZES, Scene, Thing, looks

if TYPE_CHECKING:
    from .reader import Reader
    from .readout import EncoderReader

SURE = 0.6
"""Least probability of each thing that is read: kind, look, size, every letter, the backdrop. Below it the cell, or the
backdrop, is unclear."""
WEIGHTS = Path(__file__).parent / "reader.safetensors"


@dataclass(frozen=True, slots=True)
class Perception:
    """What a picture shows.

    things: the clear things in the order of their cells.
    backdrop: its name, or None where it is not clear.
    unclear: the cells that hold something which is no clear thing, ascending.
    """

    things: tuple[Thing, ...] = ()
    backdrop: str | None = PLAIN
    unclear: tuple[int, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.unclear and self.backdrop is not None

    def at(self, cell: int) -> Thing | None:
        return next((thing for thing in self.things if thing.cell == cell), None)

    def scene(self) -> Scene:
        """The clear things, on a plain backdrop where that is unclear."""
        return Scene(self.things, self.backdrop or PLAIN)


@dataclass(frozen=True, slots=True)
class EditCheck:
    """How an edit went.

    target_ok       what the edit names is as wanted
    untouched_ok    everything else is as it was
    moved           the other cells where something changed, ascending
    """

    target_ok: bool
    untouched_ok: bool
    moved: tuple[int, ...]

    @property
    def success(self) -> bool:
        return self.target_ok and self.untouched_ok


def perceive(image: np.ndarray) -> Perception:
    """Read a uint8 192 x 192 x 3 picture.

    Raises ValueError for any other shape or dtype, and BadInput if the reader's weights are not there.
    """
    if image.shape != (CANVAS, CANVAS, 3) or image.dtype != np.uint8:
        raise ValueError(f"the reader takes uint8 {CANVAS} x {CANVAS} x 3 pictures, not {image.dtype} {image.shape}")
    return _perceived(image.tobytes(), reader())


@lru_cache(256)  # the same few pictures are read many times
def _perceived(pixels: bytes, network: Reader | EncoderReader) -> Perception:
    return read([np.frombuffer(pixels, np.uint8).reshape(CANVAS, CANVAS, 3)], network)[0]


def place() -> Path:
    """Where the reader's weights are: CLVR_READER names the place where it is not the package's file. A folder is one of
    weights whose own encoder reads (readout.py)."""
    return Path(os.environ.get("CLVR_READER") or WEIGHTS)


def source() -> str:
    """Say by what pictures are read where that is not the world's reader; "" where it is."""
    return f"read by the encoder of {place().name}" if place().is_dir() else ""


def _remedy(file: Path) -> str:
    if file == WEIGHTS:
        return "reinstall clvr, which ships the file"
    return "set CLVR_READER to a file that `clvr train stickers reader` wrote, or unset it"


@cache
def reader() -> Reader | EncoderReader:
    """Load the reader that `place` names. Raises BadInput if it is missing or damaged."""
    import torch

    from . import readout
    from .reader import load

    file = place()
    if not file.exists():
        raise BadInput(
            f"the stickers are read by a network whose weights are not in {file}; {_remedy(file)}. Until then CLVR_READER may "
            "name a folder of weights of this world: their own encoder then reads the pictures, which is no independent judge"
        )
    # A network draws its first weights; a training that reads for the first time goes on as if it had not.
    with torch.random.fork_rng(devices=[]):
        return readout.load(file) if file.is_dir() else load(file)


def read(images: Sequence[np.ndarray], network: Reader | EncoderReader) -> list[Perception]:
    """Read several uint8 192 x 192 x 3 pictures at once."""
    import torch

    device = next(network.parameters()).device
    pictures = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        cells, whole = network(pictures)
    return [perceived(*pair) for pair in zip(cells.float().cpu().numpy(), whole.float().cpu().numpy())]


def perceived(cells: np.ndarray, whole: np.ndarray) -> Perception:
    """Return the perception that the reader's outputs for one picture mean. cells: 9 x sum(SPLIT). whole: 9 logits."""
    from .reader import SPLIT, UNCLEAR

    found, unclear = [], []
    ends = np.cumsum(SPLIT)[:-1]
    for cell, row in zip(CELLS, cells):
        kind, look, size, offset, *letters = np.split(row, ends)
        what = _sure(kind)
        if what == 0:
            continue
        thing = None if what in (None, UNCLEAR) else _thing(cell, KINDS[what], look, size, offset, letters)
        if thing is None:
            unclear.append(cell)
        else:
            found.append(thing)
    backdrop = _sure(whole)
    known = BACKDROPS[backdrop] if backdrop is not None and backdrop < len(BACKDROPS) else None
    return Perception(tuple(found), known, tuple(unclear))


def _sure(logits: np.ndarray) -> int | None:
    """The likeliest class, or None if it is not sure."""
    best = int(logits.argmax())
    return best if 1 / np.exp(logits - logits[best]).sum() >= SURE else None


def _thing(cell: int, noun: str, look, size, offset, letters) -> Thing | None:
    """The thing that is read; None if a part of it is not sure, or the world has no such thing."""
    dx, dy = (int(each) for each in (offset * JITTER).round().clip(-JITTER, JITTER))
    if noun == SIGN:
        word = [_sure(each) for each in letters]
        if None in word:
            return None
        spelt = "".join(LETTERS[letter - 1] if letter else " " for letter in word if letter is not None).rstrip()
        return Thing(SIGN, LOOKS[0], "large", cell, dx, dy, spelt) if spelt and " " not in spelt else None
    which, big = _sure(look), _sure(size)
    if which is None or big is None or LOOKS[which] not in looks(noun):
        return None
    return Thing(noun, LOOKS[which], SIZES[big], cell, dx, dy)


def check_edit(before: np.ndarray, after: np.ndarray, expected: Scene, cells: Iterable[int]) -> EditCheck:
    """Check an edit by its two pictures, see comparing.compared. Raises as `perceive` does."""
    from .comparing import compared

    return compared(perceive(before), perceive(after), expected, cells)
