"""The exact text inspection: which instructions contradict a brief, by the words of both."""

from __future__ import annotations

import random

import pytest

from clvr_core.stickers.critique import contradiction
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.phrases import whole, write
from clvr_core.stickers.planner import closest
from clvr_core.stickers.planning_errors import anew, misunderstood
from clvr_core.stickers.sampling import random_brief
from clvr_core.stickers.scene import Scene

BRIEF = parse(
    'a small red cat in the top row, two blue cars, a dog and a sign that says "STOP" at the bottom right at night. '
    "the small red cat is left of the dog."
)


@pytest.mark.parametrize(
    "words, why",
    [
        ("add a small red cat at the top left", ""),
        ("add a red cat at the top left", ""),
        ("add a cat at the top left", ""),
        ("make the dog at the middle left small", ""),
        ("remove the red cat at the top left", ""),
        ("restore the top left from image 2", ""),
        ("change the scene to night", ""),
        ('write "STOP" on the sign at the bottom right', ""),
        ("add a blue car at the top left and add a blue car at the top center", ""),
        ("add a green cat at the top left", "no green cat"),
        ("add a large red cat at the top left", "no large red cat"),
        ("add a small red cat at the middle left", "no red cat at the middle left"),
        ("add a cow at the top left", "no cow"),
        ("change the scene to sea", "the scene at night"),
        ('write "STEP" on the sign at the bottom right', 'says "STEP"'),
        ('add a sign that says "STOP" at the top left', "no sign at the top left"),
        ("move the sign at the bottom right to the top left", ""),
        ("make the object at the top left green", "is to be green"),
        ("add a red cat at the top left and add a red cat at the top center", "1 red cat at most"),
    ],
)
def test_an_instruction_contradicts_what_it_says_otherwise_and_nothing_that_it_leaves_out(words, why):
    found = contradiction(BRIEF, {"kind": "EDIT", "edit_prompt": words})
    assert why in found if why else found == "", found


@pytest.mark.parametrize(
    "words, why",
    [
        ("small red cat top left, dog top right, at night", ""),
        ("small red cat top left", ""),
        ("small red cat top right, dog top left", "the red cat is left of the dog"),
        ("3 blue cars", "2 blue cars at most"),
        ("2 blue cars, at sea", "the scene at night"),
        ("red cat, dog. red cat right of dog", "says otherwise"),
    ],
)
def test_a_scene_too_is_held_against_counts_and_relations(words, why):
    found = contradiction(BRIEF, {"kind": "GENERATE", "scene_prompt": words})
    assert why in found if why else found == "", found


def test_what_ends_the_run_contradicts_nothing():
    assert contradiction(BRIEF, {"kind": "END", "edit_prompt": "", "scene_prompt": ""}) == ""


def test_no_arrangement_that_meets_a_brief_contradicts_it_and_a_misunderstood_one_mostly_does():
    rng, wrong, caught = random.Random(4), 0, 0
    for number in range(150):
        _, _, prompt = random_brief(rng, 1 + number % 7)
        spec = parse(prompt)
        right = closest(spec, Scene(), rng)
        assert right is not None
        action = {"kind": "GENERATE", "scene_prompt": write(whole(right), "terse")}
        if spec.holds(right):
            assert contradiction(spec, action) == "", (prompt, action)
        other = misunderstood(spec, 0.4, anew(str(number)))
        drawn = closest(other, Scene(), rng)
        if drawn is not None and not spec.holds(drawn):
            wrong += 1
            caught += bool(contradiction(spec, {"kind": "GENERATE", "scene_prompt": write(whole(drawn), "terse")}))
    assert wrong > 40 and caught / wrong > 0.6, (caught, wrong)
