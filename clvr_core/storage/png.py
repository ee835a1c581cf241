"""PNGs that carry the trajectory of the run that drew them.

The trajectory is stored without wall times, as ASCII JSON with sorted keys, so that the same run gives the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from ..errors import BadInput
from ..protocols import Picture
from ..records import from_json, to_json
from ..trajectory import SCHEMA, Step, Trajectory, timeless, with_codes
from .atomic import write_bytes
from .png_encode import SIGNATURE, encode

TRAJECTORY_KEY = "clvr"
"""Key of the text that holds the trajectory."""
CANVAS_KEY = "clvr_canvas"
"""Key of the text that holds the picture's own number among the canvases."""

MAX_TEXT = 64 << 20
"""Bytes of all texts of a picture."""
MAX_PIXELS = 1 << 26
"""A limit, because a small file can hold a huge picture: this many pixels unpack to 200 MB."""
MAX_COMPRESSED = 1 << 20
"""Bytes of an unpacked text. Pillow, and with it ComfyUI, refuses a picture with a longer compressed text."""


def save_png(
    path: str | os.PathLike[str],
    picture: Picture,
    trajectory: Trajectory,
    canvas: int,
    step_json: dict[int, tuple[Step, str]] | None = None,
    texts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a picture with the trajectory up to now.

    path: the file, replaced if it exists.
    picture: uint8 H x W x 3.
    trajectory: stored without wall times.
    canvas: number of the picture among the canvases of the run.
    step_json: cache of the JSON of each step by its index, filled here. Pass the same dict for every canvas of a run,
        so that earlier steps are not encoded again.
    texts: other texts to store, by key.

    Raises BadInput for a picture of another type or shape, OSError if the folder cannot be written.
    """
    record = to_json(timeless(replace(trajectory, steps=()))) | {"schema": trajectory.schema}
    cache = {} if step_json is None else step_json
    text, steps = _dumps(record), ",".join(_step_json(step, cache) for step in trajectory.steps)
    write_png(path, picture, {**texts, TRAJECTORY_KEY: f'{text[:-1]},"steps":[{steps}]}}', CANVAS_KEY: str(canvas)})


def _step_json(step: Step, cache: dict[int, tuple[Step, str]]) -> str:
    known, text = cache.get(step.index, (None, ""))
    if known is not step:
        text = _dumps(to_json(timeless(step)))
        cache[step.index] = step, text
    return text


def _dumps(record: object) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), default=dict)


def write_png(path: str | os.PathLike[str], picture: Picture, text: Mapping[str, str]) -> None:
    """Write a PNG, whole or not at all. The same picture and texts give the same bytes.

    path: the file, replaced if it exists.
    picture: uint8 H x W x 3, at most MAX_PIXELS.
    text: one text chunk for each entry; a key has 1 to 79 printable Latin-1 characters.

    Raises BadInput for a key, a text or a picture that a PNG cannot hold, OSError if the folder cannot be written.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise BadInput(
            f"a picture is uint8 height x width x 3; this one is {picture.dtype} {' x '.join(map(str, picture.shape))}"
        )
    if picture.size > 3 * MAX_PIXELS:
        raise BadInput(
            f"a picture has at most {MAX_PIXELS:,} pixels; this one is {picture.shape[1]} x {picture.shape[0]}"
        )
    for key, value in text.items():
        _check_text(key, value)
    write_bytes(path, encode(picture, [_chunk(key, value) for key, value in text.items()]))


def _chunk(key: str, text: str) -> tuple[bytes, bytes]:
    """Return the type and the content of the chunk that stores a text.

    Only the trajectory is compressed, as zTXt, which can hold ASCII. Other texts stay plain, because ComfyUI's front
    end looks for a workflow in plain chunks; dropping a picture with a compressed iTXt on it makes it wait for ever
    (seen in 1.49).
    """
    data = text.encode()
    if key == TRAJECTORY_KEY and text.isascii() and 256 < len(data) <= MAX_COMPRESSED:
        # Level 1 for speed: the text of a long run is compressed again for each of its canvases.
        return b"zTXt", key.encode("latin-1") + b"\0\0" + zlib.compress(data, 1)
    return b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + data


def _check_text(key: str, value: str) -> None:
    if not (
        1 <= len(key) <= 79 and key.isprintable() and key.strip() == key and all(ord(letter) < 256 for letter in key)
    ):
        raise BadInput(f"{key!r:.100} cannot name a text in a PNG; use 1 to 79 printable Latin-1 characters")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadInput(f"the text {key!r} holds half of a surrogate pair, which no file can hold") from None
    if size > MAX_TEXT or "\0" in value:
        raise BadInput(
            f"the text {key!r} has {size:,} bytes; a PNG takes up to {MAX_TEXT:,} without a zero byte among them"
        )


def read_png(path: str | os.PathLike[str]) -> tuple[Picture, dict[str, str]]:
    """Read a PNG: the picture as uint8 H x W x 3, without transparency, and its texts by key.

    Raises BadInput for a file that is not a whole PNG, or one with more than MAX_PIXELS pixels or MAX_TEXT bytes of
    text.
    """
    name, data = Path(path).name, _read(path)
    chunks = list(_chunks(data, name))
    texts = _texts(chunks, name)
    pixels = SIGNATURE + b"".join(whole for kind, _, whole in chunks if kind not in _TEXT)
    try:
        with Image.open(io.BytesIO(pixels), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it is {image.width} x {image.height}, and at most {MAX_PIXELS:,} pixels are read")
            picture = np.array(image.convert("RGB"))
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as problem:
        raise BadInput(f"{name} is not a whole PNG: {problem}") from problem
    return picture, texts


def trajectory_of(path: str | os.PathLike[str]) -> Trajectory:
    """Return the trajectory stored in a PNG, without wall times.

    Raises BadInput if there is none, or one that cannot be read.
    """
    name = Path(path).name
    text = _texts(_chunks(_read(path), name), name).get(TRAJECTORY_KEY)
    if text is None:
        raise BadInput(
            f"{name} carries no trajectory; choose a picture as a run saved it (other programs drop the metadata)"
        )
    try:
        record = json.loads(text)
        schema = record.get("schema", SCHEMA)
        if not isinstance(schema, int) or schema < 1:
            raise ValueError(f"its schema version is {schema!r:.40}")
    except (ValueError, AttributeError, RecursionError) as problem:
        raise BadInput(f"the trajectory in {name} is damaged: {problem}") from problem
    if schema > SCHEMA:
        raise BadInput(
            f"the trajectory in {name} has schema version {schema}; this version reads up to {SCHEMA}. Update clvr"
        )
    try:
        return with_codes(from_json(Trajectory, record))
    except (ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise BadInput(f"the trajectory in {name} is damaged: {problem}") from problem


_TEXT = (b"tEXt", b"zTXt", b"iTXt")


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise BadInput(f"{Path(path).name} cannot be read: {problem.strerror}") from problem


def _chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield each chunk up to IEND as (type, content, all its bytes).

    Raises BadInput for a file that is cut short or damaged.
    """
    if not data.startswith(SIGNATURE):
        raise BadInput(f"{name} is not a PNG")
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        head = data[position : position + 8]
        if len(head) < 8:
            raise BadInput(f"{name} is cut short: the file ends after {len(data):,} bytes")
        length, kind = struct.unpack(">I4s", head)
        whole = data[position : position + length + 12]
        if len(whole) < length + 12:
            raise BadInput(f"{name} is cut short: the file ends after {len(data):,} bytes")
        if zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big"):
            raise BadInput(f"{name} is damaged: the checksum of its {kind!r} part at byte {position:,} does not fit")
        yield kind, whole[8:-4], whole
        position += length + 12


def _texts(chunks: Iterable[tuple[bytes, bytes, bytes]], name: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for kind, content, _ in chunks:
        if kind not in _TEXT:
            continue
        key, _, rest = content.partition(b"\0")
        try:
            texts[key.decode("latin-1")] = _text(kind, rest, MAX_TEXT - sum(map(len, texts.values())))
        except (ValueError, IndexError, zlib.error) as problem:
            raise BadInput(f"{name} is damaged: its text {key!r:.90} cannot be read: {problem}") from problem
    return texts


def _text(kind: bytes, rest: bytes, room: int) -> str:
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return _unpack(rest[1:], room).decode("latin-1")
    packed, (_, _, body) = rest[0], rest[2:].split(b"\0", 2)
    return (_unpack(body, room) if packed else body).decode("utf-8")


def _unpack(data: bytes, room: int) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, max(room, 1))
    if unpacker.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {MAX_TEXT:,} bytes")
    if not unpacker.eof:
        raise ValueError("it ends too early")
    return text
