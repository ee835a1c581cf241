"""Readers of what others wrote: their work grows no faster than the input, their memory stays near it, and what they
refuse they refuse in a sentence.

Work is counted in lines of this program that run and in characters that expressions and zlib are given, never in time.
`benchmarks/readers.py` reads the same inputs in a process each, up to 1e6 characters, with Pillow's memory.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clvr_core.batch import read_jobs
from clvr_core.brief import Brief, Goal
from clvr_core.checklist import goals_from
from clvr_core.controller.prompts import GoalsReply
from clvr_core.errors import BadInput
from clvr_core.evaluation.store import Lines, read_json, read_picture
from clvr_core.http_json import Client, ServerFailure
from clvr_core.merge.recipe import Block
from clvr_core.models.config import MAX_DOTS, parsed, read_servers
from clvr_core.reading import MAX_DEPTH, MAX_VALUES, json_of
from clvr_core.records import from_json
from clvr_core.report import pictures as report
from clvr_core.report.pictures import embedded
from clvr_core.run.run_folder import JOURNAL, RunFolder, read_trajectory
from clvr_core.stickers import grammar
from clvr_core.storage import pictures, png_decode
from clvr_core.storage.png import read_png, trajectory_of
from clvr_core.synthesis.data import ROWS, read_rows
from clvr_core.training.samples import read_picture as training_picture
from clvr_core.vlm import replies
from clvr_core.vlm.replies import Malformed, parse
from clvr_core.weights.checkpoint import File

SIZES = (10**3, 10**4, 10**5, 10**6)
CORE = str(Path(read_png.__code__.co_filename).parents[1])
REFUSED = (ValueError, Malformed, ServerFailure)
MOST = 300 << 20
"""Bytes that reading may take above the size of the input."""
FOLD = 60
"""Bytes in memory of a byte of JSON, at most, as Python holds it."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*between: bytes, width: int = 8, height: int = 8, rows: bytes | None = None) -> bytes:
    """A black picture, with these parts before its pixels. rows: what its pixels unpack to."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(height * (1 + 3 * width)) if rows is None else rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + data + chunk(b"IEND", b"")


def filled(text: str, size: int) -> str:
    return (text * (size // len(text) + 1))[:size]


def lines(of: Callable[[int], Any], size: int) -> str:
    """JSON lines up to this size. of: makes the value of a line from its number."""
    each = len(json.dumps(of(10**5))) + 1
    return "".join(json.dumps(of(number)) + "\n" for number in range(max(1, size // each)))


def texts(size: int) -> bytes:
    return png(*(chunk(b"tEXt", b"k%07d\0v" % number) for number in range(size // 22)))


def repeated(size: int, part: bytes) -> bytes:
    return png(*[part] * (size // len(part)))


def step(number: int) -> dict[str, Any]:
    return {"event": "step", "steps": [{"index": number, "action": {"kind": "END"}}]}


def journal(size: int) -> str:
    return json.dumps({"event": "start", "brief": {"prompt": "x"}}) + "\n" + lines(step, size)


def goals(size: int) -> str:
    return json.dumps({"prompt": "x", "goals": [{"id": f"g{number}", "text": "t"} for number in range(size // 30)]})


def header(size: int) -> bytes:
    entries = {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(size // 60)}
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def row(number: int) -> dict[str, Any]:
    return {"id": str(number), "prompt": "x", "goals": [], "seed": 1, "turns": [], "closing": "done"}


def folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.parent)


def text(read: Callable[[str], object]) -> Callable[[Path], object]:
    return lambda path: read(path.read_text("utf-8"))


Read = Callable[[Path], object]
READERS: dict[str, tuple[str, Callable[[int], str | bytes], Read]] = {
    "texts of a PNG": ("a.png", texts, read_png),
    "parts of a PNG that nobody knows": ("a.png", lambda n: repeated(n, chunk(b"prVt", b"x")), read_png),
    "empty pixels of a PNG": ("a.png", lambda n: repeated(n, chunk(b"IDAT", b"")), read_png),
    "trajectory in a PNG": ("a.png", lambda n: png(chunk(b"tEXt", b"clvr\0" + goals(n).encode())), trajectory_of),
    "picture of a report": ("a.png", lambda n: repeated(n, chunk(b"tEXt", b"k\0v")), embedded),
    "journal to go on with": (JOURNAL, journal, folder(RunFolder.open)),
    "journal to look at": (JOURNAL, journal, folder(read_trajectory)),
    "jobs": (
        "a.jsonl",
        lambda n: lines(lambda i: {"id": f"j{i}", "prompt": "x"}, n),
        lambda p: read_jobs(p, Brief("x")),
    ),
    "goals of a job": ("a.jsonl", goals, lambda p: read_jobs(p, Brief("x"))),
    "rows of a data set": (ROWS, lambda n: lines(row, n), folder(read_rows)),
    "lines of an evaluation": ("a.jsonl", lambda n: lines(lambda i: {"id": i}, n), Lines),
    "checklist of marks": ("a.txt", lambda n: filled("[nice] ", n), text(goals_from)),
    "settings": ("a.toml", lambda n: "".join(f"k{i} = 1\n" for i in range(n // 10)), parsed),
    "settings in a deep list": ("a.toml", lambda n: "a=" + "[" * (n // 2) + "]" * (n // 2), parsed),
    "settings by dots": ("a.toml", lambda n: ".".join("a" * (n // 2)) + "=1", parsed),
    "header of weights": ("a.safetensors", header, lambda p: File(p).close()),
    "answer of a server": ("a.json", goals, lambda p: Client("http://127.0.0.1")._object("127.0.0.1", p.read_bytes())),
    "brief of the embedded world": ("a.txt", lambda n: filled("a red circle, ", n), text(grammar.parse)),
    "blocks of a recipe": ("a.txt", lambda n: filled("double.1=0.5\n", n), text(Block.parse_lines)),
}


def lines_run(call: Callable[[], object]) -> int:
    """Count the lines of the core that run, each turn of a loop anew."""
    count = 0

    def line(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return line

    def enter(frame: Any, event: str, argument: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(CORE) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    except REFUSED:
        pass
    finally:
        sys.settrace(before)
    return count


def peak(call: Callable[[], object]) -> int:
    """Return the bytes that the call takes at most, without those that Pillow takes."""
    tracemalloc.start()
    try:
        call()
    except REFUSED:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


def made(folder: Path, name: str, content: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("reader", READERS)
def test_work_and_memory_grow_no_faster_than_the_input(tmp_path: Path, reader: str) -> None:
    name, make, read = READERS[reader]
    small, middle, large = (made(tmp_path / str(size), name, make(size)) for size in SIZES[:3])
    less, more = lines_run(lambda: read(small)), lines_run(lambda: read(middle))
    assert more <= 11 * less + 3000, f"ten times the input, {more / less:.1f} times the lines"
    assert peak(lambda: read(large)) <= FOLD * large.stat().st_size + (1 << 20)


def test_texts_of_a_png_are_counted_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(png_decode, "len", lambda value: calls.append(0) or value.__len__(), raising=False)
    read_png(made(tmp_path, "a.png", texts(SIZES[1])))
    assert len(calls) <= SIZES[1]


REPLIES = {
    "braces in prose": "{a: ",
    "quotes of another language": "{'a': ",
    "names of fields": "{goals: ",
    "open objects": '{"a":{',
    "broken objects": '{"a":1,}',
    "open strings": '{"a":"x',
    "escapes": '{"a":"\\"',
    "thoughts": "<think></think>",
    "lists of nothing": '{"a":[, ',
    "spaces": "{ ",
}


class Counted:
    """An expression or a decoder that counts the characters it passes over."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.passed = inner, 0

    def _to(self, found: Any, text: str, start: int) -> Any:
        self.passed += (found.end() if found else len(text)) - start
        return found

    def search(self, text: str, start: int = 0) -> Any:
        return self._to(self.inner.search(text, start), text, start)

    def finditer(self, text: str, start: int = 0) -> Any:
        for found in self.inner.finditer(text, start):
            self.passed, start = self.passed + found.end() - start, found.end()
            yield found
        self.passed += len(text) - start

    def sub(self, by: Any, text: str) -> str:
        self.passed += len(text)
        return self.inner.sub(by, text)

    def raw_decode(self, text: str, start: int) -> Any:
        try:
            value, end = self.inner.raw_decode(text, start)
        except json.JSONDecodeError as error:
            self.passed += error.pos - start
            raise
        self.passed += end - start
        return value, end

    def decode(self, text: str) -> Any:
        self.passed += len(text)
        return self.inner.decode(text)


