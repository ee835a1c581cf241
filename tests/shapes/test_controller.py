"""The embedded controller, driven by the real loop: with a hand that draws what it is told, every brief is met."""

from __future__ import annotations

import json
import random

import pytest

from clvr_core.brief import Brief, Budget
from clvr_core.controller import Situation, draft_goals, next_action
from clvr_core.policy import policy_for
from clvr_core.policy.base import END_REFUSED
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.shapes.grammar import parse, parse_instruction
from clvr_core.shapes.judge import ShapesVlm
from clvr_core.shapes.perceive import perceive
from clvr_core.shapes.render import render
from clvr_core.shapes.sampling import random_brief
from clvr_core.shapes.scene import Scene, Thing
from clvr_core.trajectory import Action, Trajectory
from clvr_core.verifier import judge
from tests.fakes import FakeVlm, step, trajectory
from tests.shapes.oracle import RenderExecutor

STRATEGIES = ("clvr", "director", "strokes")
RED, BLUE = Thing("circle", "red", "small", 0), Thing("square", "blue", "large", 4)


def briefs(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(f"controller/{seed}")
    return [random_brief(rng, 1 + number % 8)[2] for number in range(count)]


def ran(
    prompt: str, strategy: str, executor: RenderExecutor, judged_by=None, seed: int = 1, **budget
) -> tuple[Trajectory, Session]:
    brief = Brief(prompt, strategy, seed, budget=Budget(**{"rounds": 30, "patience": 6, **budget}))
    session = Session(brief, RunModels(ShapesVlm(), executor, judge=judged_by))
    return drive(session), session


def before(prompt: str, *scenes: Scene, failed: tuple[str, ...] = (), **fields) -> Situation:
    """Canvas 0 is the first scene and the current one; the other scenes are earlier canvases that may be referenced."""
    vlm = ShapesVlm()
    found = draft_goals(vlm, Brief(prompt)).value
    verdicts = {verdict.goal: verdict.state for verdict in judge(vlm, render(scenes[0]), found).verdicts}
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
    answer = next_action(ShapesVlm(), situation)
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
            end, session = ran(prompt, strategy, RenderExecutor())
            seen = perceive(session.picture(end.best))
            assert end.outcome.met and seen.clean and parse(prompt).holds(seen.things), prompt

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_a_hand_that_errs_is_corrected(self, strategy):
        runs = [
            ran(prompt, strategy, RenderExecutor(fault=0.15), seed=seed, patience=12)[0]
            for seed, prompt in enumerate(briefs(12, seed=1))
        ]
        assert sum(run.outcome.met for run in runs) >= 11

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_of_contradicting_relations_the_first_is_met(self, strategy):
        prompt = "a red circle left of a blue square. the blue square is left of the red circle. a green cross"
        end, session = ran(prompt, strategy, RenderExecutor())
        things = perceive(session.picture(end.best)).things
        assert end.outcome.met and parse(prompt).relations[0].holds(things) and len(things) == 3

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_relations_that_no_scene_meets_end_the_run_with_the_rest_met(self, strategy):
        prompt = "a red circle left of a blue square. the blue square is left of a green cross. the green cross is left of the red circle"
        end, session = ran(prompt, strategy, RenderExecutor())
        spec, things = parse(prompt), perceive(session.picture(end.best)).things
        assert not end.outcome.met and all(item.holds(things) for item in spec.items)
        assert sum(relation.holds(things) for relation in spec.relations) == 2

    def test_large_counts_are_reached_two_at_a_time(self):
        end, _ = ran("a red circle and seven blue squares", "strokes", RenderExecutor())
        edits = [len(parse_instruction(each.action.edit_prompt)) for each in end.steps if each.action.kind == "EDIT"]
        assert end.outcome.met and max(edits) <= 2

    def test_the_same_run_twice_is_the_same(self):
        prompt = briefs(8)[-1]
        one, two = (ran(prompt, "clvr", RenderExecutor(fault=0.3))[0] for _ in range(2))
        assert [(each.action, each.accepted) for each in one.steps] == [
            (each.action, each.accepted) for each in two.steps
        ]


class TestTheSketch:
    @pytest.mark.parametrize("strategy", ["clvr", "strokes"])
    def test_draws_a_core_of_few_things_where_the_whole_will_fit(self, strategy):
        for prompt in briefs(20, seed=2):
            spec = parse(prompt)
            executor = RenderExecutor()
            end, _ = ran(prompt, strategy, executor, rounds=1)
            drawn = parse(executor.requests[0].prompt)
            assert drawn.total <= max(4, *(item.count for item in spec.items))
            assert {item.key for item in drawn.items} <= {item.key for item in spec.items}
            assert end.steps[0].action.summary.startswith("I lay out the core")

    def test_what_is_left_for_later_is_said(self):
        executor = RenderExecutor()
        end, _ = ran(
            "a red circle, a blue square, a green cross, a cyan diamond and a black triangle",
            "clvr",
            executor,
            rounds=1,
        )
        assert (
            end.steps[0].action.summary.endswith("I leave for later: a black triangle.")
            and len(end.steps[0].action.goals) == 4
        )


class TestEdits:
    def test_what_is_missing_is_added(self):
        assert asked("a small red circle at the top left", Scene()) == "add a small red circle at the top left"

    def test_what_is_too_much_is_removed(self):
        assert asked("a red circle", Scene((RED, BLUE))) == "remove the blue square at the middle center"

    def test_a_wrong_colour_is_recoloured(self):
        wrong = Scene((Thing("circle", "blue", "small", 0),))
        assert asked("a small red circle at the top left", wrong) == "make the blue circle at the top left red"

    def test_a_wrong_size_is_resized(self):
        assert asked("a large red circle", Scene((RED,))) == "make the red circle at the top left large"

    def test_a_wrong_place_is_left(self):
        assert (
            asked("a red circle at the bottom right", Scene((RED,)))
            == "move the red circle at the top left to the bottom right"
        )

    def test_a_wrong_thing_is_replaced(self):
        assert (
            asked("a small red circle at the middle center", Scene((BLUE,)))
            == "replace the blue square at the middle center with a small red circle"
        )

    def test_two_changes_go_into_one_instruction(self):
        words = asked("a small red circle at the top left and a large blue square at the middle center", Scene())
        assert words == "add a small red circle at the top left and add a large blue square at the middle center"

    def test_what_the_judge_says_holds_is_left_alone(self):
        situation = before("a red circle at the top left and a blue square", Scene((RED,)))
        mistaken = trajectory(
            step("GENERATE", 0, verdicts={"g1": "met", "g2": "unmet", "g3": "met"}),
            goals=situation.trajectory.goals,
            brief=situation.trajectory.brief,
        )
        found = action(
            before("a red circle at the top left and a blue square", Scene((BLUE,)), trajectory=mistaken, focus=("g2",))
        )
        assert (
            found.edit_prompt == "add a small red circle at the top left"
            or found.edit_prompt == "add a large red circle at the top left"
        )

    def test_where_nothing_is_seen_to_be_wrong_the_open_thing_is_painted_once_more(self):
        situation = before("a small red circle at the top left", Scene((RED,)))
        doubted = trajectory(
            step("GENERATE", 0, verdicts={"g1": "met", "g2": "unmet"}),
            goals=situation.trajectory.goals,
            brief=situation.trajectory.brief,
        )
        found = action(before("a small red circle at the top left", Scene((RED,)), trajectory=doubted, focus=("g2",)))
        assert found.edit_prompt == "replace the red circle at the top left with a small red circle"

    def test_what_an_earlier_canvas_showed_in_its_place_is_restored_from_it(self):
        chosen = action(before("a small red circle at the top left and a blue square", Scene((BLUE,)), Scene((RED,))))
        assert chosen.edit_prompt == "restore the top left from image 2" and chosen.references == (0, 1)

    def test_the_summary_says_what_must_stay(self):
        chosen = action(before("a red circle and a blue square", Scene((BLUE,))))
        assert chosen.summary.startswith("What must stay: blue square.") and "red circle" in chosen.summary

    def test_the_goals_it_serves_are_named(self):
        situation = before("a red circle and three blue squares", Scene((RED,)))
        served = {situation.trajectory.goal(goal).text for goal in action(situation).goals}
        assert served == {"three blue squares", "at least a blue square"}

    def test_all_wordings_of_a_run_are_instructions(self):
        kinds = set()
        for seed, prompt in enumerate(briefs(64, seed=3)):
            executor = RenderExecutor(fault=0.3)
            ran(prompt, "clvr", executor, seed=seed)
            for request in executor.requests:
                if request.references:
                    found = parse_instruction(request.prompt)
                    kinds |= {each.kind for each in found}
                    assert len(found) == len(request.prompt.split(" and ")) <= 2
        assert kinds >= {"put", "remove", "recolor", "resize", "move"}


class TestAfterAFailure:
    PROMPT = "a small red circle at the top left and a large blue square at the middle center"
    BOTH = "add a small red circle at the top left and add a large blue square at the middle center"

    def test_one_change_is_tried_alone(self):
        assert asked(self.PROMPT, Scene(), failed=(self.BOTH,)) == "add a small red circle at the top left"

    def test_and_after_that_another(self):
        words = (self.BOTH, "add a small red circle at the top left")
        assert (
            asked(self.PROMPT, Scene(), failed=words, allowed=("EDIT",))
            == "add a large blue square at the middle center"
        )

    def test_a_pair_that_only_gains_together_stays_together(self):
        for tries in range(3):
            words = asked("two small red circles in the top row", Scene(), failed=("x",) * tries, allowed=("EDIT",))
            assert [each.kind for each in parse_instruction(words)] == ["put", "put"]

    def test_a_canvas_that_is_far_off_is_drawn_anew_where_that_is_allowed(self):
        prompt = "a red circle at the top left, a blue square at the top right, a green cross at the bottom left"
        far = Scene(
            tuple(
                Thing("circle", color, "small", cell)
                for color, cell in (("cyan", 0), ("black", 2), ("green", 6), ("blue", 8))
            )
        )
        assert action(before(prompt, far, failed=("x", "y"))).kind == "GENERATE"
        assert action(before(prompt, far, failed=("x", "y"), allowed=("EDIT",))).kind == "EDIT"
        assert action(before(prompt, far, failed=("x",))).kind == "EDIT"


class TestTheEnd:
    def test_is_said_when_everything_stands_where_it_should(self):
        assert action(before("a red circle and a blue square", Scene((RED, BLUE)))).kind == "END"

    def test_a_second_look_is_asked_for_first_where_that_is_allowed(self):
        assert action(before("a red circle", Scene((RED,)), allowed=("EDIT", "VALIDATE", "END"))).kind == "VALIDATE"

    def test_is_accepted_when_the_judge_agrees(self):
        situation = before("a red circle", Scene((RED,)))
        gate = policy_for(situation.trajectory.brief).final_gate(situation.trajectory)
        assert gate.accepted and gate.reason == "END: every goal holds"

    def test_is_refused_while_the_judge_says_no(self):
        strict = FakeVlm(
            decisions=lambda images, questions: [
                0.1 if "nothing but" in question.text else 0.9 for question in questions
            ]
        )
        end, _ = ran("a red circle", "clvr", RenderExecutor(), judged_by=strict, patience=2)
        ends = [each for each in end.steps if each.action.kind == "END"]
        assert (
            ends
            and all(not each.accepted and each.reason == f"{END_REFUSED}: not met g1" for each in ends)
            and not end.outcome.met
        )

    def test_where_neither_end_nor_anything_else_may_be_said_an_edit_that_changes_nothing_wanted_is_made(self):
        chosen = action(before("a red circle at the top left", Scene((RED,)), allowed=("EDIT",)))
        assert chosen.kind == "EDIT" and parse_instruction(chosen.edit_prompt)


def test_a_reply_is_json_that_the_controller_accepts_at_once():
    for prompt in briefs(30, seed=4):
        situation = before(prompt, Scene())
        assert action(situation).kind in ("EDIT", "GENERATE")
        json.dumps(action(situation).edit_prompt)


class TestFromACleanSource:
    """Canvas 0 is the current one and was edited; canvas 1 is its clean source."""

    WANTED = "a small red circle at the top left, a large blue square at the middle center and a small green cross"

    def test_one_instruction_says_all_that_the_source_lacks(self):
        chosen = action(before(self.WANTED, Scene((RED, BLUE)), Scene((RED,)), source=1))
        kinds = [change.kind for change in parse_instruction(chosen.edit_prompt)]
        assert chosen.kind == "EDIT" and chosen.references == (1,) and kinds == ["put", "put"]
        assert "a large blue square at the middle center" in chosen.edit_prompt and "green cross" in chosen.edit_prompt

    def test_more_than_one_instruction_can_say_is_drawn_anew_as_a_whole(self):
        prompt = "six blue squares and a red circle"
        chosen = action(before(prompt, Scene((RED, BLUE)), Scene((RED,)), source=1))
        assert chosen.kind == "GENERATE" and len(parse(chosen.scene_prompt).items) == 2
        assert parse(chosen.scene_prompt).total == 7

    def test_it_is_asked_in_one_instruction_where_nothing_may_be_drawn_anew(self):
        prompt = "six blue squares and a red circle"
        chosen = action(before(prompt, Scene((RED, BLUE)), Scene((RED,)), source=1, allowed=("EDIT",)))
        assert chosen.kind == "EDIT" and chosen.references == (1,) and len(parse_instruction(chosen.edit_prompt)) == 6

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_every_brief_is_met_with_a_limit_of_one_edit(self, strategy):
        for prompt in briefs(12, seed=3):
            end, session = ran(prompt, strategy, RenderExecutor(), depth=1)
            seen = perceive(session.picture(end.best))
            assert end.outcome.met and seen.clean and parse(prompt).holds(seen.things), prompt
