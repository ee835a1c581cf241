"""Pictures as ComfyUI takes them, IMAGE: float32, N x H x W x 3, 0 to 1.

ComfyUI keeps what each node of each round has made. So that a long loop does not fill the memory, the same pictures are the same tensor,
and a large one lies in a file of ComfyUI's temporary folder that the system maps into memory: it may go from memory and comes back when
it is looked at.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from weakref import WeakSet, WeakValueDictionary

import folder_paths
import numpy as np
import torch
from PIL import Image

from ..clvr_core.protocols import Picture

LARGE = 1 << 20
"""Values of an IMAGE from which it lies in a file."""
CAN_LET_GO = hasattr(os, "posix_fallocate") and hasattr(mmap, "MADV_DONTNEED")

_known: WeakValueDictionary[str, torch.Tensor] = WeakValueDictionary()
_rooms: WeakSet[mmap.mmap] = WeakSet()


def as_image(*pictures: Picture) -> torch.Tensor:
    """uint8 H x W x 3, all of one size."""
    stacked = np.ascontiguousarray(np.stack(pictures))
    key = hashlib.sha256(stacked).hexdigest() + str(stacked.shape)
    image = _known.get(key)
    if image is None:
        image = _known[key] = torch.from_numpy(np.divide(stacked, 255, out=_room(stacked.shape), dtype=np.float32))
    return image


def _room(shape: tuple[int, ...]) -> np.ndarray:
    """float32 of this shape, yet to be filled."""
    size = int(np.prod(shape))
    if size < LARGE or not CAN_LET_GO:
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile(dir=folder_paths.get_temp_directory()) as file:
            # A page of a file that the disk has no place for would end the process when it is written.
            os.posix_fallocate(file.fileno(), 0, 4 * size)
            room = mmap.mmap(file.fileno(), 4 * size)
    except OSError:
        return np.empty(shape, np.float32)
    _rooms.add(room)
    return np.frombuffer(room, np.float32).reshape(shape)


def let_go() -> None:
    """Lets all IMAGEs that lie in files go from memory until they are looked at again, and what was freed since go back to the system:
    glibc keeps the room of large temporary arrays in pieces, some megabytes more in each round."""
    for room in list(_rooms):
        room.madvise(mmap.MADV_DONTNEED)
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def as_pictures(image: torch.Tensor) -> list[Picture]:
    """The inverse of `as_image`, bit for bit; an alpha channel is dropped."""
    return list((image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def black(height: int, width: int) -> torch.Tensor:
    """An IMAGE that takes no memory."""
    return torch.zeros(1, 1, 1, 3).expand(1, height, width, 3)


def of_one_size(pictures: Sequence[Picture]) -> list[Picture]:
    """A batch holds one size only: that of the first."""
    height, width = pictures[0].shape[:2]
    return [
        picture if picture.shape[:2] == (height, width) else np.asarray(Image.fromarray(picture).resize((width, height)))
        for picture in pictures
    ]