@pytest.mark.parametrize("pattern", REPLIES)
def test_a_reply_is_passed_over_a_few_times_whatever_is_in_it(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    counted = []
    for name in ("_START", "_TOKEN", "_STRING_OR_TRAILING_COMMA", "_DECODER"):
        counted.append(Counted(getattr(replies, name)))
        monkeypatch.setattr(replies, name, counted[-1])
    for size in SIZES[:2]:
        before = sum(each.passed for each in counted)
        with pytest.raises(Malformed):
            parse(filled(REPLIES[pattern], size), True, GoalsReply)
        passed = sum(each.passed for each in counted) - before
        assert passed <= 3 * replies.MAX_OPEN * size + 10_000, size
    with pytest.raises(Malformed, match="at most 400,000 are read"):
        parse(filled(REPLIES[pattern], 10**6), True, GoalsReply)


def test_an_instruction_is_passed_over_once_by_each_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = [(kind, Counted(pattern)) for kind, pattern in grammar._INSTRUCTIONS]
    monkeypatch.setattr(grammar, "_INSTRUCTIONS", counted)
    for size in SIZES[:2]:
        before = sum(pattern.passed for _, pattern in counted)
        instruction = filled("add a red circle at the top left, ", size)
        assert len(grammar.parse_instruction(instruction)) >= size // 35
        assert sum(pattern.passed for _, pattern in counted) - before <= len(counted) * size


def test_goals_of_a_brief_are_compared_by_their_ids_once() -> None:
    for size in SIZES[:2]:
        checklist = tuple(Goal(f"g{number}", "t") for number in range(size // 10))
        assert lines_run(lambda checklist=checklist: Brief("x", goals=checklist)) <= size + 100
    with pytest.raises(BadInput, match="two goals have the id 'g7'"):
        Brief("x", goals=(*checklist, Goal("g7", "t")))


class Packed:
    """zlib with a count of the bytes that it is given to unpack."""

    error, crc32 = zlib.error, staticmethod(zlib.crc32)

    def __init__(self) -> None:
        self.given = 0

    def decompressobj(self) -> Any:
        outer, inner = self, zlib.decompressobj()

        class Unpacker:
            eof = property(lambda self: inner.eof)
            unconsumed_tail = property(lambda self: inner.unconsumed_tail)

            def decompress(self, data: bytes, most: int) -> bytes:
                outer.given += len(data)
                return inner.decompress(data, most)

        return Unpacker()


@pytest.mark.parametrize("side", [18, 58, 182, 577])
def test_pixels_of_one_long_part_are_unpacked_once(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """Pixels of 1e3 to 1e6 bytes that no compression makes smaller, for zlib copies what it did not consume."""
    noise = np.random.default_rng(side).integers(0, 256, side * (1 + 3 * side), np.uint8)
    noise[:: 1 + 3 * side] = 0
    data = png(width=side, height=side, rows=noise.tobytes())
    monkeypatch.setattr(png_decode, "zlib", packed := Packed())
    with pictures.opened(data) as image:
        assert np.array_equal(pictures.pixels(image).reshape(side, -1), noise.reshape(side, -1)[:, 1:])
    assert packed.given <= 2 * len(data)


BOMB = 57 << 10


def bomb(text: bytes) -> bytes:
    return png(chunk(b"zTXt", b"clvr\0\0" + zlib.compress(text, 9)))


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "objects": (
        lambda: bomb(b'{"brief":{"prompt":"x"},"x":[' + b"{}," * (5 << 20) + b"{}]}"),
        "more than 1,500,000 values",
    ),
    "spaces": (lambda: bomb(b" " * (17 << 20)), "unpacks to more than 16,777,216 bytes"),
    "two texts": (
        lambda: png(*[chunk(b"zTXt", b"clvr\0\0" + zlib.compress(b" " * (9 << 20), 9))] * 2),
        "unpacks to more than 16,777,216 bytes",
    ),
    "levels": (lambda: bomb(b"[" * (1 << 20)), "nested more than 100 deep"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_does_not_unpack_to_a_large_trajectory(tmp_path: Path, kind: str) -> None:
    make, why = BOMBS[kind]
    path = made(tmp_path, "a.png", make())
    assert path.stat().st_size < BOMB
    with pytest.raises(BadInput, match=why):
        trajectory_of(path)
    assert peak(lambda: trajectory_of(path)) <= MOST


def picture_readers() -> dict[str, Callable[[Path], object]]:
    return {
        "picture of a run": read_png,
        "picture of an evaluation": read_picture,
        "picture to train on": training_picture,
        "mask": lambda path: RunFolder(path.parent, []).mask(path.name, "0" * 64),
    }


@pytest.mark.parametrize(
    ("width", "height", "rows", "why"),
    [
        (3, (1 << 24) - 1, bytes(40), "its pixels take 167,772,150 bytes, and 40 are in it"),
        (100, 100, bytes(301 * 99), "its pixels take 30,100 bytes, and 29,799 are in it"),
        (100_000, 100_000, b"", "100000 x 100000, and at most 67,108,864 pixels are read"),
        (8193, 8192, bytes(8 << 20), "8193 x 8192, and at most 67,108,864 pixels are read"),
    ],
)
def test_a_picture_that_lacks_pixels_or_has_too_many_is_refused_before_pillow_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int, rows: bytes, why: str
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("its pixels were decoded"))
    path = made(tmp_path, "mask-000.png", png(width=width, height=height, rows=rows))
    for read in picture_readers().values():
        with pytest.raises(BadInput if read is not training_picture else ValueError, match=why):
            read(path)
        assert peak(lambda read=read: read(path)) <= 2 << 20
    assert embedded(path) == {"missing": "cannot be read as a picture"}


def test_an_interlaced_picture_is_read_and_one_without_its_last_byte_is_not() -> None:
    """Of 1 x 1 to 9 x 9 pixels: all seven passes, and sizes at which some of them are empty."""
    for side in range(1, 10):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 1)
        passes = [
            len(range(y, side, dy)) * (1 + len(range(x, side, dx))) for x, y, dx, dy in png_decode._PASSES if x < side
        ]
        for missing in (0, 1):
            rows = chunk(b"IDAT", zlib.compress(bytes(sum(passes) - missing)))
            data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")
            if missing:
                with pytest.raises(ValueError, match="are in it"), pictures.opened(data):
                    pass
            else:
                with pictures.opened(data) as image:
                    assert not pictures.pixels(image).any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_a_picture_of_any_kind_is_converted_as_pillow_does_it(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(pictures, "_BAND", 40)
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (23, 17, 4), np.uint8))
    image = colours.convert("L").convert(mode) if mode == "I;16" else colours.convert(mode)
    file = png_decode.io.BytesIO()
    image.save(file, "PNG")
    with pictures.opened(file.getvalue()) as found, Image.open(png_decode.io.BytesIO(file.getvalue())) as expected:
        assert np.array_equal(pictures.pixels(found), np.asarray(expected.convert("RGB")))


def test_a_webp_has_fewer_pixels_at_most_since_its_decoder_holds_each_four_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_WEBP", 99)
    for width, why in ((9, None), (10, "it is 10 x 10, and at most 99 pixels are read")):
        Image.new("RGB", (width, 10)).save(tmp_path / "a.webp")
        if why:
            with pytest.raises(BadInput, match=why):
                read_picture(tmp_path / "a.webp")
        else:
            assert read_picture(tmp_path / "a.webp").shape == (10, 9, 3)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 900, 10**5])
