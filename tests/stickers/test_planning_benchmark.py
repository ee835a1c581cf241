"""benchmarks/sticker_planning.py: what the simulated executor draws, how often it errs, and what the table says."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import sticker_planning as bench
from benchmarks.sticker_planning import Conditions
from clvr_core.executor.masks import mask_of
from clvr_core.executor.pasting import put_back
from clvr_core.protocols import DrawRequest
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.render import render
from clvr_core.stickers.sampling import grouped_scene, random_brief
from clvr_core.stickers.scene import NATURAL, SIGN, Scene, Thing
from clvr_core.stickers.simulated import Rates, SimulatedExecutor, perceive, perceive_rendered, picture_of, rendered
from clvr_core.trajectory import Change
from tests.stickers.test_art import needs_art

FLAWLESS = Rates(thing=0, crowd=0, place=0, relation=0, letter=0, backdrop=0, edit=0, spill=0, systematic=0)


def drawn(rates: Rates, prompt: str, count: int) -> float:
    """The share of pictures that show the brief."""
    requests = [DrawRequest(prompt, seed, (), 192, 192) for seed in range(count)]
    spec = parse(prompt)
    return sum(spec.holds(perceive(each.picture).scene()) for each in SimulatedExecutor(rates).draw(requests)) / count


def edited(rates: Rates, prompt: str, before: Scene, seed: int) -> Scene:
    (drawing,) = SimulatedExecutor(rates).draw([DrawRequest(prompt, seed, (picture_of(before),), 192, 192)])
    return perceive(drawing.picture).scene()


def test_a_flawless_hand_draws_every_brief_and_carries_out_every_change():
    rng = random.Random(3)
    for number in range(30):
        _, _spec, prompt = random_brief(rng, 1 + number % 8)
        assert drawn(FLAWLESS, prompt, 1) == 1.0, prompt
    before = Scene((Thing("cat", "red", "small", 0),), "sea")
    assert edited(FLAWLESS, "make the red cat at the top left blue", before, 1).things[0].color == "blue"
    assert edited(FLAWLESS, 'add a sign that says "GO" at the middle center', before, 1).at(4).word == "GO"


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("large red cat top left, sign top left, small dog bottom right, at night", [("cat", 0), ("dog", 8)]),
        ("large red cat top left, an unheard-of thing, small dog bottom right, at night", [("cat", 0), ("dog", 8)]),
        ("9 red cats", []),
        (
            "red cat top left, blue dog top right, red cat left of blue dog, red cat right of blue dog",
            [("cat", 0), ("dog", 2)],
        ),
    ],
)
def test_what_a_model_wrote_beyond_the_grammar_is_drawn_as_far_as_it_can_be(prompt, shown):
    (drawing,) = SimulatedExecutor(FLAWLESS).draw([DrawRequest(prompt, 1, (), 192, 192)])
    scene = perceive(drawing.picture).scene()
    assert [(thing.noun, thing.cell) for thing in scene.things] == shown
    assert "night" not in prompt or scene.backdrop == "night"


@pytest.mark.parametrize(
    "prompt, share",
    [("a red cat", 0.97), ("a red cat, a blue car and a pink tree", 0.80), ('a sign that says "CAT"', 0.5)],
)
def test_one_shot_errs_as_often_as_the_rates_say(prompt, share):
    # Sizes are not asked for here, and a wrong one is no fault.
    rates = replace(Rates(), systematic=0.0)
    assert drawn(rates, prompt, 600) == pytest.approx(share, abs=0.06)


def test_edits_err_as_often_as_the_rates_say():
    before = Scene((Thing("cat", "red", "small", 0), Thing("car", "blue", "large", 4)))
    wanted = replace(before, things=(Thing("cat", "green", "small", 0), before.things[1]))
    rates = replace(Rates(), systematic=0.0)
    found = [edited(rates, "make the red cat at the top left green", before, seed) == wanted for seed in range(400)]
    assert sum(found) / 400 == pytest.approx((1 - rates.edit) * (1 - rates.spill), abs=0.05)


def test_systematic_errors_come_back_with_every_seed():
    rates = replace(Rates(), letter=0.5, systematic=1.0)
    words = set()
    for seed in range(20):
        (drawing,) = SimulatedExecutor(rates).draw([DrawRequest('a sign that says "HELLO"', seed, (), 192, 192)])
        words |= {thing.word for thing in perceive(drawing.picture).scene().things}
    assert len(words) <= 1


def test_the_pictures_say_their_scene_and_what_is_unclear():
    scene = grouped_scene(random.Random(5), 6)
    taken = scene.things[0].cell
    assert perceive(picture_of(scene)).scene() == scene
    seen = perceive(picture_of(scene, unclear=[taken], backdrop_is_clear=False))
    assert seen.unclear == (taken,) and seen.backdrop is None


def test_what_is_put_back_on_the_backdrop_before_still_says_its_things():
    thing, kept = Thing("cat", "red", "large", 0), Thing(SIGN, NATURAL, "large", 8, word="STOP")
    before, after = Scene((kept,), "sunset"), Scene((thing, kept), "night")
    meant = Change(meant=((0.0, 0.0, 0.33, 0.33),))
    seen = perceive(put_back(picture_of(before), picture_of(after), meant))
    assert seen.clean and seen.scene() == Scene((thing, kept), "sunset")


def test_a_code_that_is_blended_is_unclear():
    picture = picture_of(Scene((Thing("cat", "red", "large", 0), Thing("car", "blue", "small", 4))))
    picture[32, 32] += 90
    assert perceive(picture).unclear == (0,) and [thing.noun for thing in perceive(picture).things] == ["car"]


@needs_art
def test_a_rendered_picture_says_its_scene_in_bits_that_no_eye_sees():
    rng = random.Random(2)
    for number in range(9):
        scene = grouped_scene(rng, number)
        picture = rendered(scene)
        assert perceive_rendered(picture).scene() == scene and perceive_rendered(picture).clean
        assert np.abs(picture.astype(int) - render(scene)).max() <= 1
    picture[96, 96] ^= 1
    assert perceive_rendered(picture).unclear == (4,)


@needs_art
def test_an_edit_under_a_mask_leaves_the_bits_of_the_other_cells():
    before = Scene((Thing("cat", "red", "small", 0), Thing("car", "blue", "small", 8)), "sea")
    mask = mask_of((0.0, 0.0, 0.33, 0.33), 192, 192)
    words = "make the red cat at the top left green and make the blue car at the bottom right red"
    executor = SimulatedExecutor(FLAWLESS, paint=rendered, read=perceive_rendered)
    (drawing,) = executor.draw([DrawRequest(words, 1, (rendered(before),), 192, 192, mask=mask)])
    seen = perceive_rendered(drawing.picture)
    assert [thing.color for thing in seen.things] == ["green", "blue"] and seen.clean


def test_the_table_tells_every_arm_and_that_the_executor_is_simulated():
    arms = ("oneshot", "plan-best-of-n", "clvr")
    conditions = Conditions("exact", rates=FLAWLESS)
    found = bench.measure(conditions, arms, per_tier=1, seed=2)
    assert found["settings"]["executor"] == "simulated" and tuple(found["arms"]) == arms
    assert found["arms"]["clvr"]["pass"] == [1.0] * bench.TIERS == found["arms"]["oneshot"]["pass"]
    assert found["arms"]["clvr"]["x oneshot"] == 1.0 and found["arms"]["clvr"]["ended"] == {"goals met": bench.TIERS}
    assert bench.table(found).count("\n") == len(arms) + 1
    assert found["arms"]["plan-best-of-n"]["evaluations"] >= found["arms"]["clvr"]["evaluations"]


def test_a_planner_and_a_judge_that_err_do_worse():
    arms = ("oneshot", "clvr")
    good = bench.measure(Conditions("exact", weights="merged"), arms, per_tier=2, seed=4)
    poor = bench.measure(Conditions("correlated", 0.3, "merged"), arms, per_tier=2, seed=4)
    assert poor["arms"]["clvr"]["auc"] < good["arms"]["clvr"]["auc"]
    assert poor["arms"]["oneshot"]["auc"] == good["arms"]["oneshot"]["auc"]
