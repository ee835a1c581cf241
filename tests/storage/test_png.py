from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.errors import BadInput
from clvr_core.storage import png
from clvr_core.storage.png import MAX_COMPRESSED, MAX_PIXELS, read_png, save_png, trajectory_of, write_png
from clvr_core.storage.png_encode import LARGE
from clvr_core.trajectory import Action, Candidate, Cost, EditCheck, Outcome, Step, Trajectory, Verdict, timeless

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def run(seconds: float = 1.5) -> Trajectory:
    goals = (Goal("g1", "a red \u201ccircle\u201d", "text", "Is it?", 0.5, (0.0, 0.25, 1.0, 1.0), ("g2",)),)
    step = Step(
        0,
        Action("GENERATE", "start", "a red circle", goals=("g1",), region=(0.0, 0.0, 0.5, 0.5), strength=0.5),
        None,
        (Candidate(0, "canvas-0000.png", 7, "ab" * 32, 4),),
        0,
        (Verdict("g1", "met", "yes", 0.9),),
        1.0,
        EditCheck(True, 0.1, "fine"),
        True,
        "kept",
        Cost({"draw": seconds}, 100, 2, 4, 1),
    )
    return Trajectory(
        Brief("a red circle", seed=5, budget=Budget(rounds=3, seconds=9.0), goals=goals),
        goals,
        {"executor": "klein", "controller": "qwen"},
        (("g1",),),
        "staged",
        (step,),
        0,
        0,
        Outcome("all met", 0, True, "best"),
        Cost({"goals": 2 * seconds}),
        ("a warning",),
        route="staged",
    )


def test_the_picture_and_the_run_come_back(tmp_path: Path) -> None:
    path = tmp_path / "canvas.png"
    save_png(path, PICTURE, run(), 3)
    picture, text = read_png(path)
    assert picture.dtype == np.uint8 and (picture == PICTURE).all()
    assert text["clvr_canvas"] == "3"
    assert json.loads(text["clvr"])["schema"] == 1
    assert trajectory_of(path) == timeless(run())
    assert [file.name for file in tmp_path.iterdir()] == ["canvas.png"]