def test_json_nested_too_deeply_is_a_sentence_for_every_reader(tmp_path: Path, depth: int) -> None:
    """At depths that Python's own parser takes and at ones that it gives up at."""
    deep = '{"a":' * (depth // 2 - 1) + "[" * (depth - depth // 2) + "]" * (depth - depth // 2) + "}" * (depth // 2 - 1)
    line = f'{{"event":"start","id":"1","prompt":"x","brief":{{"prompt":"x"}},"deep":{deep}}}\n'
    readers: list[Callable[[], object]] = [
        lambda: json_of(line),
        lambda: read_jobs(made(tmp_path, "a.jsonl", line), Brief("x")),
        lambda: RunFolder.open(made(tmp_path, JOURNAL, line + line).parent),
        lambda: read_trajectory(made(tmp_path, JOURNAL, line).parent),
        lambda: read_rows(made(tmp_path, ROWS, line).parent),
        lambda: Lines(made(tmp_path, "lines.jsonl", line)),
        lambda: read_json(made(tmp_path, "a.json", line)),
        lambda: trajectory_of(made(tmp_path, "a.png", png(chunk(b"tEXt", b"clvr\0" + line.encode())))),
        lambda: File(made(tmp_path, "a.safetensors", struct.pack("<Q", len(line)) + line.encode())),
    ]
    for number, read in enumerate(readers):
        try:
            read()
        except ValueError as error:
            nested = "nested more than 100 deep" in str(error)
            assert nested == (depth > MAX_DEPTH), f"reader {number}: {error}"
        else:
            assert depth <= MAX_DEPTH, f"reader {number}"
    with pytest.raises(ServerFailure if depth > MAX_DEPTH else AssertionError, match=r"nested|"):
        Client("http://127.0.0.1")._object("127.0.0.1", line.encode())
        raise AssertionError("it was read")


def test_settings_nested_too_deeply_or_too_long_are_a_sentence(tmp_path: Path) -> None:
    for text, why in (
        ("a=" + "[" * 9999 + "]" * 9999, r"a\.toml is not TOML"),
        ("a={b=" * 9999 + "1" + "}" * 9999, r"a\.toml is not TOML"),
        (".".join("a" * (MAX_DOTS + 2)) + "=1", "a line of it has more than 100 dots"),
        ("#" * (1 << 18 | 1), "it has 262,145 bytes, and at most 262,144 are read"),
    ):
        for read in (parsed, read_servers):
            with pytest.raises(BadInput, match=why):
                read(made(tmp_path, "a.toml", text))
    assert parsed(made(tmp_path, "a.toml", 'url = "' + "." * MAX_DOTS + '"')) == {"url": "." * MAX_DOTS}


def test_json_of_many_values_is_a_sentence_and_text_with_many_commas_is_not() -> None:
    with pytest.raises(ValueError, match="more than 1,500,000 values"):
        json_of(b"[" + b"0," * MAX_VALUES + b"0]")
    assert json_of('{"a":"' + "," * 1000 + '"}') == {"a": "," * 1000}


def test_a_value_that_is_wrong_is_quoted_without_being_spelled_out() -> None:
    zeros = [0] * 10**6
    with pytest.raises(ValueError, match="Goal: expected an object, found \\[0, 0") as found:
        from_json(Goal, zeros)
    assert len(str(found.value)) < 200
    assert peak(lambda: from_json(Goal, zeros)) < 1 << 20


def test_pictures_that_are_large_are_decoded_one_after_another_for_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, threads = made(tmp_path, "a.png", png()), []
    monkeypatch.setattr(report, "LOSSLESS", 0)  # no picture is small enough to be taken as it is
    monkeypatch.setattr(report, "_url", lambda image, lossless: threads.append(threading.get_ident()) or "")
    for large in (63, 64):
        monkeypatch.setattr(report, "_LARGE", large)
        embedded(path)
        with ThreadPoolExecutor(1) as other:
            other.submit(embedded, path).result()
    here = threading.get_ident()
    assert threads[0] == threads[1] != here and threads[2] == here != threads[3]
