"""The embedded judge, asked as a real one is: exact when it is not made to err, and wrong at a set rate when it is."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.controller import draft_goals
from clvr_core.policy import rules
from clvr_core.shapes import perceive as perception
from clvr_core.shapes.grammar import NotInGrammar, parse
from clvr_core.shapes.judge import ShapesVlm
from clvr_core.shapes.phrases import instruct, restore
from clvr_core.shapes.render import render
from clvr_core.shapes.sampling import EDIT_KINDS, random_brief, random_edit, random_scene
from clvr_core.shapes.scene import Edit, Scene, Thing, apply
from clvr_core.trajectory import Action
from clvr_core.verifier import check_edit, judge
from clvr_core.verifier.counting import counted

RED, BLUE = Thing("circle", "red", "small", 0), Thing("square", "blue", "large", 4)
PAIR = Scene((RED, BLUE))


def drafted(prompt: str, vlm: ShapesVlm | None = None) -> tuple[Goal, ...]:
    return draft_goals(vlm or ShapesVlm(), Brief(prompt)).value


def judged(prompt: str, scene: Scene) -> dict[str, str]:
    found = drafted(prompt)
    return {goal.text: verdict.state for goal, verdict in zip(found, judge(ShapesVlm(), render(scene), found).verdicts)}


def edit(words: str) -> Action:
    return Action("EDIT", edit_prompt=words, references=(0,))


class TestGoals:
    def test_nothing_else_each_item_and_each_relation_are_goals_of_their_kinds(self):
        found = drafted(
            "a small red circle at the top left and two blue squares. a green cross is above the red circle"
        )
        assert [(goal.kind, goal.text) for goal in found] == [
            ("global", "nothing but: small red circle top left, 2 blue squares, green cross"),
            ("local", "a small red circle at the top left"),
            ("local", "two blue squares"),
            ("local", "a green cross"),
            ("layout", "the green cross is over the red circle"),
        ]
        assert all(goal.check.endswith("?") and 0 < goal.feasibility < 1 and not goal.conflicts_with for goal in found)

    @pytest.mark.parametrize(
        "prompt",
        [
            "a red circle left of a blue square. the blue square is left of the red circle",
            "a red circle left of a blue square. the red circle is right of the blue square",
            "a red circle above a blue square. the red circle is below the blue square",
            "a red circle under a blue square. the blue square is under the red circle",
        ],
    )
    def test_contradicting_relations_conflict_both_ways_and_the_first_is_kept(self, prompt):
        found = drafted(prompt)
        first, second = [goal for goal in found if goal.kind == "layout"]
        assert first.conflicts_with == (second.id,) and second.conflicts_with == (first.id,)
        assert first in rules.wanted(found) and second not in rules.wanted(found)

    def test_relations_that_can_hold_together_do_not_conflict(self):
        found = drafted("a red circle left of a blue square. the blue square is above the red circle")
        assert not any(goal.conflicts_with for goal in found)

    def test_a_number_that_no_instruction_brings_at_once_has_waymarks(self):
        assert [goal.text for goal in drafted("a red circle, two blue squares and five green crosses")[1:]] == [
            "a red circle",
            "two blue squares",
            "five green crosses",
            "at least three green crosses",
            "at least a green cross",
        ]

    def test_a_waymark_takes_nothing_from_the_chance_of_the_whole(self):
        assert [goal.feasibility for goal in drafted("three red circles")[2:]] == [1.0]

    def test_what_is_harder_is_less_feasible(self):
        one, many = drafted("a red circle")[1], drafted("six red circles and two blue squares")[1]
        placed = drafted("a red circle at the top left")[1]
        assert one.feasibility > many.feasibility and one.feasibility > placed.feasibility

    def test_a_brief_outside_the_grammar_is_refused(self):
        for ask in (lambda: drafted("a cat on a mat"), lambda: ShapesVlm().require_readable("a cat on a mat")):
            with pytest.raises(NotInGrammar, match="--models"):
                ask()


class TestVerdicts:
    def test_are_exact(self):
        rng, pairs, met = random.Random(1), 0, 0
        for number in range(160):
            scene, spec, prompt = random_brief(rng, 1 + number % 8)
            shown = scene if number % 3 == 0 else apply(random_edit(rng, scene), scene)
            found = drafted(prompt)
            states = [verdict.state for verdict in judge(ShapesVlm(), render(shown), found).verdicts]
            truth = [statement.holds(shown.things) for statement in parse(prompt).statements]
            assert states == ["met" if each else "unmet" for each in truth]
            assert all(truth) == spec.holds(shown.things)
            pairs, met = pairs + len(truth), met + sum(truth)
        assert pairs > 800 and 0.3 * pairs < met < 0.95 * pairs

    def test_dirt_on_the_canvas_breaks_nothing_but_and_no_other_goal(self):
        picture = render(Scene((RED,)))
        picture[70:80, 70:74] = (10, 200, 90)
        found = drafted("a red circle")
        assert [verdict.state for verdict in judge(ShapesVlm(), picture, found).verdicts] == ["unmet", "met"]

    def test_too_few_things_are_no_fault_of_nothing_but(self):
        assert judged("two red circles", Scene((RED,))) == {
            "nothing but: 2 red circles": "met",
            "two red circles": "unmet",
        }

    def test_a_waymark_is_reached_by_as_many_or_more_in_the_right_place(self):
        found = Goal("g1", "at least two red circles in the top row")
        for count in range(4):
            scene = Scene(tuple(Thing("circle", "red", "small", cell) for cell in range(count)))
            (verdict,) = judge(ShapesVlm(), render(scene), [found]).verdicts
            assert verdict.state == ("met" if count >= 2 else "unmet")

    def test_confidence_is_a_probability_short_of_certainty(self):
        (verdict, *_) = judge(ShapesVlm(), render(Scene((RED,))), drafted("a red circle")).verdicts
        assert 0.9 < verdict.confidence < 1

    def test_one_look_serves_all_questions(self, monkeypatch):
        looks, real = [], perception.sightings
        monkeypatch.setattr(perception, "sightings", lambda picture: looks.append(1) or real(picture))
        found = drafted("a red circle and a blue square")
        scene = Scene((RED, Thing("cross", "cyan", "small", 8, 3, -2)))
        judge(ShapesVlm(), render(scene), found)
        judge(ShapesVlm(), render(scene).copy(), found)
        assert len(looks) == 1


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = random.Random(2)
    return [render(random_scene(rng, 1 + number % 9)) for number in range(400)]


class TestErring:
    FOUND = drafted(
        "a red circle at the top left, two blue squares, a green cross, a cyan diamond and a black triangle. "
        "the green cross is above the red circle. "
        "the cyan diamond is left of the black triangle"
    )

    def wrong(self, vlm: ShapesVlm, pictures: list[np.ndarray]) -> np.ndarray:
        """pictures x goals: where the judge errs."""
        says = [[verdict.state for verdict in judge(vlm, picture, self.FOUND).verdicts] for picture in pictures]
        true = [[verdict.state for verdict in judge(ShapesVlm(), picture, self.FOUND).verdicts] for picture in pictures]
        return np.array(says) != np.array(true)

    @pytest.fixture(scope="class")
    def rarely(self, pictures) -> np.ndarray:
        """Where a judge errs that errs once in twenty."""
        return self.wrong(ShapesVlm(0.05, seed=1), pictures)

    def test_the_rate_is_the_rate_that_was_set(self, rarely):
        assert rarely.size == 3200 and abs(rarely.mean() - 0.05) < 4 * (0.05 * 0.95 / rarely.size) ** 0.5

    def test_errors_are_independent_between_pictures_and_between_questions(self, rarely):
        by_question, by_picture = rarely.mean(0), rarely.sum(1)
        assert (by_question > 0.01).all() and (by_question < 0.1).all()
        # Of 8 independent answers two or more are wrong with probability 0.057.
        assert abs((by_picture >= 2).mean() - 0.057) < 4 * (0.057 * 0.943 / 400) ** 0.5

    def test_asked_again_the_same_wrong_answer_comes_back(self, pictures):
        vlm, again = ShapesVlm(0.3, seed=1), ShapesVlm(0.3, seed=1)
        first = self.wrong(vlm, pictures[:40])
        assert (
            first.any()
            and np.array_equal(first, self.wrong(vlm, pictures[:40]))
            and np.array_equal(first, self.wrong(again, pictures[:40]))
        )

    def test_another_seed_errs_elsewhere(self, pictures):
        assert not np.array_equal(
            self.wrong(ShapesVlm(0.3, seed=1), pictures[:40]), self.wrong(ShapesVlm(0.3, seed=2), pictures[:40])
        )

    def test_a_judge_that_always_errs_is_turned_round(self, pictures):
        assert self.wrong(ShapesVlm(1.0), pictures[:5]).all()

    def test_nothing_is_misjudged_at_zero(self, pictures):
        assert not self.wrong(ShapesVlm(0.0, seed=9), pictures[:40]).any()

    @pytest.mark.parametrize("flip", [-0.1, 1.5, float("nan")])
    def test_a_rate_is_a_probability(self, flip):
        with pytest.raises(ValueError, match="between 0 and 1"):
            ShapesVlm(flip)

    def test_the_name_tells_the_rate_and_the_seed(self):
        assert ShapesVlm().name == "shapes" and ShapesVlm(0.05, 3).name == "shapes (flip 0.05, seed 3)"


class TestEditChecks:
    @pytest.mark.parametrize("kind", EDIT_KINDS)
    def test_what_was_asked_for_and_nothing_else_is_a_success(self, kind):
        rng = random.Random(kind)
        for _ in range(20):
            before = random_scene(rng, rng.randint(2, 8))
            wanted = random_edit(rng, before, kind)
            found, _, calls = check_edit(
                ShapesVlm(), render(before), render(apply(wanted, before)), edit(instruct(wanted, before))
            )
            assert found.success is True and found.over_edit < 0.5 and calls == 1

    @pytest.mark.parametrize("kind", EDIT_KINDS)
    def test_an_untouched_canvas_is_none(self, kind):
        rng = random.Random(kind)
        for _ in range(20):
            before = random_scene(rng, rng.randint(2, 8))
            wanted = random_edit(rng, before, kind)
            if before.at(wanted.cell) and wanted.kind == "put" and before.at(wanted.cell).kind == wanted.thing.kind:
                continue
            found, _, _ = check_edit(ShapesVlm(), render(before), render(before), edit(instruct(wanted, before)))
            assert found.success is False and found.over_edit < 0.5

    def test_a_change_elsewhere_is_an_over_edit_and_may_still_be_a_success(self):
        before, wanted = Scene((RED, BLUE)), Edit("remove", 0)
        after = Scene((Thing("square", "green", "large", 4),))
        found, _, _ = check_edit(ShapesVlm(), render(before), render(after), edit(instruct(wanted, before)))
        assert found.success is True and found.over_edit > 0.5

    def test_of_two_instructions_both_must_be_carried_out(self):
        before = Scene((RED, BLUE))
        words = edit("remove the red circle at the top left and make the blue square at the middle center green")
        half, whole = apply(Edit("remove", 0), before), Scene((Thing("square", "green", "large", 4),))
        assert check_edit(ShapesVlm(), render(before), render(half), words)[0].success is False
        assert check_edit(ShapesVlm(), render(before), render(whole), words)[0].success is True

    def test_dirt_in_the_edited_cell_is_no_success(self):
        before, picture = Scene((RED,)), render(Scene())
        picture[10:16, 10:14] = (10, 200, 90)
        assert (
            check_edit(ShapesVlm(), render(before), picture, edit(instruct(Edit("remove", 0), before)))[0].success
            is False
        )

    def test_where_the_size_is_left_open_either_is_right(self):
        for size in ("small", "large"):
            after = Scene((Thing("circle", "red", size, 0),))
            assert (
                check_edit(ShapesVlm(), render(Scene()), render(after), edit("add a red circle at the top left"))[
                    0
                ].success
                is True
            )

    def test_a_restored_cell_is_what_may_change(self):
        kept = check_edit(ShapesVlm(), render(Scene((BLUE,))), render(Scene((RED, BLUE))), edit(restore(0)))[0]
        lost = check_edit(ShapesVlm(), render(Scene((BLUE,))), render(Scene((RED,))), edit(restore(0)))[0]
        assert kept.over_edit < 0.5 < lost.over_edit

    def test_words_that_are_no_instruction_are_never_carried_out(self):
        found, _, _ = check_edit(ShapesVlm(), render(Scene((RED,))), render(Scene((RED,))), edit("make it nicer"))
        assert found.success is False and found.over_edit < 0.5


def test_errors_stand_in_the_name():
    assert ShapesVlm(0.05, 3, "correlated").name == "shapes (flip 0.05, correlated, seed 3)"
    assert ShapesVlm(0.0, 3, planning=0.1).name == "shapes (planning 0.1, seed 3)"


def test_it_counts_by_colour_and_shape_as_a_number():
    things = (RED, replace(RED, cell=1), replace(RED, cell=2, color="blue"), BLUE)
    goals = (Goal("g1", "two red circles"), Goal("g2", "four circles"), Goal("g3", "no crosses"))
    said = counted(ShapesVlm(), render(Scene(things)), goals).value
    assert {goal: (finding.says, finding.words) for goal, finding in said.items()} == {
        "g1": ("yes", 'counts 2 "red circle"'),
        "g2": ("no", 'counts 3 "circle"'),
        "g3": ("yes", 'counts 0 "cross"'),
    }