def test_other_programs_can_open_it(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", PICTURE, run(), 0)
    with Image.open(tmp_path / "a.png") as image:
        assert (np.array(image) == PICTURE).all()
        assert "clvr" in image.text


def test_the_same_run_gives_the_same_bytes_whatever_time_it_took(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", PICTURE, run(1.5), 0)
    save_png(tmp_path / "b.png", PICTURE, run(99.0), 0)
    save_png(tmp_path / "c.png", PICTURE, replace(run(), models=dict(reversed(run().models.items()))), 0)
    save_png(tmp_path / "d.png", PICTURE, run(), 1)
    first = (tmp_path / "a.png").read_bytes()
    assert first == (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    assert first != (tmp_path / "d.png").read_bytes()


def test_text_of_every_kind_comes_back(tmp_path: Path) -> None:
    text = {"plain": "short", "long": "h\xe4\xdflich \u6f22\u5b57 \n" * 500, "empty": ""}
    write_png(tmp_path / "a.png", PICTURE, text)
    assert read_png(tmp_path / "a.png")[1] == text
    other = Image.fromarray(PICTURE)
    info = __import__("PIL.PngImagePlugin", fromlist=["PngInfo"]).PngInfo()
    info.add_text("tEXt", "latin \xe9")
    info.add_text("zTXt", "latin \xe9" * 99, zip=True)
    other.save(tmp_path / "b.png", pnginfo=info)
    assert read_png(tmp_path / "b.png")[1] == {"tEXt": "latin \xe9", "zTXt": "latin \xe9" * 99}


def test_half_a_surrogate_in_the_words_of_a_model_is_kept(tmp_path: Path) -> None:
    odd = replace(run(), warnings=("\ud800 and \0",))
    save_png(tmp_path / "a.png", PICTURE, odd, 0)
    assert trajectory_of(tmp_path / "a.png").warnings == odd.warnings


def test_a_run_longer_than_pillow_unpacks_still_opens_everywhere(tmp_path: Path) -> None:
    long = replace(run(), warnings=("x" * (MAX_COMPRESSED + 1),))
    save_png(tmp_path / "a.png", PICTURE, long, 0)
    assert trajectory_of(tmp_path / "a.png").warnings == long.warnings
    with Image.open(tmp_path / "a.png") as image:
        image.load()


@pytest.mark.parametrize(
    "picture",
    [PICTURE[..., 0], PICTURE.astype(np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2, 3), np.uint8)],
)
def test_a_picture_of_another_kind_is_refused(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(BadInput, match="uint8 height x width x 3"):
        write_png(tmp_path / "a.png", picture, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value"), [("", "x"), ("k" * 80, "x"), ("a\0b", "x"), ("\u6f22", "x"), ("key", "a\0b"), ("key", "\ud800")]
)
def test_a_text_that_no_png_holds_is_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(BadInput):
        write_png(tmp_path / "a.png", PICTURE, {key: value})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("clvr_core.storage.atomic.os.replace", broken)
    with pytest.raises(OSError, match="no space left"):
        save_png(path, PICTURE, run(), 0)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("side", [24, 400])
def test_pixels_that_are_already_encoded_are_taken_over_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    canvas, best, again = (tmp_path / name for name in ("canvas.png", "best.png", "again.png"))
    save_png(canvas, picture, run(), 0)
    save_png(best, picture, run(), 1, texts={"note": "x"})
    with monkeypatch.context() as patched:
        patched.setattr(png, "encode", None)
        save_png(again, picture, run(), 1, texts={"note": "x"}, like=canvas)
    assert again.read_bytes() == best.read_bytes()
    canvas.write_bytes(canvas.read_bytes()[:-9])
    for missing in (canvas, tmp_path / "gone.png"):
        save_png(again, picture, run(), 1, texts={"note": "x"}, like=missing)
        assert again.read_bytes() == best.read_bytes(), "what is damaged or gone is encoded anew"


def test_no_trajectory_is_a_sentence(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", PICTURE, {"other": "text"})
    with pytest.raises(BadInput, match=r"a\.png carries no trajectory"):
        trajectory_of(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"none\.png cannot be read"):
        trajectory_of(tmp_path / "none.png")
    (tmp_path / "b.png").write_bytes(b"GIF89a")
    with pytest.raises(BadInput, match="is not a PNG"):
        trajectory_of(tmp_path / "b.png")


def test_a_newer_schema_is_named(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", PICTURE, {"clvr": '{"schema": 99, "brief": {"prompt": "x"}}'})
    with pytest.raises(BadInput, match="schema version 99; this version reads up to 1"):
        trajectory_of(tmp_path / "a.png")


def test_unknown_fields_are_skipped(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", PICTURE, {"clvr": '{"brief": {"prompt": "x", "later": 1}, "more": []}'})
    # A record without a size is of the time when 96 was meant.
    assert trajectory_of(tmp_path / "a.png") == Trajectory(Brief("x", width=96, height=96))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"x"',
        "{}",
        '{"brief": {"prompt": ""}}',
        '{"schema": "x"}',
        '{"schema": 0}',
        "[" * 100_000,
        '{"brief": {"prompt": "x"}, "steps": 4}',
        '{"brief": {"prompt": "x"}, "models": [1]}',
    ],
)
def test_a_damaged_trajectory_is_a_sentence(tmp_path: Path, text: str) -> None:
    write_png(tmp_path / "a.png", PICTURE, {"clvr": text})
    with pytest.raises(BadInput, match=r"trajectory in a\.png is damaged"):
        trajectory_of(tmp_path / "a.png")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", PICTURE, run(), 0)
    whole = (tmp_path / "a.png").read_bytes()
    for size in [*range(0, len(whole) - 1, 97), len(whole) - 1]:
        (tmp_path / "b.png").write_bytes(whole[:size])
        for read in (read_png, trajectory_of):
            with pytest.raises(BadInput, match=r"b\.png"):
                read(tmp_path / "b.png")


def test_a_flipped_byte_is_never_an_unnamed_error(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", PICTURE, run(), 0)
    whole = (tmp_path / "a.png").read_bytes()
    for place in range(0, len(whole), 41):
        (tmp_path / "b.png").write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        for read in (read_png, trajectory_of):
            with pytest.raises(BadInput):
                read(tmp_path / "b.png")


def _with_chunk(kind: bytes, content: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "PNG")
    whole = file.getvalue()
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return whole[:33] + chunk + whole[33:]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"iTXt", b"clvr"),
        (b"iTXt", b"clvr\0\1\0\0\0junk"),
        (b"iTXt", b"clvr\0\1\0\0\0" + zlib.compress(b"text")[:-5]),
        (b"zTXt", b"clvr\0\0" + zlib.compress(bytes(65 << 20))),
        (b"iTXt", b"clvr\0\0\0\0\0\xff\xff"),
    ],
    ids=["no text", "not zlib", "cut", "bomb", "not UTF-8"],
)
def test_a_bad_text_chunk_is_a_sentence(tmp_path: Path, kind: bytes, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(_with_chunk(kind, content))
    with pytest.raises(BadInput, match="its text b'clvr' cannot be read"):
        trajectory_of(tmp_path / "a.png")


def test_a_picture_that_a_small_file_makes_huge_is_neither_read_nor_written(tmp_path):
    huge = np.broadcast_to(np.zeros(3, np.uint8), (MAX_PIXELS // 8192 + 1, 8192, 3))
    with pytest.raises(BadInput, match=r"at most 67,108,864 pixels; this one is 8192 x 8193"):
        write_png(tmp_path / "a.png", huge, {})
    header = struct.pack(">IIBBBBB", 8192, 8193, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    with pytest.raises(
        BadInput, match=r"b\.png is not a whole PNG: it is 8192 x 8193, and at most 67,108,864 pixels are read"
    ):
        read_png(tmp_path / "b.png")


def photograph(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    patches = Image.fromarray(rng.integers(0, 240, (8, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.asarray(patches) // 2 + rng.integers(0, 9, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (351, 251), (90_000, 1), (1, 90_000), (3, 30_000)])
def test_a_large_picture_comes_back_bit_for_bit_here_and_elsewhere(tmp_path: Path, height: int, width: int) -> None:
    """Of rows that fill its bands and rows that do not, of one row and of rows longer than a band."""
    picture, path = photograph(height, width), tmp_path / "a.png"
    assert picture.size >= LARGE
    write_png(path, picture, {"key": "value"})
    assert np.array_equal(read_png(path)[0], picture) and read_png(path)[1] == {"key": "value"}
    with Image.open(path) as image:
        assert np.array_equal(np.array(image), picture) and image.text == {"key": "value"}


def test_a_large_picture_takes_about_as_much_as_pillow_needs_for_it(tmp_path: Path) -> None:
    picture, usual = photograph(512, 512), io.BytesIO()
    write_png(tmp_path / "a.png", picture, {})
    Image.fromarray(picture).save(usual, "PNG")
    assert (tmp_path / "a.png").stat().st_size < 1.1 * len(usual.getvalue())


def test_a_large_picture_has_the_same_bytes_on_any_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for cores in (1, 8):
        monkeypatch.setattr("clvr_core.storage.png_encode.os.cpu_count", lambda cores=cores: cores)
        write_png(tmp_path / "a.png", photograph(512, 512), {})
        written.append((tmp_path / "a.png").read_bytes())
    assert written[0] == written[1]
