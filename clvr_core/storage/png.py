"""PNGs that carry the trajectory of the run that drew them.

The trajectory is stored without wall times, as ASCII JSON with sorted keys, so that the same run gives the same bytes.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from ..errors import BadInput
from ..protocols import Picture
from ..reading import json_of
from ..records import from_json, to_json
from ..text import shown
from ..trajectory import SCHEMA, Step, Trajectory, timeless, with_codes
from .atomic import write_bytes
from .parameters import PARAMETERS_KEY
from .pictures import DECODING_ERRORS, MAX_PIXELS, pixels
from .png_decode import MAX_TEXT, bare, texts_of, with_texts
from .png_encode import SIGNATURE, encode

TRAJECTORY_KEY = "clvr"
"""Key of the text that holds the trajectory."""
CANVAS_KEY = "clvr_canvas"
"""Key of the text that holds the picture's own number among the canvases."""

MAX_COMPRESSED = 1 << 20
"""Bytes of an unpacked text. Pillow, and with it ComfyUI, refuses a picture with a longer compressed text."""


def save_png(
    path: str | os.PathLike[str],
    picture: Picture,
    trajectory: Trajectory,
    canvas: int,
    step_json: dict[int, tuple[Step, str]] | None = None,
    texts: Mapping[str, str] = MappingProxyType({}),
    like: Path | None = None,
) -> None:
    """Write a picture with the trajectory up to now.

    path: the file, replaced if it exists.
    picture: uint8 H x W x 3.
    trajectory: stored without wall times.
    canvas: number of the picture among the canvases of the run.
    step_json: cache of the JSON of each step by its index, filled here. Pass the same dict for every canvas of a run,
        so that earlier steps are not encoded again.
    texts: other texts to store, by key.
    like: a PNG of the same picture, which is then not encoded again, if it is there and whole.

    Raises BadInput for a picture of another type or shape, OSError if the folder cannot be written.
    """
    record = to_json(timeless(replace(trajectory, steps=()))) | {"schema": trajectory.schema}
    cache = {} if step_json is None else step_json
    text, steps = _dumps(record), ",".join(_step_json(step, cache) for step in trajectory.steps)
    texts = {**texts, TRAJECTORY_KEY: f'{text[:-1]},"steps":[{steps}]}}', CANVAS_KEY: str(canvas)}
    write_png(path, picture, texts, like)


def _step_json(step: Step, cache: dict[int, tuple[Step, str]]) -> str:
    known, text = cache.get(step.index, (None, ""))
    if known is not step:
        text = _dumps(to_json(timeless(step)))
        cache[step.index] = step, text
    return text


def _dumps(record: object) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), default=dict)


def write_png(
    path: str | os.PathLike[str], picture: Picture, text: Mapping[str, str], like: Path | None = None
) -> None:
    """Write a PNG, whole or not at all. The same picture and texts give the same bytes.

    path: the file, replaced if it exists.
    picture: uint8 H x W x 3, at most MAX_PIXELS.
    text: one text chunk for each entry; a key has 1 to 79 printable Latin-1 characters.
    like: as for `save_png`.

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
    chunks = [_chunk(key, value) for key, value in text.items()]
    data = b""
    if like is not None:
        with suppress(OSError, ValueError):
            data = with_texts(like.read_bytes(), chunks)
    write_bytes(path, data or encode(picture, chunks))


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
    if key == PARAMETERS_KEY and _is_latin(text):  # as stable-diffusion-webui writes it, for readers of tEXt alone
        return b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1")
    return b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + data


def _is_latin(text: str) -> bool:
    return all(ord(letter) < 256 for letter in text)


def _check_text(key: str, value: str) -> None:
    if not (1 <= len(key) <= 79 and key.isprintable() and key.strip() == key and _is_latin(key)):
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
    try:
        texts = texts_of(data)
        file = bare(data, MAX_PIXELS)
    except ValueError as problem:
        raise BadInput(f"{name} is not a whole PNG: {problem}") from problem
    del data  # a large picture is then in memory once less
    try:
        with Image.open(file, formats=["PNG"]) as image:
            return pixels(image), texts
    except (*DECODING_ERRORS, struct.error, zlib.error) as problem:
        raise BadInput(f"{name} is not a whole PNG: {problem}") from problem


def trajectory_of(path: str | os.PathLike[str]) -> Trajectory:
    """Return the trajectory stored in a PNG, without wall times.

    Raises BadInput if there is none, or one that cannot be read.
    """
    name, data = Path(path).name, _read(path)
    try:
        text = texts_of(data, TRAJECTORY_KEY).get(TRAJECTORY_KEY)
    except ValueError as problem:
        raise BadInput(f"{name} is not a whole PNG: {problem}") from problem
    if text is None:
        raise BadInput(
            f"{name} carries no trajectory; choose a picture as a run saved it (other programs drop the metadata)"
        )
    try:
        record = json_of(text)
        schema = record.get("schema", SCHEMA)
        if not isinstance(schema, int) or schema < 1:
            raise ValueError(f"its schema version is {shown(schema, 40)}")
    except (ValueError, AttributeError) as problem:
        raise BadInput(f"the trajectory in {name} is damaged: {problem}") from problem
    if schema > SCHEMA:
        raise BadInput(
            f"the trajectory in {name} has schema version {schema}; this version reads up to {SCHEMA}. Update clvr"
        )
    try:
        return with_codes(from_json(Trajectory, record))
    except (ValueError, TypeError, AttributeError) as problem:
        raise BadInput(f"the trajectory in {name} is damaged: {problem}") from problem


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise BadInput(f"{Path(path).name} cannot be read: {problem.strerror}") from problem
    if not data.startswith(SIGNATURE):
        raise BadInput(f"{Path(path).name} is not a PNG")
    return data
