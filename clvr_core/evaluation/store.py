"""The folder of pictures: one subfolder an arm, in the benchmark's own layout, and beside them what is known of each
picture.

IMAGES/NAME/...                       the pictures of one arm, and nothing that an official script would stumble over
IMAGES/clvr-eval/NAME/pictures.jsonl  how each was made, a line each, on disk before the next is begun;
                                      pictures-I-of-N.jsonl of a shard
IMAGES/clvr-eval/NAME/answers-*.jsonl what each judge said of each, likewise
IMAGES/clvr-eval/NAME/result-*.json   the numbers
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import BadInput
from ..fleet.output import Disk, Output
from ..protocols import Picture
from ..reading import json_of
from ..storage.atomic import write_bytes, writing
from ..storage.lines import Lines, read_lines
from ..storage.names import is_portable
from ..storage.pictures import DECODING_ERRORS, opened, pixels
from ..storage.png import write_png
from .benchmarks.base import PICTURES, Benchmark, Item
from .names import KEPT, NAME

MAX_SIDE = 8192


def seed_of(seed: str, item: str, k: int) -> int:
    """Return the seed of picture `k` of an item, below 2**32, which every library accepts. It is the same for every
    arm."""
    return int.from_bytes(hashlib.sha256(f"clvr-eval/{seed}/{item}/{k}".encode()).digest()[:4], "big")


class Arm:
    """The pictures of one name, and the records about them."""

    def __init__(self, images: Path, name: str) -> None:
        if not NAME.fullmatch(name) or name == KEPT:
            raise BadInput(
                f"name is {name!r:.80}; at most 64 letters, digits, dots, dashes and pluses, a letter or digit first"
            )
        self.images, self.name = images, name
        self.folder, self.kept = images / name, images / KEPT / name

    def find(self, bench: Benchmark, item: Item, k: int) -> Path | None:
        """Return the file of a picture: at the benchmark's path, or under the same name with another ending; None if
        there is none."""
        place = self.folder / bench.path(item, k)
        for path in (place, *(place.with_suffix(ending) for ending in PICTURES)):
            if path.is_file():
                return path
        return None

    def save(self, bench: Benchmark, item: Item, k: int, picture: Picture) -> Path:
        """Write a picture, whole or not at all. A .jpg is a JPEG of the highest quality, everything else a PNG."""
        path = self.folder / bench.path(item, k)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".jpg":
                file = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=98, subsampling=0)
                write_bytes(path, file.getvalue())
            else:
                write_png(path, picture, {})
        return path

    @property
    def where(self) -> str:
        """The folder or url of the pictures."""
        return str(self.folder)

    @property
    def runs(self) -> Output:
        """The place of the runs of a loop."""
        return Disk(self.kept / "runs")

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside the pictures, if it is not there as it is."""
        path = self.folder / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_bytes() != data:
                write_bytes(path, data)

    def agree(self, settings: dict[str, Any]) -> None:
        """Raise BadInput if the pictures of this name were made with other settings, or no folder can have the name."""
        if not is_portable(self.name):
            raise BadInput(f"name is {self.name!r}, which no folder can have here or on Windows; choose another --name")
        held = read_json(self.kept / "settings.json")
        if held is not None and held != settings:
            differs = [key for key in {*held, *settings} if held.get(key) != settings.get(key)]
            differences = "; ".join(
                f"{key} {held.get(key)!r:.80} and not {settings.get(key)!r:.80}" for key in sorted(differs)
            )
            raise BadInput(
                f"{self.name!r} in {self.images} holds pictures made otherwise: {differences}; choose another --name"
            )
        if (
            held is None
            and self.folder.is_dir()
            and any(self.folder.iterdir())
            and not any(self.kept.glob("pictures*.jsonl"))
        ):
            raise BadInput(f"{self.folder} holds pictures that were not made here; choose another --name")

    def settle(self, settings: dict[str, Any]) -> None:
        """Record the settings of the pictures. Raises as `agree` does."""
        self.agree(settings)
        write_json(self.kept / "settings.json", settings)

    @property
    def settings(self) -> dict[str, Any]:
        return read_json(self.kept / "settings.json") or {}

    def pictures(self, suffix: str = "") -> Lines:
        """Return the file that this process writes. suffix: of its shard."""
        return Lines(self.kept / f"pictures{suffix}.jsonl")

    def made(self) -> list[dict[str, Any]]:
        """Return what is recorded of the pictures, by all shards."""
        return [line for path in sorted(self.kept.glob("pictures*.jsonl")) for line in read_lines(path)]

    def answers(self, key: str) -> Lines:
        return Lines(self.kept / f"answers-{key}.jsonl")

    def results(self) -> list[dict[str, Any]]:
        return [found for path in sorted(self.kept.glob("result-*.json")) if (found := read_json(path)) is not None]


def arms_in(images: Path) -> list[Arm]:
    """Return the names with pictures or records in a folder, sorted. Raises BadInput if there is no such folder."""
    if not images.is_dir():
        raise BadInput(
            f"the folder {images} is not there; make pictures with clvr eval generate, or put them into a folder of it by hand"
        )
    names = {
        path.name for folder in (images, images / KEPT) if folder.is_dir() for path in folder.iterdir() if path.is_dir()
    }
    return [Arm(images, name) for name in sorted(names) if name != KEPT and NAME.fullmatch(name)]


def read_picture(path: Path) -> Picture:
    """Read a picture as uint8 H x W x 3. Raises BadInput for a file that is no whole PNG, JPEG or WebP."""
    try:
        with opened(path.read_bytes()) as image:
            if max(image.size) > MAX_SIDE:
                raise BadInput(
                    f"{path} is {image.size[0]} x {image.size[1]} pixels; at most {MAX_SIDE} on a side are read"
                )
            return pixels(image)
    except BadInput:
        raise
    except DECODING_ERRORS as error:
        raise BadInput(f"{path} cannot be read as a picture: {error}") from error


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON file; None if it does not exist or is empty, as a kill may have left it."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip("\0"):
            return None
        value = json_of(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}); delete it and run the command again") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds no object; delete it and run the command again")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(value, indent=1, allow_nan=False).encode() + b"\n")
