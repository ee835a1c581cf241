"""The bytes of a PNG.

Pillow tries five filters on each row and deflates on one core, which takes a third of a second for a photograph of 1 MP. Here a large
picture has one filter, and is deflated in bands side by side, by run lengths and Huffman's code alone, which is about all that deflate
finds in a photograph.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, PngImagePlugin

from ..protocols import Picture

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGE = 1 << 18
"""Values of a picture from which speed counts for more than what it takes on disk."""
BAND = 1 << 18
"""Values of a band. The same on every machine, so that the bytes are."""
AVERAGE = 3
"""The filter of PNG that holds each value against the mean of those left of it and above it: of the cheap ones the best for photographs."""


def encode(picture: Picture, texts: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """uint8 H x W x 3; texts: the kind and the content of the chunks to put in."""
    picture = np.ascontiguousarray(picture)
    if picture.size < LARGE:
        info = PngImagePlugin.PngInfo()
        for kind, content in texts:
            info.add(kind, content)
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG", pnginfo=info, compress_level=6)
        return file.getvalue()
    height, width = picture.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), *texts, (b"IDAT", _packed(picture.reshape(height, -1))), (b"IEND", b"")]
    return SIGNATURE + b"".join(part for kind, content in chunks for part in _framed(kind, content))


def _framed(kind: bytes, content: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I4s", len(content), kind), content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _packed(rows: np.ndarray) -> bytes:
    """Of uint8 rows x values: filtered, in zlib's format."""
    height, values = rows.shape
    step = max(1, BAND // values)

    def band(start: int) -> tuple[bytes, int, int]:
        filtered = _filtered(rows, start, min(start + step, height))
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
        body = packer.compress(filtered) + packer.flush(zlib.Z_FINISH if start + step >= height else zlib.Z_SYNC_FLUSH)
        return body, zlib.adler32(filtered), filtered.size

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        bands = list(pool.map(band, range(0, height, step)))
    checksum = 1
    for _, found, size in bands:
        checksum = _after(checksum, found, size)
    return b"".join([b"\x78\x01", *(body for body, _, _ in bands), struct.pack(">I", checksum)])


def _after(first: int, second: int, size: int) -> int:
    """Adler-32 of one stretch of bytes after another, from that of each; size: bytes of the second."""
    low, high = first & 0xFFFF, first >> 16
    return (low + (second & 0xFFFF) - 1) % 65521 | (high + (second >> 16) + size * (low - 1)) % 65521 << 16


def _filtered(rows: np.ndarray, start: int, stop: int) -> np.ndarray:
    """These of the rows, each behind the number of its filter."""
    part = rows[start:stop]
    left, above = np.zeros_like(part), np.zeros_like(part)
    left[:, 3:] = part[:, :-3]
    above[0 if start else 1 :] = rows[max(start - 1, 0) : stop - 1]
    found = np.empty((len(part), 1 + part.shape[1]), np.uint8)
    found[:, 0] = AVERAGE
    # The mean rounded down, within a byte.
    np.subtract(part, (left & above) + ((left ^ above) >> 1), out=found[:, 1:])
    return found
