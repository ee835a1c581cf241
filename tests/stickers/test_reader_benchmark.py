"""benchmarks/sticker_reader.py: what counts as exact, accepted and damaged."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks import sticker_reader as bench
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.reader import Reader
from clvr_core.stickers.scene import SIGN, Scene, Thing
from tests.stickers.test_art import needs_art


def test_every_changed_scene_fails_the_brief_and_every_change_comes():
    cases = list(bench.mutants(random.Random(3), 160))
    assert not any(parse(brief).holds(other) for _, brief, other in cases)
    assert {kind for kind, *_ in cases} == {*bench.EDIT_KINDS, "letter"}


def test_letters_are_counted_one_by_one_and_those_beyond_the_word_are_wrong():
    scene = Scene((Thing(SIGN, "natural", "large", 2, word="CAT"), Thing("cat", "natural", "large", 3)))
    seen = Perception((replace(scene.things[0], word="CUTS"),))
    assert bench.letters(scene, seen) == [True, False, True, False]
    assert bench.letters(scene, Perception((), "plain", (2,))) == [False] * 3


@needs_art
def test_an_untrained_reader_reads_nothing_accepts_nothing_and_every_picture_is_counted(monkeypatch):
    network = Reader().eval()
    monkeypatch.setattr(bench, "reader", lambda: network)
    found = bench.measure(9, 1)
    assert {part["exact"]["found"] for part in found["reading"].values()} == {0}
    assert {part["exact"]["of"] for part in found["reading"].values()} == {9}
    assert found["false accepts"]["found"] == 0 and found["false accepts"]["of"] == 9
    damaged = found["damaged cells"]
    assert damaged["unclear"]["found"] == damaged["unclear"]["of"] > 0


@needs_art
def test_perfect_eyes_are_exact_under_no_noise_and_accept_no_changed_scene(monkeypatch):
    shown: dict[bytes, Scene] = {}

    def noted(scene):
        picture = render(scene)
        shown[picture.tobytes()] = scene
        return picture

    render = bench.render
    monkeypatch.setattr(bench, "render", noted)
    monkeypatch.setattr(
        bench,
        "read",
        lambda pictures, _: [
            Perception(scene.things, scene.backdrop) for scene in (shown[each.tobytes()] for each in pictures)
        ],
    )
    monkeypatch.setattr(bench, "reader", lambda: None)
    import tqdm

    with tqdm.tqdm(disable=True) as bar:
        scenes = [bench.any_scene(random.Random(5), count) for count in range(1, 10)]
        assert bench.reading(scenes, bench.clean, bar)["exact"]["share"] == 1.0
        assert bench.false_accepts(24, 5, bar)["found"] == 0


def test_a_share_of_nothing_has_no_interval():
    assert bench.share(0, 0)["ci95"] is None
    assert bench.share(9, 10)["ci95"] == pytest.approx([0.596, 0.982], abs=1e-3)
