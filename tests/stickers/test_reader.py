"""What the outputs of the reader mean, and what an edit did."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clvr_core.brief import Goal
from clvr_core.errors import BadInput
from clvr_core.stickers import perceive
from clvr_core.stickers.codes import DX, LOOK, LOOKS, NOUN, SIZE, WORD, codes
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.perceive import perceived, read
from clvr_core.stickers.reader import SPLIT, UNCLEAR, Reader
from clvr_core.stickers.scene import BACKDROPS, JITTER, LETTERS, NATURAL, Scene, Thing
from clvr_core.verifier import judge

SCENE = Scene(
    (
        Thing("cat", "blue", "large", 0, 1, -2),
        Thing("hot dog", NATURAL, "small", 4, 0, 3),
        Thing("sign", NATURAL, "large", 8, -1, 0, "OPEN"),
    ),
    "night",
)


def outputs(scene: Scene, sure: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """The outputs of a reader that is sure of the scene."""
    (cells,), (backdrop,) = codes([scene])
    rows = np.zeros((9, sum(SPLIT)), np.float32)
    starts = np.cumsum((0, *SPLIT))
    for row, what in zip(rows, cells):
        row[starts[0] + what[NOUN]] = sure
        row[starts[1] + what[LOOK]] = sure
        row[starts[2] + what[SIZE]] = sure
        row[starts[3] : starts[3] + 2] = what[DX : DX + 2] / JITTER
        for letter in range(5):
            row[starts[4 + letter] + what[WORD + letter]] = sure
    whole = np.zeros(len(BACKDROPS) + 1, np.float32)
    whole[backdrop] = sure
    return rows, whole


def test_sure_outputs_are_the_scene():
    seen = perceived(*outputs(SCENE))
    assert seen.clean
    assert seen.scene() == SCENE


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_part_that_is_not_sure_makes_the_cell_unclear(part):
    rows, whole = outputs(SCENE)
    start = np.cumsum((0, *SPLIT))[part]
    rows[4, start : start + SPLIT[part]] = 0
    seen = perceived(rows, whole)
    assert seen.unclear == (4,)
    assert [thing.cell for thing in seen.things] == [0, 8]


def test_damage_is_unclear_and_not_empty():
    rows, whole = outputs(SCENE)
    rows[2, 0], rows[2, UNCLEAR] = 0, 20
    assert perceived(rows, whole).unclear == (2,)


def test_a_backdrop_that_is_not_sure_is_none():
    rows, whole = outputs(SCENE)
    seen = perceived(rows, np.zeros_like(whole))
    assert seen.backdrop is None
    assert not seen.clean
    unclear = np.zeros_like(whole)
    unclear[-1] = 20
    assert perceived(rows, unclear).backdrop is None


def test_a_word_with_a_gap_or_without_letters_is_unclear():
    for word in (("O", "", "E", "N", ""), ("", "", "", "", "")):
        rows, whole = outputs(SCENE)
        starts = np.cumsum((0, *SPLIT))[4:]
        for letter, start in zip(word, starts):
            rows[8, start : start + 27] = 0
            rows[8, start + (LETTERS.index(letter) + 1 if letter else 0)] = 20
        assert perceived(rows, whole).unclear == (8,)


def test_a_look_that_the_noun_does_not_have_is_unclear():
    rows, whole = outputs(Scene((Thing("banana", "blue", "large", 0),)))
    start = np.cumsum((0, *SPLIT))[1]
    rows[0, start : start + len(LOOKS)] = 0
    rows[0, start + LOOKS.index("yellow")] = 20
    assert perceived(rows, whole).unclear == (0,)


def test_the_network_reads_several_pictures_each_for_itself():
    torch.manual_seed(0)
    network = Reader((8, 8, 16, 16), 16).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 192, 192, 3), np.uint8)
    together = read(list(pictures), network)
    assert together == [read([picture], network)[0] for picture in pictures]


def test_one_look_serves_all_questions(monkeypatch):
    torch.manual_seed(0)
    network, looks, real = Reader().eval(), [], perceive.read
    monkeypatch.setattr(perceive, "reader", lambda: network)
    monkeypatch.setattr(perceive, "read", lambda images, network: looks.append(len(images)) or real(images, network))
    picture = np.random.default_rng(1).integers(0, 256, (192, 192, 3), np.uint8)
    goals = (Goal("g1", "a red cat"), Goal("g2", "two blue cars"))
    assert judge(StickersVlm(), picture, goals).verdicts == judge(StickersVlm(), picture.copy(), goals).verdicts
    assert looks == [1]


def test_missing_weights_say_how_to_train_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_READER", str(tmp_path / "none.safetensors"))
    perceive.reader.cache_clear()
    with pytest.raises(BadInput, match="clvr train stickers reader"):
        perceive.reader()


@pytest.mark.parametrize("picture", [np.zeros((96, 96, 3), np.uint8), np.zeros((192, 192, 3), np.float32)])
def test_other_pictures_are_refused(picture):
    with pytest.raises(ValueError, match="192"):
        perceive.perceive(picture)
