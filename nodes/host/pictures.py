"""Pictures as ComfyUI's IMAGE: float32, N x H x W x 3, 0 to 1.

ComfyUI caches the outputs of every node of every round. So that a long loop does not fill the memory, equal pictures
share one tensor, and a large tensor is backed by a memory-mapped file in ComfyUI's temporary folder: the system may
drop its pages and reads them back on use.
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
"""Number of values from which an IMAGE is backed by a file."""
BLOCK = 1 << 18
"""Number of values that one thread scales at a time."""
ROWS = 64
"""Rows of a picture that one thread converts at a time: few enough to fit the processor's cache."""
CAN_RELEASE = hasattr(mmap, "MADV_DONTNEED")
"""Whether the system can drop mapped pages on request. Windows cannot."""

_threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="clvr pictures")
_images: WeakValueDictionary[str, torch.Tensor] = WeakValueDictionary()
_maps: WeakSet[mmap.mmap] = WeakSet()


def as_image(*pictures: Picture, digests: Sequence[str] = ()) -> torch.Tensor:
    """Convert pictures of one size to an IMAGE. `digests`: the SHA-256 of each picture's pixels, if the run has
    recorded them.
    """
    digests = digests or [digest_of(picture) for picture in pictures]
    key = "".join([*digests, str(pictures[0].shape)])
    image = _images.get(key)
    if image is None:
        stacked = np.ascontiguousarray(pictures[0][None] if len(pictures) == 1 else np.stack(pictures))
        image = _images[key] = torch.from_numpy(
            _in_file(stacked) if stacked.size >= LARGE and CAN_RELEASE else _scaled(stacked)
        )
    return image


def _scaled(values: np.ndarray) -> np.ndarray:
    return np.divide(values, 255, dtype=np.float32)


def _in_file(values: np.ndarray) -> np.ndarray:
    """Like `_scaled`, backed by a memory-mapped file; in ordinary memory if the disk is full."""
    flat = values.reshape(-1)
    try:
        with tempfile.TemporaryFile(dir=folder_paths.get_temp_directory()) as file:

            def write(start: int) -> None:
                part = _scaled(flat[start : start + BLOCK])
                if os.pwrite(file.fileno(), part, 4 * start) != part.nbytes:
                    raise OSError("the disk is full")

            # Written with pwrite, not through the map: a page that the full disk cannot take would kill the process.
            _in_threads(write, range(0, flat.size, BLOCK))
            mapped = mmap.mmap(file.fileno(), 4 * flat.size)
    except OSError:
        return _scaled(values)
    _maps.add(mapped)
    return np.frombuffer(mapped, np.float32).reshape(values.shape)


def release_memory() -> None:
    """Drop the pages of all file-backed IMAGEs until their next use, and give freed memory back to the system.

    Without malloc_trim glibc keeps some megabytes of fragments of large temporary arrays more with each round.
    """
    for mapped in list(_maps):
        mapped.madvise(mmap.MADV_DONTNEED)
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def as_pictures(image: torch.Tensor) -> list[Picture]:
    """Convert an IMAGE to pictures, exactly inverse to `as_image`. An alpha channel is dropped."""
    scaled = image[..., :3].cpu().float().numpy()
    values = np.empty(scaled.shape, np.uint8)

    def fill(at: tuple[int, int]) -> None:
        number, start = at
        part = np.multiply(scaled[number, start : start + ROWS], 255, dtype=np.float32)
        values[number, start : start + ROWS] = np.rint(np.clip(part, 0, 255, out=part), out=part)

    _in_threads(fill, [(number, start) for number in range(len(values)) for start in range(0, values.shape[1], ROWS)])
    return list(values)


def _in_threads(work: Callable[[Any], None], parts: Iterable[Any]) -> None:
    """Do the work on all parts in threads; return when every one has ended, then raise the first error."""
    begun = [_threads.submit(work, part) for part in parts]
    wait(begun)
    for each in begun:
        each.result()


def black(height: int, width: int) -> torch.Tensor:
    """Make a black IMAGE that takes no memory: one value, expanded."""
    return torch.zeros(1, 1, 1, 3).expand(1, height, width, 3)


def resize_to_first(pictures: Sequence[Picture]) -> list[Picture]:
    """Resize all pictures to the size of the first, since an IMAGE has one size."""
    height, width = pictures[0].shape[:2]
    return [
        picture
        if picture.shape[:2] == (height, width)
        else np.asarray(Image.fromarray(picture).resize((width, height)))
        for picture in pictures
    ]
