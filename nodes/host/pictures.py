"""Pictures as ComfyUI takes them, IMAGE: float32, N x H x W x 3, 0 to 1.

ComfyUI keeps what each node of each round has made. So that a long loop does not fill the memory, the same pictures are the same tensor,
and a large one lies in a file of ComfyUI's temporary folder that the system maps into memory: it may go from memory and comes back when
it is looked at.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import folder_paths
import numpy as np
import torch
from PIL import Image

from ...clvr_core.protocols import Picture
from ...clvr_core.run.run_folder import digest_of

LARGE = 1 << 20
"""Values of an IMAGE from which it lies in a file."""
BLOCK = 1 << 18
"""Values that are scaled at a time."""
ROWS = 64
"""Of a picture, at a time: few enough to stay near the processor."""
CAN_LET_GO = hasattr(mmap, "MADV_DONTNEED")

_threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="clvr pictures")
_known: WeakValueDictionary[str, torch.Tensor] = WeakValueDictionary()
_rooms: WeakSet[mmap.mmap] = WeakSet()


def as_image(*pictures: Picture, digests: Sequence[str] = ()) -> torch.Tensor:
    """uint8 H x W x 3, all of one size. digests: of each, where they are known, as a run records them."""
    digests = digests or [digest_of(picture) for picture in pictures]
    key = "".join([*digests, str(pictures[0].shape)])
    image = _known.get(key)
    if image is None:
        stacked = np.ascontiguousarray(pictures[0][None] if len(pictures) == 1 else np.stack(pictures))
        image = _known[key] = torch.from_numpy(
            _in_a_file(stacked) if stacked.size >= LARGE and CAN_LET_GO else _scaled(stacked)
        )
    return image


def _scaled(values: np.ndarray) -> np.ndarray:
    return np.divide(values, 255, dtype=np.float32)


def _in_a_file(values: np.ndarray) -> np.ndarray:
    """What `_scaled` gives, in a file that the system maps into memory, if there is room for one."""
    flat = values.reshape(-1)
    try:
        with tempfile.TemporaryFile(dir=folder_paths.get_temp_directory()) as file:

            def write(start: int) -> None:
                part = _scaled(flat[start : start + BLOCK])
                if os.pwrite(file.fileno(), part, 4 * start) != part.nbytes:
                    raise OSError("there is no room for the whole")

            # Written, not filled through the map: that would stop at every page, and end the process where the disk has no place for one.
            _side_by_side(write, range(0, flat.size, BLOCK))
            room = mmap.mmap(file.fileno(), 4 * flat.size)
    except OSError:
        return _scaled(values)
    _rooms.add(room)
    return np.frombuffer(room, np.float32).reshape(values.shape)


def let_go() -> None:
    """Lets all IMAGEs that lie in files go from memory until they are looked at again, and what was freed since go back to the system:
    glibc keeps the room of large temporary arrays in pieces, some megabytes more in each round."""
    for room in list(_rooms):
        room.madvise(mmap.MADV_DONTNEED)
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def as_pictures(image: torch.Tensor) -> list[Picture]:
    """The inverse of `as_image`, bit for bit; an alpha channel is dropped."""
    scaled = image[..., :3].cpu().float().numpy()
    values = np.empty(scaled.shape, np.uint8)

    def fill(at: tuple[int, int]) -> None:
        number, start = at
        part = np.multiply(scaled[number, start : start + ROWS], 255, dtype=np.float32)
        values[number, start : start + ROWS] = np.rint(np.clip(part, 0, 255, out=part), out=part)

    _side_by_side(fill, [(number, start) for number in range(len(values)) for start in range(0, values.shape[1], ROWS)])
    return list(values)


def _side_by_side(work: Callable[[Any], None], parts: Iterable[Any]) -> None:
    """Ends when all have ended, the failed ones too."""
    begun = [_threads.submit(work, part) for part in parts]
    wait(begun)
    for each in begun:
        each.result()


def black(height: int, width: int) -> torch.Tensor:
    """An IMAGE that takes no memory."""
    return torch.zeros(1, 1, 1, 3).expand(1, height, width, 3)


def of_one_size(pictures: Sequence[Picture]) -> list[Picture]:
    """A batch holds one size only: that of the first."""
    height, width = pictures[0].shape[:2]
    return [
        picture
        if picture.shape[:2] == (height, width)
        else np.asarray(Image.fromarray(picture).resize((width, height)))
        for picture in pictures
    ]
