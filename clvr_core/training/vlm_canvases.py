"""Canvases that weights drew, for the embedded vision-language model to learn to look at: drawn once, kept in files, and
labelled by the world's reader.

They come in parts of PART pictures, half of them new ones of random briefs, half edits of these. A part that is there is not
drawn again. Labels lie beside the pictures, by the reader that gave them, so that another reader only reads anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput
from ..executor.klein import KleinExecutor
from ..protocols import DrawRequest, Executor
from ..stickers import perceive as reading
from ..stickers.codes import codes, scene_of
from ..stickers.grammar import NotInGrammar
from ..stickers.phrases import instruct
from ..stickers.scene import CANVAS, Scene
from ..storage.atomic import keep_note, write_bytes, writing
from ..weights.manifest import digests
from .vlm_control import some_brief
from .vlm_questions import Chance, some_edit

PART = 64
NOTE = "canvases.json"
HELD_OUT = 16
"""One part in so many, at least one of several, is not trained on."""


@dataclass(frozen=True)
class Canvases:
    """The clear canvases of a folder.

    pictures: uint8 N x 192 x 192 x 3. cells, backdrops: what the reader sees on them, as codes.
    unseen: bool N, those that are held out.
    about: weights, reader and numbers, for the record.
    """

    pictures: np.ndarray
    cells: np.ndarray
    backdrops: np.ndarray
    unseen: np.ndarray
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Labels:
    """What stands on the canvases of a folder, for the processes that ask about them."""

    scenes: tuple[Scene, ...]
    places: tuple[int, ...]
    """Of each scene its picture in `Canvases`."""

    def draw(self, rng: Chance) -> tuple[int, Scene]:
        """Return the place of a picture, and what it shows."""
        at = rng.randrange(len(self.scenes))
        return self.places[at], self.scenes[at]


def labels(canvases: Canvases, unseen: bool) -> Labels:
    """Return what stands on the canvases that are held out, or on the others."""
    places = np.flatnonzero(canvases.unseen == unseen).tolist()
    return Labels(tuple(scene_of(canvases.cells[n], int(canvases.backdrops[n])) for n in places), tuple(places))


def drawn_by(
    folders: Sequence[Path],
    out: Path,
    count: int,
    seed: int = 0,
    device: str = "cpu",
    load: Callable[[Path, str], Executor] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Canvases:
    """Have the weights in the folders draw `count` canvases, in equal parts, into `out`, go on with what is there, and read
    them. Returns those that the reader sees clearly.

    load: makes an executor of a folder and a device; None for the sticker world's.

    Raises BadInput where `out` holds canvases of other weights, for folders of another world, if the reader is missing,
    and if there is no clear canvas to learn from.
    """
    parts = -(-count // PART)
    note = {"weights": [digests(folder) for folder in folders], "seed": seed}
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        if not keep_note(out / NOTE, json.dumps(note, indent=1)):
            raise BadInput(
                f"{out} holds canvases of other weights or of another seed; choose another folder with --out"
            )
    executors: dict[Path, Executor] = {}
    for number in range(parts):
        file = out / f"{number:05d}.npz"
        if file.exists():
            continue
        folder = folders[number % len(folders)]
        if folder not in executors:
            executors = {folder: (load or _load)(folder, device)}
        pictures = _draw(executors[folder], random.Random(f"{seed}/canvases/{number}"))
        with writing(out):
            write_bytes(file, _packed(pictures=pictures))
        tell(f"canvases: {(number + 1) * PART} of {parts * PART} drawn")
    reader = _reader_digest()[:12]
    read = [_labelled(out, number, reader) for number in range(parts)]
    clear = [each["clear"] for each in read]
    found = [np.load(out / f"{number:05d}.npz")["pictures"][kept] for number, kept in enumerate(clear)]
    of_part = np.repeat(np.arange(parts), [int(kept.sum()) for kept in clear])
    unseen = of_part % HELD_OUT == HELD_OUT - 1 if parts >= HELD_OUT else (of_part == parts - 1) & (parts > 1)
    if not len(of_part) or unseen.all():
        raise BadInput(
            f"the reader sees none of the {parts * PART} canvases in {out} clearly enough to learn from; give weights that draw "
            "better, or name another reader in CLVR_READER"
        )
    about = {
        "weights": [{"folder": folder.name, "files": files} for folder, files in zip(folders, note["weights"])],
        "read by": reading.source() or "the world's reader",
        "drawn": parts * PART,
        "clear": len(of_part),
        "held out": int(unseen.sum()),
    }
    cells, backdrops = (np.concatenate([each[name][each["clear"]] for each in read]) for name in ("cells", "backdrops"))
    return Canvases(np.concatenate(found), cells, backdrops, unseen, about)


def _load(folder: Path, device: str) -> Executor:
    executor = KleinExecutor.load(folder, device)
    if (side := executor.pipe.vae.config.sample_size) != CANVAS:
        raise BadInput(f"the weights in {folder} draw {side} px; those of the sticker world draw {CANVAS}")
    return executor


def _draw(executor: Executor, rng: Chance) -> np.ndarray:
    """Return PART pictures: half of briefs, and an edit of each."""
    briefs: list[str] = []
    while len(briefs) < PART // 2:
        try:
            briefs.append(some_brief(rng)[0].prompt)
        except NotInGrammar:
            continue
    asked = [DrawRequest(brief, rng.randrange(1 << 31), (), CANVAS, CANVAS) for brief in briefs]
    first = [drawing.picture for drawing in executor.draw(asked)]
    edits = []
    for picture, seen in zip(first, reading.read(first, reading.reader())):
        scene = seen.scene()
        words = instruct(some_edit(scene, rng), scene)
        edits.append(DrawRequest(words, rng.randrange(1 << 31), (picture,), CANVAS, CANVAS))
    return np.stack([*first, *(drawing.picture for drawing in executor.draw(edits))])


def _labelled(out: Path, number: int, reader: str) -> Mapping[str, np.ndarray]:
    """Return what the present reader sees on a part: cells, backdrops, and which pictures are clear."""
    file = out / f"{number:05d}.{reader}.npz"
    if not file.exists():
        pictures = np.load(out / f"{number:05d}.npz")["pictures"]
        seen = reading.read(list(pictures), reading.reader())
        cells, backdrops = codes([each.scene() for each in seen])
        clear = np.array([each.clean for each in seen])
        with writing(out):
            write_bytes(file, _packed(cells=cells, backdrops=backdrops, clear=clear))
    return np.load(file)


def _reader_digest() -> str:
    """Say by a digest of its files which reader is the present one."""
    place = reading.place()
    files = digests(place) if place.is_dir() else {"": hashlib.sha256(place.read_bytes()).hexdigest()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()
