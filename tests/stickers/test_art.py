"""The pictures of the stickers, and scenes drawn with them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from clvr_core.errors import BadInput
from clvr_core.stickers import art
from clvr_core.stickers.backdrop import backdrop
from clvr_core.stickers.render import render
from clvr_core.stickers.scene import (
    ART,
    BACKDROPS,
    CANVAS,
    CELL,
    JITTER,
    NATURAL,
    NOUNS,
    OWN,
    SIZES,
    TINTS,
    Scene,
    Thing,
    look,
    looks,
)

needs_art = pytest.mark.skipif(
    not (Path(os.environ.get("CLVR_ART") or art.PACKAGE) / "1f408.webp").is_file(),
    reason="the pictures of the stickers are not installed: run `npm ci` in tests/web",
)


def test_no_two_nouns_share_a_picture():
    assert len(set(ART.values())) == len(NOUNS)


def test_without_the_pictures_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_ART", str(tmp_path))
    with pytest.raises(BadInput, match="npm ci"):
        art.folder()


def test_a_noun_named_with_its_own_colour_is_drawn_as_without():
    assert look("banana", "yellow") == look("banana", None) == NATURAL
    assert look("banana", "blue") == "blue"
    assert set(OWN.values()) <= set(TINTS)
    assert all(OWN[noun] not in looks(noun) for noun in OWN)


@pytest.mark.parametrize("name", BACKDROPS)
def test_a_backdrop_differs_from_all_others(name):
    mine = backdrop(name).astype(int)
    assert mine.shape == (CANVAS, CANVAS, 3)
    assert all(np.abs(mine - backdrop(other)).mean() > 10 for other in BACKDROPS if other != name)


def test_an_unknown_backdrop_is_refused():
    with pytest.raises(ValueError, match="moon"):
        backdrop("moon")


@needs_art
@pytest.mark.parametrize("noun", NOUNS)
def test_a_sticker_fills_its_span_and_leaves_room_for_the_jitter(noun):
    for size in SIZES:
        rows, columns = np.nonzero(art.sticker(noun, NATURAL, size)[..., 3] > 8)
        assert min(rows.min(), columns.min()) >= JITTER
        assert max(rows.max(), columns.max()) < CELL - JITTER
    small, large = (int((art.sticker(noun, NATURAL, size)[..., 3] > 128).sum()) for size in SIZES)
    assert large > 1.6 * small


@needs_art
@pytest.mark.parametrize("noun", ["cat", "zebra", "banana", "cup", "sports ball", "traffic light"])
def test_the_looks_of_a_noun_differ(noun):
    drawn = {name: art.sticker(noun, name, "large").astype(int) for name in looks(noun)}
    inside = drawn[NATURAL][..., 3] > 200
    for one in drawn:
        for other in drawn:
            if one != other:
                assert np.abs(drawn[one][inside][:, :3] - drawn[other][inside][:, :3]).mean() > 12, (one, other)


@needs_art
def test_words_on_signs_differ_letter_by_letter():
    words = ("A", "AB", "BA", "OPEN", "OVEN", "HELLO", "HELL", "WWWWW", "IIIII", "O")
    boards = {word: art.board(word).astype(int) for word in words}
    assert all(np.abs(boards[one] - boards[other]).max() > 100 for one in words for other in words if one != other)


@needs_art
def test_a_thing_is_drawn_in_its_cell_and_nowhere_else():
    scene = Scene((Thing("cat", "blue", "large", 4, 3, -3), Thing("sign", NATURAL, "large", 8, 0, 2, "OPEN")), "sea")
    drawn, bare = render(scene).astype(int), render(Scene((), "sea")).astype(int)
    changed = np.abs(drawn - bare).max(-1) > 0
    cells = {(y // CELL, x // CELL) for y, x in zip(*np.nonzero(changed))}
    assert cells == {(1, 1), (2, 2)}


@needs_art
def test_the_offset_moves_the_sticker():
    at_rest = render(Scene((Thing("cat", "blue", "large", 4),))).astype(int)
    moved = render(Scene((Thing("cat", "blue", "large", 4, 2, 1),))).astype(int)
    assert np.array_equal(np.roll(at_rest, (1, 2), (0, 1))[70:120, 70:120], moved[70:120, 70:120])
