"""The embedded controller, driven by the real loop: with a hand that draws what it is told, every brief is met."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from clvr_core.brief import Brief, Budget
from clvr_core.controller import Situation, draft_goals, next_action
from clvr_core.policy import policy_for
from clvr_core.policy.base import END_REFUSED
from clvr_core.policy.remarks import wish
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.stickers.controller import laid_out
from clvr_core.stickers.grammar import parse, parse_instruction
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.phrases import whole, write
from clvr_core.stickers.sampling import grouped_scene, random_brief
from clvr_core.stickers.scene import NATURAL, SIGN, Scene, Thing, cell_name
from clvr_core.trajectory import Action, Trajectory
from clvr_core.verifier import judge
from tests.fakes import FakeVlm, step, trajectory
from tests.stickers.eyes import perceive
from tests.stickers.eyes import picture_of as render
from tests.stickers.oracle import OracleExecutor

pytestmark = pytest.mark.usefixtures("reading_eyes")

STRATEGIES = ("clvr", "director", "strokes")
RED, BLUE = Thing("cat", "red", "small", 0), Thing("car", "blue", "large", 4)
STOP = Thing(SIGN, NATURAL, "large", 8, word="STOP")


def briefs(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(f"controller/{seed}")
    return [random_brief(rng, 1 + number % 8)[2] for number in range(count)]


def ran(
    prompt: str, strategy: str, executor: OracleExecutor, judged_by=None, seed: int = 1, **budget
) -> tuple[Trajectory, Session]:
    brief = Brief(prompt, strategy, seed, budget=Budget(**{"rounds": 30, "patience": 6, **budget}))
    session = Session(brief, RunModels(StickersVlm(), executor, judge=judged_by))
    return drive(session), session


def before(
    prompt: str, *scenes: Scene, failed: tuple[str, ...] = (), wishes: tuple[str, ...] = (), states=None, **fields
) -> Situation:
    """Canvas 0 is the first scene and the current one; the other scenes are earlier canvases that may be referenced."""
    vlm = StickersVlm()
    found = draft_goals(vlm, Brief(prompt)).value
    found += tuple(wish(text, (), number) for number, text in enumerate(wishes, 1))
    verdicts = {verdict.goal: verdict.state for verdict in judge(vlm, render(scenes[0]), found).verdicts}
    verdicts |= states or {}
    steps = [step("GENERATE", 0, verdicts=verdicts)]
    steps += [
        step("EDIT", number, parent=0, accepted=False, edit_prompt=words) for number, words in enumerate(failed, 1)
    ]
    run = trajectory(*steps, goals=found, brief=Brief(prompt))
    focus = tuple(goal for goal, state in verdicts.items() if state != "met")
    pictures = {number: render(scene) for number, scene in enumerate(scenes)}
    return Situation(
        **{"trajectory": run, "focus": focus, "allowed": ("GENERATE", "EDIT", "END"), "pictures": pictures, **fields}
    )


def action(situation: Situation) -> Action:
    answer = next_action(StickersVlm(), situation)
    assert answer.calls == 1, answer.failure
    return answer.value


def asked(prompt: str, *scenes: Scene, **fields) -> str:
    chosen = action(before(prompt, *scenes, **fields))
    assert chosen.kind == "EDIT" and chosen.references[0] == 0
    return chosen.edit_prompt


class TestTheWholeLoop:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_every_brief_is_met_when_the_hand_draws_what_it_is_told(self, strategy):
        for prompt in briefs(24):
            end, session = ran(prompt, strategy, OracleExecutor())
            seen = perceive(session.picture(end.best))
            assert end.outcome.met and seen.clean and parse(prompt).holds(seen.scene()), prompt

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_a_hand_that_errs_is_corrected(self, strategy):
        runs = [
            ran(prompt, strategy, OracleExecutor(fault=0.15), seed=seed, patience=12)[0]
            for seed, prompt in enumerate(briefs(12, seed=1))
        ]
        assert sum(run.outcome.met for run in runs) >= 11

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_of_contradicting_relations_the_first_is_met(self, strategy):
        prompt = "a red cat left of a blue car. the blue car is left of the red cat. a pink tree"
        end, session = ran(prompt, strategy, OracleExecutor())
        shown = perceive(session.picture(end.best)).scene()
        assert end.outcome.met and parse(prompt).relations[0].holds(shown) and len(shown.things) == 3

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_relations_that_no_scene_meets_end_the_run_with_the_rest_met(self, strategy):
        prompt = (
            "a red cat left of a blue car. the blue car is left of a pink tree. the pink tree is left of the red cat"
        )
        end, session = ran(prompt, strategy, OracleExecutor())
        spec, shown = parse(prompt), perceive(session.picture(end.best)).scene()
        assert not end.outcome.met and all(item.holds(shown) for item in spec.items)
        assert sum(relation.holds(shown) for relation in spec.relations) == 2

    def test_large_counts_are_reached_two_at_a_time(self):
        end, _ = ran("a red cat and seven blue cars", "strokes", OracleExecutor())
        edits = [len(parse_instruction(each.action.edit_prompt)) for each in end.steps if each.action.kind == "EDIT"]
        assert end.outcome.met and max(edits) <= 2

    def test_the_same_run_twice_is_the_same(self):
        prompt = briefs(8)[-1]
        one, two = (ran(prompt, "clvr", OracleExecutor(fault=0.3))[0] for _ in range(2))
        assert [(each.action, each.accepted) for each in one.steps] == [
            (each.action, each.accepted) for each in two.steps
        ]


class TestTheSketch:
    def test_draws_the_whole_brief_at_once(self):
        for prompt in briefs(20, seed=2):
            spec, executor = parse(prompt), OracleExecutor()
            end, _ = ran(prompt, "clvr", executor, rounds=1)
            assert parse(executor.requests[0].prompt).total == spec.total
            assert end.steps[0].action.summary == "I draw the scene." and end.outcome.met

    def test_strokes_draws_the_first_sub_scene_where_the_whole_will_fit(self):
        fewer = 0
        for prompt in briefs(20, seed=2):
            spec, executor = parse(prompt), OracleExecutor()
            end, _ = ran(prompt, "strokes", executor, rounds=1)
            drawn = parse(executor.requests[0].prompt)
            assert {item.key for item in drawn.items} <= {item.key for item in spec.items}
            later = len(drawn.items) < len(spec.items)
            assert ("I leave for later" in end.steps[0].action.summary) == later
            fewer += later
        assert fewer > 5

    def test_what_is_left_for_later_is_said(self):
        prompt = "a red cat, a blue car, a pink tree, a brown dog and a black bus"
        end, _ = ran(prompt, "strokes", OracleExecutor(), rounds=1)
        first = end.plan[0]
        left = [goal for goal in end.goals if goal.kind == "local" and goal.id not in first]
        assert end.steps[0].action.summary.endswith(f"I leave for later: {', '.join(goal.text for goal in left)}.")
        assert left and set(end.steps[0].action.goals) <= set(first)


class TestEdits:
    def test_what_is_missing_is_added(self):
        assert asked("a small red cat at the top left", Scene()) == "add a small red cat at the top left"

    def test_what_is_too_much_is_removed(self):
        assert asked("a red cat", Scene((RED, BLUE))) == "remove the blue car at the middle center"

    def test_a_wrong_colour_is_recoloured(self):
        wrong = Scene((Thing("cat", "blue", "small", 0),))
        assert asked("a small red cat at the top left", wrong) == "make the blue cat at the top left red"

    def test_a_wrong_size_is_resized(self):
        assert asked("a large red cat", Scene((RED,))) == "make the red cat at the top left large"

    def test_a_wrong_place_is_left(self):
        assert (
            asked("a red cat at the bottom right", Scene((RED,)))
            == "move the red cat at the top left to the bottom right"
        )

    def test_a_wrong_thing_is_replaced(self):
        assert (
            asked("a small red cat at the middle center", Scene((BLUE,)))
            == "replace the blue car at the middle center with a small red cat"
        )

    def test_a_wrong_word_is_written_anew(self):
        words = asked('a sign that says "STOP"', Scene((replace(STOP, word="STEP"),)))
        assert words == 'change the word on the sign at the bottom right to "STOP"'

    def test_a_wrong_scene_is_changed_and_its_goal_named(self):
        situation = before("a red cat at night", Scene((RED,), "sea"))
        chosen = action(situation)
        assert chosen.edit_prompt == "change the scene to night"
        assert {situation.trajectory.goal(goal).text for goal in chosen.goals} == {"the scene is at night"}

    def test_a_scene_that_is_not_clear_is_made_plain(self):
        picture = render(Scene((RED,)), backdrop_is_clear=False)
        found = before("a red cat", Scene((RED,)), pictures={0: picture}, focus=("g1",), states={"g1": "unmet"})
        assert action(found).edit_prompt == "change the scene to plain"

    def test_a_wish_for_another_scene_or_word_takes_the_place_of_the_briefs(self):
        words = [
            asked('a sign that says "STOP" at sea', Scene((STOP,), "sea"), wishes=wishes)
            for wishes in (("the scene is at night",), ('a sign that says "GO"',))
        ]
        assert words == [
            "change the scene to night",
            'change the word on the sign at the bottom right to "GO"',
        ]

    def test_two_changes_go_into_one_instruction(self):
        words = asked("a small red cat at the top left and a large blue car at the middle center", Scene())
        assert words == "add a small red cat at the top left and add a large blue car at the middle center"

    def test_what_the_judge_says_holds_is_left_alone(self):
        situation = before("a red cat at the top left and a blue car", Scene((RED,)))
        mistaken = trajectory(
            step("GENERATE", 0, verdicts={"g1": "met", "g2": "unmet", "g3": "met"}),
            goals=situation.trajectory.goals,
            brief=situation.trajectory.brief,
        )
        found = action(
            before("a red cat at the top left and a blue car", Scene((BLUE,)), trajectory=mistaken, focus=("g2",))
        )
        assert (
            found.edit_prompt == "add a small red cat at the top left"
            or found.edit_prompt == "add a large red cat at the top left"
        )

    def test_where_nothing_is_seen_to_be_wrong_the_open_thing_is_painted_once_more(self):
        situation = before("a small red cat at the top left", Scene((RED,)))
        doubted = trajectory(
            step("GENERATE", 0, verdicts={"g1": "met", "g2": "unmet"}),
            goals=situation.trajectory.goals,
            brief=situation.trajectory.brief,
        )
        found = action(before("a small red cat at the top left", Scene((RED,)), trajectory=doubted, focus=("g2",)))
        assert found.edit_prompt == "replace the red cat at the top left with a small red cat"

    def test_what_an_earlier_canvas_showed_in_its_place_is_restored_from_it(self):
        chosen = action(before("a small red cat at the top left and a blue car", Scene((BLUE,)), Scene((RED,))))
        assert chosen.edit_prompt == "restore the top left from image 2" and chosen.references == (0, 1)

    def test_the_summary_says_what_is_seen_and_then_what_is_missing_or_wrong(self):
        chosen = action(before("a red cat and a blue car", Scene((BLUE,))))
        there = f"{BLUE.size} blue car {cell_name(BLUE.cell)}, on a plain background"
        assert chosen.summary.startswith(f"I see {there}. What is missing or wrong: a red cat, so I add a ")
        assert chosen.summary.endswith(" All else must stay.")
        crowded = action(before("a blue car", Scene((BLUE, RED))))
        assert "What is missing or wrong: what was not asked for, so I remove the " in crowded.summary

    def test_changes_are_told_in_the_order_of_the_brief(self):
        for brief, first in (("a red cat and a blue car", "red cat"), ("a blue car and a red cat", "blue car")):
            drawn = laid_out(parse(f"{brief} at night"), "", 1)
            assert drawn.split(", ")[0].startswith((f"large {first}", f"small {first}"))
            other = action(before(brief, Scene((Thing("dog", "green", "small", 0), Thing("dog", "green", "small", 8)))))
            both = other.summary.split("wrong: ")[1]
            wrong, mended = both.split(", so I ")
            assert [each in wrong for each in ("red cat", "blue car")] == [True, True]
            assert wrong.index(first) < len(wrong) / 2 and mended.index(first) < len(mended) / 2

    def test_the_goals_it_serves_are_named(self):
        situation = before("a red cat and three blue cars", Scene((RED,)))
        served = {situation.trajectory.goal(goal).text for goal in action(situation).goals}
        assert served == {"three blue cars", "at least a blue car"}

    def test_all_wordings_of_a_run_are_instructions(self):
        kinds, rng = set(), random.Random("wordings")
        for seed in range(32):
            prompt = write(whole(grouped_scene(rng, 3 + seed % 4)), "terse")
            executor = OracleExecutor(fault=0.3)
            ran(prompt, "clvr", executor, seed=seed)
            for request in executor.requests:
                if request.references:
                    found = parse_instruction(request.prompt)
                    kinds |= {each.kind for each in found}
                    assert len(found) == len(request.prompt.split(" and ")) <= 2
        assert kinds >= {"put", "remove", "recolor", "resize", "move", "word", "backdrop"}


class TestAfterAFailure:
    PROMPT = "a small red cat at the top left and a large blue car at the middle center"
    BOTH = "add a small red cat at the top left and add a large blue car at the middle center"

    def test_one_change_is_tried_alone(self):
        assert asked(self.PROMPT, Scene(), failed=(self.BOTH,)) == "add a small red cat at the top left"

    def test_and_after_that_another(self):
        words = (self.BOTH, "add a small red cat at the top left")
        assert (
            asked(self.PROMPT, Scene(), failed=words, allowed=("EDIT",)) == "add a large blue car at the middle center"
        )

    def test_a_pair_that_only_gains_together_stays_together(self):
        for tries in range(3):
            words = asked("two small red cats in the top row", Scene(), failed=("x",) * tries, allowed=("EDIT",))
            assert [each.kind for each in parse_instruction(words)] == ["put", "put"]

    def test_a_canvas_that_is_far_off_is_drawn_anew_where_that_is_allowed(self):
        prompt = "a red cat at the top left, a blue car at the top right, a pink tree at the bottom left"
        far = Scene(
            tuple(
                Thing("cat", color, "small", cell)
                for color, cell in (("brown", 0), ("black", 2), ("green", 6), ("blue", 8))
            )
        )
        assert action(before(prompt, far, failed=("x", "y"))).kind == "GENERATE"
        assert action(before(prompt, far, failed=("x", "y"), allowed=("EDIT",))).kind == "EDIT"
        assert action(before(prompt, far, failed=("x",))).kind == "EDIT"


class TestTheEnd:
    def test_is_said_when_everything_stands_where_it_should(self):
        assert action(before("a red cat and a blue car", Scene((RED, BLUE)))).kind == "END"

    def test_a_second_look_is_asked_for_first_where_that_is_allowed(self):
        assert action(before("a red cat", Scene((RED,)), allowed=("EDIT", "VALIDATE", "END"))).kind == "VALIDATE"

    def test_is_accepted_when_the_judge_agrees(self):
        situation = before("a red cat", Scene((RED,)))
        gate = policy_for(situation.trajectory.brief).final_gate(situation.trajectory)
        assert gate.accepted and gate.reason == "END: every goal holds"

    def test_is_refused_while_the_judge_says_no(self):
        strict = FakeVlm(
            decisions=lambda images, questions: [
                0.1 if "nothing but" in question.text else 0.9 for question in questions
            ]
        )
        end, _ = ran("a red cat", "clvr", OracleExecutor(), judged_by=strict, patience=2)
        ends = [each for each in end.steps if each.action.kind == "END"]
        assert (
            ends
            and all(not each.accepted and each.reason == f"{END_REFUSED}: not met g1" for each in ends)
            and not end.outcome.met
        )

    def test_where_neither_end_nor_anything_else_may_be_said_an_edit_that_changes_nothing_wanted_is_made(self):
        chosen = action(before("a red cat at the top left", Scene((RED,)), allowed=("EDIT",)))
        assert chosen.kind == "EDIT" and parse_instruction(chosen.edit_prompt)


def test_a_reply_is_json_that_the_controller_accepts_at_once():
    for prompt in briefs(30, seed=4):
        situation = before(prompt, Scene())
        assert action(situation).kind in ("EDIT", "GENERATE")
        json.dumps(action(situation).edit_prompt)


class TestFromACleanSource:
    """Canvas 0 is the current one and was edited; canvas 1 is its clean source."""

    WANTED = "a small red cat at the top left, a large blue car at the middle center and a small pink tree"

    def test_one_instruction_says_all_that_the_source_lacks(self):
        chosen = action(before(self.WANTED, Scene((RED, BLUE)), Scene((RED,)), source=1))
        kinds = [change.kind for change in parse_instruction(chosen.edit_prompt)]
        assert chosen.kind == "EDIT" and chosen.references == (1,) and kinds == ["put", "put"]
        assert "a large blue car at the middle center" in chosen.edit_prompt and "pink tree" in chosen.edit_prompt

    def test_more_than_one_instruction_can_say_is_drawn_anew_as_a_whole(self):
        prompt = "six blue cars and a red cat"
        chosen = action(before(prompt, Scene((RED, BLUE)), Scene((RED,)), source=1))
        assert chosen.kind == "GENERATE" and len(parse(chosen.scene_prompt).items) == 2
        assert parse(chosen.scene_prompt).total == 7

    def test_it_is_asked_in_one_instruction_where_nothing_may_be_drawn_anew(self):
        prompt = "six blue cars and a red cat"
        chosen = action(before(prompt, Scene((RED, BLUE)), Scene((RED,)), source=1, allowed=("EDIT",)))
        assert chosen.kind == "EDIT" and chosen.references == (1,) and len(parse_instruction(chosen.edit_prompt)) == 6

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_every_brief_is_met_with_a_limit_of_one_edit(self, strategy):
        for prompt in briefs(12, seed=3):
            end, session = ran(prompt, strategy, OracleExecutor(), depth=1)
            seen = perceive(session.picture(end.best))
            assert end.outcome.met and seen.clean and parse(prompt).holds(seen.scene()), prompt
