"""What a canvas should show after an instruction, as prompts that can be checked alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clvr_core.stickers.grammar import parse, parse_instruction
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.proxies import after, proxies
from clvr_core.stickers.scene import NATURAL, SIGN, Scene, Thing

CAT, CAR = Thing("cat", "red", "small", 0, 2, 2), Thing("car", "blue", "large", 4)
STOP = Thing(SIGN, NATURAL, "large", 8, word="STOP")
SCENE = Scene((CAT, CAR, STOP), "day")


def followed(words: str, scene: Scene = SCENE, *others: Scene) -> Scene:
    for change in parse_instruction(words):
        scene = after(change, scene, [scene, *others])
    return scene


class TestAfter:
    @pytest.mark.parametrize(
        ("words", "scene"),
        [
            ("remove the red cat at the top left", Scene((CAR, STOP), "day")),
            ("make the cat at the top left pink", SCENE.with_thing(replace(CAT, color="pink"))),
            ("give the cat at the top left its own color", SCENE.with_thing(replace(CAT, color=NATURAL))),
            ("make the cat at the top left large", SCENE.with_thing(replace(CAT, size="large"))),
            (
                "move the cat at the top left to the top right",
                Scene((replace(CAT, cell=2, dx=0, dy=0), CAR, STOP), "day"),
            ),
            ("move the cat at the top left to the middle center", SCENE),
            ('write "GO" on the sign at the bottom right', SCENE.with_thing(replace(STOP, word="GO"))),
            ("change the scene to night", Scene(SCENE.things, "night")),
            ("add a dog at the top right", SCENE.with_thing(Thing("dog", NATURAL, "small", 2))),
            ("replace the object at the middle center with a dog", SCENE.with_thing(Thing("dog", NATURAL, "large", 4))),
            (
                'add a sign that says "HI" at the top right',
                SCENE.with_thing(Thing(SIGN, NATURAL, "large", 2, word="HI")),
            ),
            ("make the sign at the bottom right red", SCENE),
            ("make the sign at the bottom right small", SCENE),
            ("remove the object at the top right", SCENE),
        ],
    )
    def test_each_kind_of_change(self, words, scene):
        assert followed(words) == scene

    def test_the_colour_that_a_noun_has_anyway_is_its_natural_look(self):
        banana = Scene((Thing("banana", "blue", "small", 0),))
        assert followed("make the object at the top left yellow", banana).things[0].color == NATURAL

    def test_a_cell_is_restored_from_the_canvas_that_is_named(self):
        words = "restore the top right from image 2"
        dog = Thing("dog", NATURAL, "small", 2)
        assert followed(words, SCENE, Scene((dog,), "snow")) == SCENE.with_thing(dog)
        assert followed(words, SCENE.with_thing(dog), Scene()) == SCENE
        assert followed(words) == SCENE


class TestProxies:
    def test_the_scene_after_the_instruction_is_told_and_the_canvases_it_used(self):
        seen = [Perception(SCENE.things, SCENE.backdrop), Perception((replace(CAT, cell=2),))]
        words = "restore the top right from image 2 and change the scene to sea"
        found = proxies({"words": words}, seen)
        assert found["references"] == [1, 2] and found["edit_prompt"] == words
        spec = parse(found["scene_prompt"])
        assert spec.backdrop == "sea" and spec.holds(followed(words, SCENE, seen[1].scene()))

    def test_a_first_drawing_is_told_by_its_own_words(self):
        assert proxies({"words": "a cat"}, []) == {"scene_prompt": "a cat", "edit_prompt": "", "references": []}

    def test_an_empty_canvas_has_no_scene_to_tell(self):
        found = proxies({"words": "remove the cat at the top left"}, [Perception((CAT,))])
        assert found["scene_prompt"] == "" and found["references"] == [1]

    def test_a_canvas_of_nine_things_is_more_than_a_brief_can_say(self):
        full = [Thing("cat", "red", "small", cell) for cell in range(8)]
        found = proxies({"words": "add a small blue car at the bottom right"}, [Perception(tuple(full))])
        assert found["scene_prompt"] == "" and found["edit_prompt"].startswith("add")
        assert parse(proxies({"words": "remove the cat at the top left"}, [Perception(tuple(full))])["scene_prompt"])
