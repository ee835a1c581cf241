"""A guided run with scripted models: nothing that failed is drawn again, a look at the whole picture adds goals and may
go back, a step brings its own checklist; and the loop without rolling back."""

from __future__ import annotations

import json

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.protocols import DrawRequest
from clvr_core.run.run_folder import RunFolder, read_trajectory
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.trajectory import Action, states
from clvr_core.verifier import check_edit, check_scene
from clvr_core.verifier.whole import look_at_whole
from tests.fakes import FakeExecutor, FakeVlm, goals, grey
from tests.run.script import END, VALIDATE, a_brief, asked, edit, generate, play, scripted
from tests.stickers.oracle import SIZE, OracleExecutor, load_vlm

LISTED = goals("thing 1", "thing 2", "thing 3")


def kinds(run) -> list[str]:
    return [step.action.kind for step in run.steps]


class TestWhatFailed:
    def test_is_not_drawn_again_and_the_controller_is_told(self):
        vlm = scripted(
            [generate(), edit("add a cat"), edit("Add the cat"), edit("add a dog")], {0: "muu", 1: "muu", 2: "mmm"}
        )
        executor = FakeExecutor()
        run = play(vlm, executor, guided=True)
        assert [request.prompt for request in executor.requests] == ["a barn", "add a cat", "add a dog"]
        assert 'was tried in step 1 and rolled back: "add a cat"' in asked(vlm, "action")[-1].text
        assert run.outcome.met and run.steps[2].cost.vlm_calls == 4

    def test_is_replaced_by_another_way_if_the_controller_insists(self):
        vlm = scripted([generate(), *[edit("add a cat")] * 3], {0: "muu", 1: "muu", 2: "mmm"})
        executor = FakeExecutor()
        run = play(vlm, executor, guided=True)
        assert kinds(run) == ["GENERATE", "EDIT", "GENERATE"] and run.outcome.met
        assert executor.requests[-1].prompt == a_brief().prompt

    def test_is_drawn_again_in_a_run_that_is_not_guided(self):
        vlm = scripted([generate(), edit("add a cat"), edit("add a cat")], {0: "muu", 1: "muu", 2: "mmm"})
        assert kinds(play(vlm)) == ["GENERATE", "EDIT", "EDIT"]


class Looking(FakeVlm):
    """Answers a look at the whole picture with `whole`, all else by the script."""

    def __init__(self, script: FakeVlm, *whole: dict) -> None:
        super().__init__(script._replies, script._decisions, script.name)
        self.whole = list(whole)

    def chat(self, messages, schema):
        if any(message.data.get("task") == "whole" for message in messages):
            return FakeVlm([json.dumps(self.whole.pop(0))]).chat(messages, schema)
        return super().chat(messages, schema)


GAP = {"text": "a moon", "kind": "local", "check": "Is there a moon?"}


class TestValidate:
    def test_finds_what_the_checklist_lacks_and_the_run_goes_on_for_it(self, tmp_path):
        script = scripted([generate(), VALIDATE, edit("add a moon")], {0: ["mu", "mu"], 1: "mmm"})
        vlm, brief = Looking(script, {"gaps": [GAP], "back_to": None}), a_brief(goals=LISTED[:2], guided=True)
        # v1 is judged as the third letter.
        judged = vlm._decisions
        vlm._decisions = lambda images, questions: judged(images, [_third(question) for question in questions])
        run = drive(Session(brief, RunModels(vlm, FakeExecutor()), RunFolder.create(tmp_path / "run")))
        assert [goal.id for goal in run.goals] == ["g1", "g2", "v1"] and run.goals[2].check == GAP["check"]
        assert run.steps[1].reason == "judged again: 0 verdicts changed, 1 goals added" and run.steps[1].accepted
        assert states(run.steps[0].verdicts)["v1"] == "unmet" and run.outcome.met and run.outcome.canvas == 1
        assert read_trajectory(tmp_path / "run") == run

    def test_may_go_back_to_a_canvas_that_is_no_worse_by_the_fresh_verdicts(self):
        script = scripted([generate(), edit(), VALIDATE, edit("add a dog")], {0: "muu", 1: ["mmu", "muu"], 2: "mmm"})
        run = drive(
            Session(a_brief(guided=True), RunModels(Looking(script, {"gaps": [], "back_to": 0}), FakeExecutor()))
        )
        looked = run.steps[2]
        assert (looked.ruling, looked.reason) == (
            "gone back",
            "judged again: 1 verdicts changed, 0 goals added; gone back to canvas 0",
        )
        assert run.steps[3].parent == 0 and run.steps[3].action.references == (0,) and run.outcome.met

    def test_stays_where_the_current_canvas_is_ahead(self):
        script = scripted([generate(), edit(), VALIDATE, edit("add a dog")], {0: "muu", 1: "mmu", 2: "mmm"})
        run = drive(
            Session(a_brief(guided=True), RunModels(Looking(script, {"gaps": [], "back_to": 0}), FakeExecutor()))
        )
        assert run.steps[2].ruling == "judged again" and run.steps[3].parent == 1

    def test_without_an_answer_is_a_warning(self):
        script = scripted([generate(), VALIDATE, edit()], {0: "muu", 1: "mmm"})
        run = drive(Session(a_brief(guided=True), RunModels(Looking(script, {"gaps": 3}, {"gaps": 3}), FakeExecutor())))
        assert run.outcome.met and [goal.id for goal in run.goals] == ["g1", "g2", "g3"]
        assert any("no look at the whole picture" in warning for warning in run.warnings)

    def test_a_gap_that_a_goal_names_already_is_left_out(self):
        vlm = FakeVlm([json.dumps({"gaps": [GAP | {"text": "Thing 1."}, GAP, GAP], "back_to": 7})])
        found = look_at_whole(vlm, Brief("x"), LISTED, {0: grey(), 2: grey()}).value
        assert [(goal.id, goal.text) for goal in found.gaps] == [("v1", "a moon")] and found.back_to is None

    def test_in_the_embedded_world_finds_what_an_artists_list_left_out(self):
        listed = (Goal("g1", "a red cat"),)
        brief = Brief("a red cat and a blue car", **SIZE, guided=True)
        picture = OracleExecutor().draw([_request("a red cat")])[0].picture
        found = look_at_whole(load_vlm(), brief, listed, {0: picture}).value
        assert [goal.text for goal in found.gaps] == ["a blue car"] and found.back_to is None
        better = OracleExecutor().draw([_request(brief.prompt)])[0].picture
        assert look_at_whole(load_vlm(), brief, listed, {0: picture, 3: better}).value.back_to == 3


