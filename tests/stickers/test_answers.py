"""What the embedded judge says to each kind of question, and what it refuses."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from typing import Any

import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.controller import contradicts, draft_goals
from clvr_core.errors import JudgeFailure
from clvr_core.protocols import Message, Question
from clvr_core.stickers.grammar import NotInGrammar
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.sampling import random_scene
from clvr_core.stickers.scene import Scene, Thing
from clvr_core.trajectory import Action
from clvr_core.verifier import compare, judge
from tests.stickers.eyes import picture_of

pytestmark = pytest.mark.usefixtures("reading_eyes")
CAT, CAR = Thing("cat", "red", "small", 0), Thing("car", "blue", "large", 4)
PAIR, EMPTY = Scene((CAT, CAR)), Scene()
PROMPT = "a red cat and a blue car"


def drafted(prompt: str = PROMPT) -> tuple[Goal, ...]:
    return draft_goals(StickersVlm(), Brief(prompt)).value


def compared(vlm: Any, one: Scene, two: Scene) -> int:
    return compare(vlm, Brief(PROMPT), drafted(), picture_of(one), picture_of(two)).value


class TestComparing:
    def test_the_picture_that_meets_more_goals_wins_in_either_order(self):
        vlm, worse = StickersVlm(), Scene((CAT,))
        assert compared(vlm, PAIR, worse) == 0
        assert compared(vlm, worse, PAIR) == 1

    def test_equals_are_a_tie(self):
        other = Scene((CAT, replace(CAR, size="small", cell=8)))
        assert compared(StickersVlm(), PAIR, other) == -1

    def test_a_judge_that_errs_holds_to_its_word_when_the_order_is_turned(self):
        rng, draw = random.Random(3), random_scene
        for seed in range(40):
            vlm, one, two = StickersVlm(0.2, seed), draw(rng, 3), draw(rng, 4)
            assert compared(vlm, two, one) == {0: 1, 1: 0, -1: -1}[compared(vlm, one, two)]


class TestInspection:
    @pytest.mark.parametrize(
        ("kind", "words", "against"),
        [
            ("GENERATE", "red cat", False),
            ("GENERATE", "red cat, pink tree", True),
            ("EDIT", "add a small blue car at the top left", False),
            ("EDIT", "add a small green car at the top left", True),
            ("EDIT", "remove the object at the top left and replace the cat at the top right with a pink tree", True),
            ("EDIT", "move the red cat at the top left to the middle center", False),
            ("END", "done", False),
        ],
    )
    def test_only_what_the_brief_does_not_ask_for_is_against_it(self, kind, words, against):
        field = {"GENERATE": "scene_prompt", "EDIT": "edit_prompt", "END": "summary"}[kind]
        brief = Brief("a red cat and two blue cars in the top row")
        assert contradicts(StickersVlm(), brief, Action(kind, **{field: words})).value is against


class TestWhatItCannotDo:
    def test_an_unknown_question_is_a_judge_failure(self):
        vlm, blank = StickersVlm(), picture_of(EMPTY)
        with pytest.raises(JudgeFailure, match="horoscope"):
            vlm.decide([blank], [Question("?", {"task": "horoscope"})])
        with pytest.raises(JudgeFailure):
            vlm.decide([blank], [Question("Is it nice?")])

    def test_an_unknown_request_is_a_judge_failure(self):
        with pytest.raises(JudgeFailure, match="no task"):
            StickersVlm().chat([Message("user", "tell me a story")], {})

    def test_a_repeated_request_is_answered_from_the_task_that_began_it(self):
        first = Message("user", "", data={"task": "goals", "prompt": "a red cat"})
        reply = StickersVlm().chat([first, Message("user", "again", data={"task": "again"})], {})
        assert len(json.loads(reply.text)["goals"]) == 2

    def test_a_goal_in_other_words_is_refused_with_the_grammar(self):
        goal = Goal("g1", "a red cat and a bench")
        with pytest.raises(NotInGrammar, match="bench"):
            judge(StickersVlm(), picture_of(EMPTY), [goal])


def test_every_pair_of_opposite_relations_is_found_among_three():
    said = [f"the red cat is {kind} the blue car" for kind in ("above", "left of", "below")]
    for order in itertools.permutations(said):
        goals = drafted(f"{PROMPT}. " + ". ".join(order))
        found = [goal for goal in goals if goal.kind == "layout"]
        assert sorted(len(goal.conflicts_with) for goal in found) == [0, 1, 1]


class TestCorrelatedErrors:
    """What is seen alike is misjudged alike, in every picture."""

    def states(self, seed: int, *scenes: Any, errors="correlated") -> list[list[str]]:
        vlm, goals = StickersVlm(0.4, seed, errors), drafted()
        return [[verdict.state for verdict in judge(vlm, picture_of(scene), goals).verdicts] for scene in scenes]

    def test_come_back_in_another_picture_of_the_same_thing(self):
        nudged = Scene((replace(CAT, dx=1), CAR))
        alike = (self.states(seed, PAIR, nudged) for seed in range(20))
        assert all(one == other for one, other in alike)
        anew = [self.states(seed, PAIR, nudged, errors="independent") for seed in range(20)]
        assert any(one != other for one, other in anew)

    def test_of_a_goal_hang_on_the_things_that_it_is_about_and_on_no_others(self):
        third = Thing("tree", "pink", "small", 8)
        other = Scene((CAT, replace(CAR, cell=5), third))
        pairs = [self.states(seed, PAIR, other) for seed in range(40)]
        assert all(one[1] == two[1] for one, two in pairs) and any(one[2] != two[2] for one, two in pairs)

    def test_are_as_frequent_as_they_are_set(self):
        verdicts = [state for seed in range(400) for state in self.states(seed, PAIR)[0]]
        assert verdicts.count("unmet") / len(verdicts) == pytest.approx(0.4, abs=0.05)

    def test_are_the_same_when_two_pictures_are_compared(self):
        worse, goals = Scene((CAT,)), drafted()
        for seed in range(20):
            vlm = StickersVlm(0.4, seed, "correlated")
            met = [
                sum(verdict.state == "met" for verdict in judge(vlm, picture_of(scene), goals).verdicts)
                for scene in (PAIR, worse)
            ]
            want = -1 if met[0] == met[1] else int(met[1] > met[0])
            assert compared(vlm, PAIR, worse) == want
