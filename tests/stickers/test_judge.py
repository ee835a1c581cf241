"""The embedded judge, asked as a real one is: exact when it is not made to err, and wrong at a set rate when it is."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.controller import contradicts, draft_goals
from clvr_core.evaluation.prompt_parse import of_words
from clvr_core.policy import rules
from clvr_core.protocols import Message
from clvr_core.stickers.grammar import NotInGrammar, parse
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.phrases import instruct, restore
from clvr_core.stickers.sampling import EDIT_KINDS, random_brief, random_edit, random_scene
from clvr_core.stickers.scene import NATURAL, SIGN, Edit, Scene, Thing, apply
from clvr_core.trajectory import Action
from clvr_core.verifier import check_edit, judge
from clvr_core.verifier.counting import counted
from tests.stickers.eyes import picture_of as render

pytestmark = pytest.mark.usefixtures("reading_eyes")

RED, BLUE = Thing("cat", "red", "small", 0), Thing("car", "blue", "large", 4)
STOP = Thing(SIGN, NATURAL, "large", 8, word="STOP")
PAIR = Scene((RED, BLUE))


def drafted(prompt: str, vlm: StickersVlm | None = None) -> tuple[Goal, ...]:
    return draft_goals(vlm or StickersVlm(), Brief(prompt)).value


def judged(prompt: str, scene: Scene) -> dict[str, str]:
    found = drafted(prompt)
    return {
        goal.text: verdict.state for goal, verdict in zip(found, judge(StickersVlm(), render(scene), found).verdicts)
    }


def edit(words: str) -> Action:
    return Action("EDIT", edit_prompt=words, references=(0,))


class TestGoals:
    def test_the_scene_nothing_else_each_item_and_each_relation_are_goals_of_their_kinds(self):
        found = drafted(
            'a small red cat at the top left, two blue cars and a sign that says "STOP" at night. the sign is above the red cat'
        )
        assert [(goal.kind, goal.text) for goal in found] == [
            ("global", "the scene is at night"),
            ("global", 'nothing but: small red cat top left, 2 blue cars, sign that says "STOP"'),
            ("local", "a small red cat at the top left"),
            ("local", "two blue cars"),
            ("text", 'a sign that says "STOP"'),
            ("layout", "the sign is above the red cat"),
        ]
        assert all(goal.check.endswith("?") and 0 < goal.feasibility < 1 and not goal.conflicts_with for goal in found)

    @pytest.mark.parametrize(
        ("prompt", "texts"),
        [
            ("a photo of a dog right of a tie", ["a dog", "a tie", "the dog is right of the tie"]),
            ("a photo of a blue cow and a green car", ["a blue cow", "a green car"]),
            ("a photo of two toothbrushs", ["two toothbrushes"]),
            ("a photo of a yellow banana", ["a banana"]),
        ],
    )
    def test_prompts_in_the_forms_of_geneval(self, prompt, texts):
        assert [goal.text for goal in drafted(prompt)[1:]] == texts

    @pytest.mark.parametrize(
        "prompt",
        [
            "a red cat left of a blue car. the blue car is left of the red cat",
            "a red cat left of a blue car. the red cat is right of the blue car",
            "a red cat above a blue car. the red cat is below the blue car",
            "a red cat under a blue car. the blue car is under the red cat",
        ],
    )
    def test_contradicting_relations_conflict_both_ways_and_the_first_is_kept(self, prompt):
        found = drafted(prompt)
        first, second = [goal for goal in found if goal.kind == "layout"]
        assert first.conflicts_with == (second.id,) and second.conflicts_with == (first.id,)
        assert first in rules.wanted(found) and second not in rules.wanted(found)

    def test_relations_that_can_hold_together_do_not_conflict(self):
        found = drafted("a red cat left of a blue car. the blue car is above the red cat")
        assert not any(goal.conflicts_with for goal in found)

    def test_a_number_that_no_instruction_brings_at_once_has_waymarks(self):
        assert [goal.text for goal in drafted("a red cat, two blue cars and five pink trees")[1:]] == [
            "a red cat",
            "two blue cars",
            "five pink trees",
            "at least three pink trees",
            "at least a pink tree",
        ]

    def test_a_waymark_takes_nothing_from_the_chance_of_the_whole(self):
        assert [goal.feasibility for goal in drafted("three red cats")[2:]] == [1.0]

    def test_what_is_harder_is_less_feasible(self):
        one, many = drafted("a red cat")[1], drafted("six red cats and two blue cars")[1]
        placed = drafted("a red cat at the top left")[1]
        short, long = (drafted(f'a sign that says "{word}"')[1] for word in ("A", "HELLO"))
        assert one.feasibility > many.feasibility and one.feasibility > placed.feasibility
        assert one.feasibility > short.feasibility > long.feasibility

    def test_a_brief_outside_the_grammar_is_refused(self):
        for ask in (lambda: drafted("a cat on a bench"), lambda: StickersVlm().require_readable("a cat on a bench")):
            with pytest.raises(NotInGrammar, match="--models"):
                ask()


class TestVerdicts:
    def test_are_exact(self):
        rng, pairs, met = random.Random(1), 0, 0
        for number in range(160):
            scene, spec, prompt = random_brief(rng, 1 + number % 8)
            shown = scene if number % 3 == 0 else apply(random_edit(rng, scene), scene)
            found = drafted(prompt)
            states = [verdict.state for verdict in judge(StickersVlm(), render(shown), found).verdicts]
            truth = [statement.holds(shown) for statement in parse(prompt).statements]
            assert states == ["met" if each else "unmet" for each in truth]
            assert all(truth) == spec.holds(shown)
            pairs, met = pairs + len(truth), met + sum(truth)
        assert pairs > 800 and 0.3 * pairs < met < 0.95 * pairs

    def test_dirt_on_the_canvas_breaks_nothing_but_and_no_other_goal(self):
        picture = render(Scene((RED,)), unclear=(4,))
        found = drafted("a red cat")
        assert [verdict.state for verdict in judge(StickersVlm(), picture, found).verdicts] == ["unmet", "met"]

    def test_too_few_things_are_no_fault_of_nothing_but(self):
        assert judged("two red cats", Scene((RED,))) == {
            "nothing but: 2 red cats": "met",
            "two red cats": "unmet",
        }

    def test_a_waymark_is_reached_by_as_many_or_more_in_the_right_place(self):
        found = Goal("g1", "at least two red cats in the top row")
        for count in range(4):
            scene = Scene(tuple(Thing("cat", "red", "small", cell) for cell in range(count)))
            (verdict,) = judge(StickersVlm(), render(scene), [found]).verdicts
            assert verdict.state == ("met" if count >= 2 else "unmet")

    def test_confidence_is_a_probability_short_of_certainty(self):
        (verdict, *_) = judge(StickersVlm(), render(Scene((RED,))), drafted("a red cat")).verdicts
        assert 0.9 < verdict.confidence < 1

    def test_a_backdrop_that_is_not_clear_is_not_the_one_asked_for(self):
        found = drafted("a red cat on a plain background")
        blurred = render(Scene((RED,)), backdrop_is_clear=False)
        states = [verdict.state for verdict in judge(StickersVlm(), blurred, found).verdicts]
        assert states == ["unmet", "unmet", "met"]
        assert set(judged("a red cat on a plain background", Scene((RED,))).values()) == {"met"}

    def test_a_word_is_read_letter_by_letter(self):
        prompt = 'a sign that says "STOP"'
        for word, state in (("STOP", "met"), ("STEP", "unmet"), ("STO", "unmet")):
            assert judged(prompt, Scene((replace(STOP, word=word),)))['a sign that says "STOP"'] == state


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = random.Random(2)
    return [render(random_scene(rng, 1 + number % 9)) for number in range(400)]


class TestErring:
    FOUND = drafted(
        "a red cat at the top left, two blue cars, a pink tree, a brown dog and a black bus. "
        "the pink tree is above the red cat. "
        "the brown dog is left of the black bus"
    )

    def wrong(self, vlm: StickersVlm, pictures: list[np.ndarray]) -> np.ndarray:
        """pictures x goals: where the judge errs."""
        says = [[verdict.state for verdict in judge(vlm, picture, self.FOUND).verdicts] for picture in pictures]
        true = [
            [verdict.state for verdict in judge(StickersVlm(), picture, self.FOUND).verdicts] for picture in pictures
        ]
        return np.array(says) != np.array(true)

    @pytest.fixture(scope="class")
    def rarely(self, pictures) -> np.ndarray:
        """Where a judge errs that errs once in twenty."""
        return self.wrong(StickersVlm(0.05, seed=1), pictures)

    def test_the_rate_is_the_rate_that_was_set(self, rarely):
        assert rarely.size == 3200 and abs(rarely.mean() - 0.05) < 4 * (0.05 * 0.95 / rarely.size) ** 0.5

    def test_errors_are_independent_between_pictures_and_between_questions(self, rarely):
        by_question, by_picture = rarely.mean(0), rarely.sum(1)
        assert (by_question > 0.01).all() and (by_question < 0.1).all()
        # Of 8 independent answers two or more are wrong with probability 0.057.
        assert abs((by_picture >= 2).mean() - 0.057) < 4 * (0.057 * 0.943 / 400) ** 0.5

    def test_asked_again_the_same_wrong_answer_comes_back(self, pictures):
        vlm, again = StickersVlm(0.3, seed=1), StickersVlm(0.3, seed=1)
        first = self.wrong(vlm, pictures[:40])
        assert (
            first.any()
            and np.array_equal(first, self.wrong(vlm, pictures[:40]))
            and np.array_equal(first, self.wrong(again, pictures[:40]))
        )

    def test_another_seed_errs_elsewhere(self, pictures):
        assert not np.array_equal(
            self.wrong(StickersVlm(0.3, seed=1), pictures[:40]), self.wrong(StickersVlm(0.3, seed=2), pictures[:40])
        )

    def test_a_judge_that_always_errs_is_turned_round(self, pictures):
        assert self.wrong(StickersVlm(1.0), pictures[:5]).all()

    def test_nothing_is_misjudged_at_zero(self, pictures):
        assert not self.wrong(StickersVlm(0.0, seed=9), pictures[:40]).any()

    @pytest.mark.parametrize("flip", [-0.1, 1.5, float("nan")])
    def test_a_rate_is_a_probability(self, flip):
        with pytest.raises(ValueError, match="between 0 and 1"):
            StickersVlm(flip)

    def test_the_name_tells_the_rate_and_the_seed(self):
        assert StickersVlm().name == "stickers"
        assert StickersVlm(0.05, 3).name == "stickers (flip 0.05 independent, seed 3)"


class TestEditChecks:
    @pytest.mark.parametrize("kind", EDIT_KINDS)
    def test_what_was_asked_for_and_nothing_else_is_a_success(self, kind):
        rng = random.Random(kind)
        for _ in range(20):
            before = random_scene(rng, rng.randint(2, 8))
            wanted = random_edit(rng, before, kind)
            found, _, calls = check_edit(
                StickersVlm(), render(before), render(apply(wanted, before)), edit(instruct(wanted, before))
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
            found, _, _ = check_edit(StickersVlm(), render(before), render(before), edit(instruct(wanted, before)))
            assert found.success is False and found.over_edit < 0.5

    def test_a_change_elsewhere_is_an_over_edit_and_may_still_be_a_success(self):
        before, wanted = Scene((RED, BLUE)), Edit("remove", 0)
        after = Scene((Thing("car", "green", "large", 4),))
        found, _, _ = check_edit(StickersVlm(), render(before), render(after), edit(instruct(wanted, before)))
        assert found.success is True and found.over_edit > 0.5

    def test_of_two_instructions_both_must_be_carried_out(self):
        before = Scene((RED, BLUE))
        words = edit("remove the red cat at the top left and make the blue car at the middle center green")
        half, whole = apply(Edit("remove", 0), before), Scene((Thing("car", "green", "large", 4),))
        assert check_edit(StickersVlm(), render(before), render(half), words)[0].success is False
        assert check_edit(StickersVlm(), render(before), render(whole), words)[0].success is True

    def test_dirt_in_the_edited_cell_is_no_success(self):
        before, picture = Scene((RED,)), render(Scene(), unclear=(0,))
        assert (
            check_edit(StickersVlm(), render(before), picture, edit(instruct(Edit("remove", 0), before)))[0].success
            is False
        )

    def test_where_the_size_is_left_open_either_is_right(self):
        for size in ("small", "large"):
            after = Scene((Thing("cat", "red", size, 0),))
            assert (
                check_edit(StickersVlm(), render(Scene()), render(after), edit("add a red cat at the top left"))[
                    0
                ].success
                is True
            )

    def test_a_restored_cell_is_what_may_change(self):
        kept = check_edit(StickersVlm(), render(Scene((BLUE,))), render(Scene((RED, BLUE))), edit(restore(0)))[0]
        lost = check_edit(StickersVlm(), render(Scene((BLUE,))), render(Scene((RED,))), edit(restore(0)))[0]
        assert kept.over_edit < 0.5 < lost.over_edit

    def test_a_change_of_the_scene_may_change_the_scene_and_nothing_else(self):
        words = edit("change the scene to night")
        before = render(PAIR)
        good, _, _ = check_edit(StickersVlm(), before, render(replace(PAIR, backdrop="night")), words)
        wrong, _, _ = check_edit(StickersVlm(), before, render(replace(PAIR, backdrop="sea")), words)
        lost, _, _ = check_edit(StickersVlm(), before, render(Scene((RED,), "night")), words)
        assert (good.success, wrong.success, lost.success) == (True, False, True)
        assert good.over_edit < 0.5 < lost.over_edit

    def test_a_scene_that_changes_unasked_is_an_over_edit(self):
        after = Scene((replace(RED, color="pink"), BLUE), "sea")
        found, _, _ = check_edit(StickersVlm(), render(PAIR), render(after), edit("make the cat at the top left pink"))
        assert found.success is True and found.over_edit > 0.5

    def test_what_was_unclear_may_become_clear_and_not_the_other_way_round(self):
        wanted = Edit("remove", 0)
        after = render(Scene((BLUE,)))
        for before, blame in ((render(PAIR, unclear=(8,)), False), (render(PAIR), False)):
            found, _, _ = check_edit(StickersVlm(), before, after, edit(instruct(wanted, PAIR)))
            assert (found.over_edit > 0.5) == blame
        smeared = render(Scene((BLUE,)), unclear=(8,))
        found, _, _ = check_edit(StickersVlm(), render(PAIR), smeared, edit(instruct(wanted, PAIR)))
        assert found.success is True and found.over_edit > 0.5

    def test_words_that_are_no_instruction_are_never_carried_out(self):
        found, _, _ = check_edit(StickersVlm(), render(Scene((RED,))), render(Scene((RED,))), edit("make it nicer"))
        assert found.success is False and found.over_edit < 0.5


class TestInspection:
    @pytest.mark.parametrize(
        ("action", "against"),
        [
            (Action("EDIT", edit_prompt="change the scene to night"), False),
            (Action("EDIT", edit_prompt='add a sign that says "HI" at the top left'), True),
        ],
    )
    def test_a_scene_that_is_left_open_may_change_and_a_sign_must_be_asked_for(self, action, against):
        assert contradicts(StickersVlm(), Brief("a red cat and two blue cars"), action).value is against

    @pytest.mark.parametrize(
        ("action", "against"),
        [
            (Action("EDIT", edit_prompt="change the scene to night"), True),
            (Action("EDIT", edit_prompt="change the scene to sea"), False),
            (Action("EDIT", edit_prompt='write "GO" on the sign at the top left'), True),
            (Action("EDIT", edit_prompt='write "STOP" on the sign at the top left'), False),
            (Action("EDIT", edit_prompt='add a sign that says "STEP" at the top left'), True),
            (Action("GENERATE", scene_prompt='sign that says "STOP", at sea'), False),
            (Action("GENERATE", scene_prompt='sign that says "STOP", at night'), True),
            (Action("GENERATE", scene_prompt='sign that says "STEP", at sea'), True),
        ],
    )
    def test_another_word_or_scene_than_the_briefs_is_against_it(self, action, against):
        brief = Brief('a sign that says "STOP" and a dog at sea')
        assert contradicts(StickersVlm(), brief, action).value is against


class TestCorrelatedErrors:
    def test_stand_in_the_name(self):
        assert StickersVlm(0.05, 3, "correlated").name == "stickers (flip 0.05 correlated, seed 3)"
        both = StickersVlm(0.05, 3, "correlated", 0.1, "independent")
        assert both.name == "stickers (flip 0.05 correlated, planning 0.1 independent, seed 3)"

    def test_where_the_judge_is_weak_it_errs_alike_whatever_else_is_shown(self):
        prompt = 'six red cats, a sign that says "STOP" and a blue car. the sign is left of the blue car'
        shown = [
            Scene(
                (*(replace(RED, cell=cell, dx=dx) for cell in range(6)), replace(STOP, cell=6), replace(BLUE, cell=8))
            )
            for dx in (0, 2)
        ]
        found = drafted(prompt)
        wrong = 0
        for seed in range(40):
            vlm = StickersVlm(0.05, seed, "correlated")
            one, two = ([each.state for each in judge(vlm, render(scene), found).verdicts] for scene in shown)
            assert one == two
            wrong += one[1] == "unmet"
        assert 3 <= wrong <= 18

    def test_the_controllers_reading_errs_alike_too(self):
        for seed in range(60):
            vlm = StickersVlm(0.8, seed, "correlated")
            one, two = (vlm._read(render(Scene((RED, other)))) for other in (BLUE, STOP))
            assert one.at(0) == two.at(0) and one.backdrop == two.backdrop


class TestOtherReplies:
    def asked(self, vlm: StickersVlm, pictures=(), **data) -> dict:
        return json.loads(vlm.chat([Message("user", "", tuple(pictures), data=data)], {}).text)

    def test_what_is_seen_is_told_in_words(self):
        found = self.asked(StickersVlm(), [render(Scene((RED, STOP), "sea"))], task="evidence", goals=["g1"])
        assert found == {
            "seen": [{"goal": "g1", "seen": 'I see 1 x sign that says "STOP", 1 x small red cat; scene: sea'}]
        }

    def test_a_plan_names_every_place(self):
        prompt = 'two red cats and a sign that says "STOP" at sea'
        spec = parse(self.asked(StickersVlm(), task="rewrite", prompt=prompt, seed=3)["prompt"])
        assert spec.backdrop == "sea" and {item.word for item in spec.items} == {None, "STOP"} and spec.total == 3

    def test_a_proxy_tells_the_scene_after_the_words(self):
        found = self.asked(
            StickersVlm(), [render(PAIR)], task="proxy", words="remove the car at the middle center", prompt=""
        )
        assert parse(found["scene_prompt"]).holds(Scene((RED,)))

    def test_the_whole_is_compared_with_the_brief(self):
        goals = [{"id": "g1", "text": "a red cat"}]
        found = self.asked(
            StickersVlm(),
            [render(Scene((RED,))), render(PAIR)],
            task="whole",
            prompt="a red cat and a blue car at sea",
            goals=goals,
            canvases=[4, 2],
        )
        assert {gap["text"] for gap in found["gaps"]} == {"a blue car", "the scene is at sea"} and found["back_to"] == 2

    def test_a_prompt_is_taken_apart(self):
        prompt = 'two small red cats, a dog and a sign that says "HI". the dog is left of the sign'
        found = of_words(StickersVlm(), prompt).value
        assert (found.groups, found.entities, found.attributes, found.relations) == (3, 4, 2, 1)
        assert found.glyphs == (2,)


def test_it_counts_by_look_and_noun_as_a_number():
    banana = Thing("banana", NATURAL, "small", 5)
    things = RED, replace(RED, cell=1), replace(RED, cell=2, color="blue"), BLUE, banana
    goals = (
        Goal("g1", "two red cats"),
        Goal("g2", "four blue cats"),
        Goal("g3", "one yellow banana"),
        Goal("g4", "six benches"),
    )
    said = counted(StickersVlm(), render(Scene(things)), goals).value
    assert {goal: (finding.says, finding.words) for goal, finding in said.items()} == {
        "g1": ("yes", 'counts 2 "red cat"'),
        "g2": ("no", 'counts 1 "blue cat"'),
        "g3": ("yes", 'counts 1 "yellow banana"'),
    }
