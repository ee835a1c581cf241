"""benchmarks/sticker_weights.py: what counts as right, with a hand and eyes that never err."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import tqdm

from benchmarks import sticker_weights as bench
from clvr_core.executor.klein import Sampling, SamplingRecipe
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.scene import SIGN, Scene, Thing
from clvr_core.stickers.simulated import Rates, SimulatedExecutor, perceive, picture_of
from tests.stickers.test_reader import outputs

FLAWLESS = Rates(thing=0, crowd=0, place=0, relation=0, letter=0, backdrop=0, edit=0, spill=0, systematic=0)


class Hand(SimulatedExecutor):
    def text_length(self, prompt: str) -> int:
        return len(prompt)

    def round_trip(self, picture):
        return picture


def lettered_a(seen: Perception) -> Perception:
    return Perception(bench.lettered_a(seen.scene()).things, seen.backdrop, seen.unclear)


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(bench, "render", picture_of)
    monkeypatch.setattr(bench, "read", lambda pictures: [(s, lettered_a(s)) for s in map(perceive, pictures)])

    def measure(rates: Rates, count: int):
        with tqdm.tqdm(disable=True) as bar:
            return bench.measure(Hand(rates), count, 3, bar)

    return measure


def test_a_flawless_hand_is_right_everywhere(measured):
    found = measured(FLAWLESS, 6)
    assert [*found["one shot"]] == [str(count) for count in range(1, 9)]
    assert {*found["edits"]} == {"put", "remove", "recolor", "resize", "move", "word", "backdrop"}
    for row in found["one shot"].values():
        assert row["exact"]["share"] == row["words aside"]["share"] == 1.0 and row["exact"]["of"] == 6
        assert row["words"]["share"] in (None, 1.0)
    assert {row["whole"]["share"] for row in found["edits"].values()} == {1.0}
    assert {row["letters"]["share"] for row in found["lettering"].values()} == {1.0}
    assert found["round trip"]["exact"]["share"] == 1.0


def test_wrong_letters_count_against_words_and_not_where_words_are_left_aside(measured):
    found = measured(replace(FLAWLESS, letter=1.0), 6)
    for row in found["lettering"].values():
        assert row["word"]["share"] == row["exact"]["share"] == 0.0
    assert {row["words aside"]["share"] for row in found["one shot"].values()} == {1.0}
    said = [row["words"] for row in found["one shot"].values()]
    assert sum(each["found"] for each in said) == 0 < sum(each["of"] for each in said)


def test_an_edit_that_changes_something_else_too_is_not_whole(measured):
    rows = measured(replace(FLAWLESS, spill=1.0), 12)["edits"].values()
    assert all(row["whole"]["found"] <= min(row["target"]["found"], row["untouched"]["found"]) for row in rows)
    assert sum(row["untouched"]["found"] for row in rows) < sum(row["target"]["found"] for row in rows)
    # What spills may undo the edit, or change what stands in another cell of the same kind: whole is rare, not never.
    assert sum(row["whole"]["found"] for row in rows) < 0.25 * 12 * len(rows)


def test_a_sign_whose_letters_are_not_clear_is_read_with_the_words_aside(monkeypatch):
    scene = Scene((Thing(SIGN, "natural", "large", 4, word="GO"), Thing("cat", "red", "small", 0)))
    cells, whole = (torch.from_numpy(part)[None] for part in outputs(scene))
    cells[0, 4, np.cumsum((0, *bench.SPLIT))[4] :] = 0
    monkeypatch.setattr(bench, "reader", lambda: lambda pictures: (cells.clone(), whole))
    ((seen, bare),) = bench.read([np.zeros((192, 192, 3), np.uint8)])
    assert seen.unclear == (4,)
    assert bare.clean and bare.at(4) == replace(scene.things[1], word="A")
    assert bare.at(0) == scene.things[0]


def test_words_are_asked_for_as_often_as_the_brief_says():
    spec = parse('two signs that say "GO"')
    sign = Thing(SIGN, "natural", "large", 0, word="GO")
    both = Perception((sign, replace(sign, cell=1)))
    assert bench.says(spec, both) and not bench.says(spec, Perception((sign,)))


def test_steps_and_guidance_take_the_place_of_the_recipes():
    recipe = SamplingRecipe(Sampling(28, 2.0), Sampling(12, 1.0))
    executor = SimpleNamespace(recipe=recipe)
    bench.sampled(executor, None, None)
    assert (executor.recipe.generate, executor.recipe.edit) == (recipe.generate, recipe.edit)
    bench.sampled(executor, 4, 1.0)
    assert executor.recipe.generate == executor.recipe.edit == Sampling(4, 1.0)


def test_pictures_come_in_the_order_of_their_prompts():
    prompts = [prompt for *_, prompt in (bench.random_brief(random.Random(seed), 1 + seed % 4) for seed in range(9))]
    with tqdm.tqdm(disable=True) as bar:
        pictures = bench.draw(Hand(FLAWLESS), prompts, (), 1, bar)
    assert all(parse(prompt).holds(perceive(each).scene()) for prompt, each in zip(prompts, pictures))
