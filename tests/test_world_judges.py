"""What the judges of both embedded worlds have in common, each asked in its own words about its own pictures."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.controller import contradicts, draft_goals
from clvr_core.errors import JudgeFailure
from clvr_core.protocols import Message, Picture, Question
from clvr_core.shapes import scene as shapes
from clvr_core.stickers import perceive
from clvr_core.stickers import scene as stickers
from clvr_core.trajectory import Action
from clvr_core.verifier import compare, judge
from clvr_core.world import WORLDS, World, world_named
from tests.stickers import eyes


@dataclass(frozen=True)
class Setting:
    """A world with three of its things, and what they are called: red, blue, and another that no brief here asks for.

    show: scene -> picture. thing: kind, colour, size, cell. scene: things. beyond: a thing that the world lacks.
    """

    world: World
    show: Callable[[Any], Picture]
    thing: Callable[..., Any]
    scene: Callable[..., Any]
    red: str
    blue: str
    other: str
    beyond: str

    @property
    def first(self) -> Any:
        return self.thing(self.red, "red", "small", 0)

    @property
    def second(self) -> Any:
        return self.thing(self.blue, "blue", "large", 4)

    @property
    def pair(self) -> Any:
        return self.scene((self.first, self.second))

    @property
    def prompt(self) -> str:
        return f"a red {self.red} and a blue {self.blue}"

    def drafted(self, prompt: str = "") -> tuple[Goal, ...]:
        return draft_goals(self.world.load_vlm(), Brief(prompt or self.prompt)).value

    def compared(self, vlm: Any, one: Any, two: Any) -> int:
        return compare(vlm, Brief(self.prompt), self.drafted(), self.show(one), self.show(two)).value


@pytest.fixture(params=WORLDS)
def setting(request, monkeypatch) -> Setting:
    world = world_named(request.param)
    if world.name == "shapes":
        return Setting(world, world.render, shapes.Thing, shapes.Scene, "circle", "square", "green cross", "cat")
    monkeypatch.setattr(perceive, "perceive", eyes.perceive)
    return Setting(world, eyes.picture_of, stickers.Thing, stickers.Scene, "cat", "car", "pink tree", "bench")


class TestComparing:
    def test_the_picture_that_meets_more_goals_wins_in_either_order(self, setting):
        vlm, worse = setting.world.load_vlm(), setting.scene((setting.first,))
        assert setting.compared(vlm, setting.pair, worse) == 0
        assert setting.compared(vlm, worse, setting.pair) == 1

    def test_equals_are_a_tie(self, setting):
        other = setting.scene((setting.first, setting.thing(setting.blue, "blue", "small", 8)))
        assert setting.compared(setting.world.load_vlm(), setting.pair, other) == -1

    def test_a_judge_that_errs_holds_to_its_word_when_the_order_is_turned(self, setting):
        rng, draw = random.Random(3), setting.world.sampling.random_scene
        for seed in range(40):
            vlm, one, two = setting.world.load_vlm(0.2, seed), draw(rng, 3), draw(rng, 4)
            assert setting.compared(vlm, two, one) == {0: 1, 1: 0, -1: -1}[setting.compared(vlm, one, two)]


class TestInspection:
    @pytest.mark.parametrize(
        ("kind", "words", "against"),
        [
            ("GENERATE", "red {red}", False),
            ("GENERATE", "red {red}, {other}", True),
            ("EDIT", "add a small blue {blue} at the top left", False),
            ("EDIT", "add a small green {blue} at the top left", True),
            ("EDIT", "remove the object at the top left and replace the {red} at the top right with a {other}", True),
            ("EDIT", "move the red {red} at the top left to the middle center", False),
            ("END", "done", False),
        ],
    )
    def test_only_what_the_brief_does_not_ask_for_is_against_it(self, setting, kind, words, against):
        said = words.format(red=setting.red, blue=setting.blue, other=setting.other)
        field = {"GENERATE": "scene_prompt", "EDIT": "edit_prompt", "END": "summary"}[kind]
        brief = Brief(f"a red {setting.red} and two blue {setting.blue}s in the top row")
        assert contradicts(setting.world.load_vlm(), brief, Action(kind, **{field: said})).value is against


class TestWhatItCannotDo:
    def test_an_unknown_question_is_a_judge_failure(self, setting):
        vlm, blank = setting.world.load_vlm(), setting.show(setting.scene())
        with pytest.raises(JudgeFailure, match="horoscope"):
            vlm.decide([blank], [Question("?", {"task": "horoscope"})])
        with pytest.raises(JudgeFailure):
            vlm.decide([blank], [Question("Is it nice?")])

    def test_an_unknown_request_is_a_judge_failure(self, setting):
        with pytest.raises(JudgeFailure, match="no task"):
            setting.world.load_vlm().chat([Message("user", "tell me a story")], {})

    def test_a_repeated_request_is_answered_from_the_task_that_began_it(self, setting):
        first = Message("user", "", data={"task": "goals", "prompt": f"a red {setting.red}"})
        reply = setting.world.load_vlm().chat([first, Message("user", "again", data={"task": "again"})], {})
        assert len(json.loads(reply.text)["goals"]) == 2

    def test_a_goal_in_other_words_is_refused_with_the_grammar(self, setting):
        goal = Goal("g1", f"a red {setting.red} and a {setting.beyond}")
        with pytest.raises(setting.world.NotInGrammar, match=setting.beyond):
            judge(setting.world.load_vlm(), setting.show(setting.scene()), [goal])


def test_every_pair_of_opposite_relations_is_found_among_three(setting):
    said = [f"the red {setting.red} is {kind} the blue {setting.blue}" for kind in ("above", "left of", "below")]
    for order in itertools.permutations(said):
        drafted = setting.drafted(f"{setting.prompt}. " + ". ".join(order))
        found = [goal for goal in drafted if goal.kind == "layout"]
        assert sorted(len(goal.conflicts_with) for goal in found) == [0, 1, 1]


class TestCorrelatedErrors:
    """What is seen alike is misjudged alike, in every picture."""

    def states(self, setting: Setting, seed: int, *scenes: Any, errors="correlated") -> list[list[str]]:
        vlm, goals = setting.world.load_vlm(0.4, seed, errors), setting.drafted()
        return [[verdict.state for verdict in judge(vlm, setting.show(scene), goals).verdicts] for scene in scenes]

    def test_come_back_in_another_picture_of_the_same_thing(self, setting):
        nudged = setting.scene((replace(setting.first, dx=1), setting.second))
        alike = (self.states(setting, seed, setting.pair, nudged) for seed in range(20))
        assert all(one == other for one, other in alike)
        anew = [self.states(setting, seed, setting.pair, nudged, errors="independent") for seed in range(20)]
        assert any(one != other for one, other in anew)

    def test_of_a_goal_hang_on_the_things_that_it_is_about_and_on_no_others(self, setting):
        color, kind = setting.other.split()
        third = setting.thing(kind, color, "small", 8)
        other = setting.scene((setting.first, replace(setting.second, cell=5), third))
        pairs = [self.states(setting, seed, setting.pair, other) for seed in range(40)]
        assert all(one[1] == two[1] for one, two in pairs) and any(one[2] != two[2] for one, two in pairs)

    def test_are_as_frequent_as_they_are_set(self, setting):
        verdicts = [state for seed in range(400) for state in self.states(setting, seed, setting.pair)[0]]
        assert verdicts.count("unmet") / len(verdicts) == pytest.approx(0.4, abs=0.05)

    def test_are_the_same_when_two_pictures_are_compared(self, setting):
        worse, goals = setting.scene((setting.first,)), setting.drafted()
        for seed in range(20):
            vlm = setting.world.load_vlm(0.4, seed, "correlated")
            met = [
                sum(verdict.state == "met" for verdict in judge(vlm, setting.show(scene), goals).verdicts)
                for scene in (setting.pair, worse)
            ]
            want = -1 if met[0] == met[1] else int(met[1] > met[0])
            assert setting.compared(vlm, setting.pair, worse) == want
