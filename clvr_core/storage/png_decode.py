"""Takes a PNG apart without Pillow: its parts, its texts, and whether its pixels are all there.

The content of a part is a view of the file's bytes, and only texts are unpacked as a whole, up to a limit.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator

from .png_encode import SIGNATURE, framed

MAX_TEXT = 64 << 20
"""Bytes of all texts of a picture."""
MAX_UNPACKED = 16 << 20
"""Bytes that all compressed texts of a picture unpack to. This program compresses none longer than 1 MB."""
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Parts that the pixels depend on."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced picture: first column, first row, columns from one to the next, rows from one to the next."""
_HEAD = 4096
"""Bytes in which the keys of a text and its language must end. What follows may be long, and is not copied."""
_STEP = 1 << 16
"""Bytes unpacked at a time. zlib copies what it did not consume, so a long part is handed to it in slices."""


def parts(data: bytes, checked: bool = True) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Yield each part up to IEND as (type, content, all its bytes).

    checked: whether the checksum of each part is compared.
    Raises ValueError for a file that is no PNG, is cut short or damaged.
    """
    if not data.startswith(SIGNATURE):
        raise ValueError("it does not begin as one")
    view, position, kind = memoryview(data), len(SIGNATURE), b""
    while kind != b"IEND":
        head = data[position : position + 8]
        length = int.from_bytes(head[:4], "big")
        if len(head) < 8 or position + length + 12 > len(data):
            raise ValueError(f"it is cut short: the file ends after {len(data):,} bytes")
        kind, whole = head[4:], view[position : position + length + 12]
        if checked and zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big"):
            raise ValueError(f"the checksum of its {kind!r} part at byte {position:,} does not fit")
        yield kind, whole[8:-4], whole
        position += length + 12


def bare(data: bytes, most: int, checked: bool = False) -> io.BytesIO:
    """Return the PNG with no more than its pixels, for Pillow, which keeps whatever else it finds.

    most: pixels, at most.
    checked: whether the checksum of every part is compared; Pillow compares those of the pixels.
    Raises ValueError as `parts` does, for more pixels, and for pixels that end before the last row.
    """
    file, unpacker, found, wanted = io.BytesIO(), zlib.decompressobj(), 0, 0
    file.write(SIGNATURE)
    for kind, content, whole in parts(data, checked):
        if kind not in PIXELS or (kind == b"IDAT" and not content):
            continue
        file.write(whole)
        if kind == b"IHDR":
            wanted = _bytes_of_rows(content, most)
        for start in range(0, len(content) if kind == b"IDAT" else 0, _STEP):
            if found < wanted:
                found += _unpacked(unpacker, content[start : start + _STEP], wanted - found)
    if found < wanted:
        raise ValueError(f"it is cut short: its pixels take {wanted:,} bytes, and {found:,} are in it")
    file.seek(0)
    return file


def with_texts(data: bytes, texts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the PNG with these parts, each a type and its content, in place of all that its pixels do not depend on.

    Raises ValueError as `parts` does.
    """
    (head, *pixels) = [bytes(whole) for kind, _, whole in parts(data) if kind in PIXELS]
    return b"".join([SIGNATURE, head, *(part for text in texts for part in framed(*text)), *pixels])


def check_pixels(width: int, height: int, most: int) -> None:
    """Raise ValueError for a picture of more than `most` pixels."""
    if width * height > most:
        raise ValueError(f"it is {width} x {height}, and at most {most:,} pixels are read")


def _bytes_of_rows(header: memoryview, most: int) -> int:
    """Return what the pixels take unpacked; 0 for a header that no PNG has, which is Pillow's to refuse."""
    if len(header) != 13:
        return 0
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    check_pixels(width, height, most)
    bits = depth * _CHANNELS.get(colour, 0)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - left) // right), -(-(height - top) // down)) for left, top, right, down in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def _unpacked(unpacker: zlib._Decompress, packed: bytes | memoryview, enough: int) -> int:
    """Return how many bytes follow from `packed`, counted no further than `enough`."""
    found = 0
    while packed and not unpacker.eof and found < enough:
        found += len(unpacker.decompress(packed, _STEP))
        packed = unpacker.unconsumed_tail
    return found


def texts_of(data: bytes, wanted: str | None = None) -> dict[str, str]:
    """Return the texts by key. wanted: only the text of this key.

    Raises ValueError as `parts` does, and for a text that cannot be read or is too long.
    """
    found: dict[str, str] = {}
    plain, packed = MAX_TEXT, MAX_UNPACKED
    for kind, content, _ in parts(data):
        if kind not in TEXTS:
            continue
        name = bytes(content[:_HEAD]).partition(b"\0")[0]
        key = name.decode("latin-1")
        if wanted is not None and key != wanted:
            continue
        try:
            text, compressed, encoding = _text(kind, content[len(name) + 1 :])
            if compressed:
                text = _unpack(text, packed)
                packed -= len(text)
            plain -= len(text)
            if plain < 0:
                raise ValueError(f"with the texts before it, it has more than {MAX_TEXT:,} bytes")
            found[key] = str(text, encoding)
        except (ValueError, IndexError, zlib.error) as problem:
            raise ValueError(f"its text {name!r:.90} cannot be read: {problem}") from problem
    return found


def _text(kind: bytes, rest: memoryview) -> tuple[bytes | memoryview, bool, str]:
    """Return the bytes of a text behind its key, whether they are compressed, and their encoding."""
    if kind == b"tEXt":
        return rest, False, "latin-1"
    if kind == b"zTXt":
        return rest[1:], True, "latin-1"
    language, translated, _ = bytes(rest[2:_HEAD]).split(b"\0", 2)
    return rest[4 + len(language) + len(translated) :], bool(rest[0]), "utf-8"


def _unpack(data: bytes | memoryview, room: int) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, max(room, 1))
    if unpacker.unconsumed_tail:
        raise ValueError(f"with the texts before it, it unpacks to more than {MAX_UNPACKED:,} bytes")
    if not unpacker.eof:
        raise ValueError("it ends too early")
    return text