def _request(prompt: str):
    return DrawRequest(prompt, 0, **SIZE)


def _third(question):
    data = question.data
    if data.get("task") == "goal" and data["goal"]["id"] == "v1":
        return type(question)(question.text, data={**data, "goal": {**data["goal"], "id": "g3"}})
    return question


class TestTheStepsOwnChecklist:
    def test_is_asked_with_the_edit_in_one_call_and_decides_whether_it_was_carried_out(self):
        action = Action(
            "EDIT", edit_prompt="add a cat", references=(0,), checks=("Is there a cat?", "Is the cat black?")
        )
        vlm = FakeVlm(decisions=[[0.9, 0.8, 0.9, 0.2]])
        found, _, calls = check_edit(vlm, grey(1), grey(2), action)
        assert calls == 1 and found.success is False and found.missed == ("Is the cat black?",)
        assert "Is there a cat?" in vlm.decides[0].questions[2].text

    def test_of_a_new_picture_is_asked_too_and_without_one_nothing_is(self):
        vlm = FakeVlm(decisions=[[0.9, None], [0.9]])
        drawn = Action("GENERATE", scene_prompt="a cat", checks=("Is there a cat?",))
        found, _, _ = check_scene(FakeVlm(decisions=[[0.9]]), grey(), drawn)
        assert found.success is True and found.missed == ()
        assert check_scene(vlm, grey(), Action("GENERATE"))[2] == 0 and vlm.decides == []

    def test_comes_with_the_action_of_a_guided_run_alone(self):
        asks = ["Is there a barn?", "", "Is it red?"]
        script = {0: "mmm"}
        vlm = scripted([generate(checks=asks)], script)
        decisions = vlm._decisions
        vlm._decisions = lambda images, questions: (
            [0.9] * len(questions) if questions[0].data["task"] == "check" else decisions(images, questions)
        )
        run = play(vlm, guided=True)
        assert run.steps[0].action.checks == ("Is there a barn?", "Is it red?") and run.steps[0].edit.success is True
        assert "checks:" in asked(vlm, "action")[0].text and "checks" in vlm.chats[-1].schema["properties"]
        plain = scripted([generate(checks=asks)], script)
        assert play(plain).steps[0].action.checks == () and "checks:" not in asked(plain, "action")[0].text


class TestWithoutRollingBack:
    def test_each_canvas_replaces_the_one_before_and_the_last_is_handed_over(self):
        vlm = scripted([generate(), edit(), edit("add a moon")], {0: "mmu", 1: "muu", 2: "uuu"})
        run = play(vlm, rollback=False, budget=Budget(rounds=3))
        assert [step.accepted for step in run.steps] == [True] * 3 and run.outcome.canvas == 2
        assert [step.ruling for step in run.steps] == ["first canvas", "no rollback", "no rollback"]

    def test_as_usual_the_best_one_is(self):
        vlm = scripted([generate(), edit(), edit("add a moon"), END], {0: "mmu", 1: "muu", 2: "uuu"})
        assert play(vlm, budget=Budget(rounds=3)).outcome.canvas == 0
