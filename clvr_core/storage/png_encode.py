"""Encoding a PNG quickly.

Pillow tries five filters on each row and compresses on one core, which takes a third of a second for a photograph of 1
MP. Here every row of a large picture has the same filter, and bands of rows are compressed in parallel, by run lengths
and Huffman coding only, since deflate finds hardly any longer matches in a photograph. Format:
https://www.w3.org/TR/png-3/.
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
"""Values (H x W x 3) from which a picture is encoded for speed; a smaller one is encoded by Pillow, for size."""
BAND = 1 << 18
"""Values of a band.

It does not depend on the number of cores, so that a picture has the same bytes on every machine.
"""
AVERAGE = 3
"""Number of the PNG filter that subtracts the mean of the left and the upper neighbour: the best cheap one for
photographs."""


def encode(picture: Picture, texts: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Return the bytes of a PNG. picture: uint8 H x W x 3. texts: type and content of further chunks to store."""
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
    return SIGNATURE + b"".join(part for kind, content in chunks for part in framed(kind, content))


def framed(kind: bytes, content: bytes) -> tuple[bytes, ...]:
    """Return a part of a PNG as it stands in the file."""
    return struct.pack(">I4s", len(content), kind), content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _packed(rows: np.ndarray) -> bytes:
    """Filter and compress uint8 rows [height, values] into one zlib stream."""
    height, values = rows.shape
    step = max(1, BAND // values)

    def band(start: int) -> tuple[bytes, int, int]:
        filtered = _filtered(rows, start, min(start + step, height)).data
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
        body = packer.compress(filtered) + packer.flush(zlib.Z_FINISH if start + step >= height else zlib.Z_SYNC_FLUSH)
        return body, zlib.adler32(filtered), filtered.nbytes

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        bands = list(pool.map(band, range(0, height, step)))
    checksum = 1
    for _, found, size in bands:
        checksum = _joined_checksum(checksum, found, size)
    return b"".join([b"\x78\x01", *(body for body, _, _ in bands), struct.pack(">I", checksum)])


def _joined_checksum(first: int, second: int, size: int) -> int:
    """Return the Adler-32 checksum of two byte strings joined, from the checksum of each and the size of the second."""
    low, high = first & 0xFFFF, first >> 16
    return (low + (second & 0xFFFF) - 1) % 65521 | (high + (second >> 16) + size * (low - 1)) % 65521 << 16


def _filtered(rows: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the filtered rows `start` to `stop`, each with the number of its filter in front."""
    part = rows[start:stop]
    left, above = np.zeros_like(part), np.zeros_like(part)
    left[:, 3:] = part[:, :-3]
    above[0 if start else 1 :] = rows[max(start - 1, 0) : stop - 1]
    found = np.empty((len(part), 1 + part.shape[1]), np.uint8)
    found[:, 0] = AVERAGE
    # The mean rounded down, within a byte.
    np.subtract(part, (left & above) + ((left ^ above) >> 1), out=found[:, 1:])
    return found
