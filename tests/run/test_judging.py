"""How the judge is asked: thresholds, several candidates, and words on request."""

from __future__ import annotations

import json

import pytest

from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.protocols import Decision
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, go_on
from clvr_core.trajectory import states
from clvr_core.verifier import best_of, judge, knock_out
from tests.fakes import FakeExecutor, FakeVlm, goals, grey
from tests.run.script import asked, canvas_of, edit, generate, judged, play, scripted

GOALS = goals("a barn", "a cat")
BRIEF = Brief("a barn and a cat")


class TestThresholds:
    @pytest.mark.parametrize(
        ("limits", "state"),
        [({}, "met"), ({"met": 0.8}, "unsure"), ({"met": 0.8, "unmet": 0.71}, "unmet"), ({"met": 0.7}, "met")],
    )
    def test_those_of_the_budget_decide(self, limits, state):
        vlm = scripted([generate()], {0: [[Decision(0.7)]]}, goals=1)
        run = play(vlm, budget=Budget(rounds=1, **limits))
        assert states(run.steps[0].verdicts) == {"g1": state}

    @pytest.mark.parametrize(("met", "unmet"), [(0.5, 0.5), (0.3, 0.6), (1.1, 0.2), (0.5, -0.1), (float("nan"), 0.1)])
    def test_senseless_ones_are_refused(self, met, unmet):
        with pytest.raises(BadInput, match="0 <= unmet < met <= 1"):
            Budget(met=met, unmet=unmet)

    def test_a_run_is_not_gone_on_with_under_others(self, tmp_path):
        play(scripted([generate()], {0: "m"}, goals=1), folder=RunFolder.create(tmp_path), budget=Budget(rounds=1))
        with pytest.raises(BadInput, match="larger budget"):
            go_on(RunFolder.open(tmp_path), RunModels(scripted(goals=1), FakeExecutor()), Budget(rounds=2, met=0.9))


class TestTheSet:
    def chances(self, table):
        """A judge whose word on a canvas depends on its place too: `table[canvas][place]`."""
        return FakeVlm(
            decisions=lambda images, questions: [
                table[canvas_of(images[question.data["place"] - 1])][question.data["place"] - 1]
                for question in questions
            ]
        )

    def test_a_bias_for_a_place_is_averaged_out(self):
        vlm = self.chances({0: [0.9, 0.4, 0.3], 1: [0.9, 0.65, 0.6], 2: [0.8, 0.3, 0.1]})
        answer = best_of(vlm, BRIEF, GOALS, [grey(10), grey(20), grey(30)])
        assert answer.value == 1, "in the first order alone canvas 0 would have won"
        assert [[canvas_of(image) for image in call.images] for call in vlm.decides] == [[0, 1, 2], [2, 1, 0]]
        assert (answer.calls, answer.tokens) == (2, 6)
        assert (
            "Image 2 fits it best" in vlm.decides[0].questions[1].text and "a cat" in vlm.decides[0].questions[0].text
        )

    def test_a_tie_goes_to_the_earlier(self):
        assert best_of(self.chances([[0.5, 0.5]] * 2), BRIEF, GOALS, [grey(10), grey(20)]).value == 0

    @pytest.mark.parametrize(
        "broken", [[[0.9, None], [0.9, None]], [[0.9, 0.1], JudgeFailure("gone"), JudgeFailure("gone")]]
    )
    def test_half_an_answer_is_none(self, broken):
        assert best_of(FakeVlm(decisions=broken), BRIEF, GOALS, [grey(10), grey(20)]).value is None

    def test_only_the_winner_is_held_against_the_goals(self):
        vlm = scripted([generate()], {1: "mmm"})
        scripted_decisions = vlm._decisions
        vlm._decisions = lambda images, questions: (
            [0.9 if canvas_of(images[question.data["place"] - 1]) == 1 else 0.1 for question in questions]
            if questions[0].data["task"] == "choose"
            else scripted_decisions(images, questions)
        )
        run = play(vlm, candidates=3, judging="set")
        assert judged(vlm) == [1] and run.best == 1 and run.outcome.met and run.steps[0].chosen == 1
        assert run.steps[0].cost.vlm_calls == 1 + 3, "two looks at the set, one at the winner, beside the action"

    def test_without_an_answer_each_is_judged(self):
        vlm = scripted([generate()], {0: "umm", 1: "mmm"})
        scripted_decisions = vlm._decisions
        vlm._decisions = lambda images, questions: (
            JudgeFailure("gone") if questions[0].data["task"] == "choose" else scripted_decisions(images, questions)
        )
        run = play(vlm, candidates=2, judging="set")
        assert judged(vlm) == [0, 1] and run.best == 1
        assert [warning for warning in run.warnings if "no comparison of the candidates: " in warning]


class TestWhatTheJudgeDidNotAnswer:
    def test_it_is_a_warning_of_the_run_once(self):
        """As of a server that takes one picture, where each of these questions fails."""
        script = [generate(), edit("a", 0), edit("b", 0)]
        vlm = scripted(script, dict.fromkeys(range(3), "muu"), edits={1: (None, 0.9), 2: (0.9, None)})
        run = play(vlm, judging="pairs", candidates=1, budget=Budget(rounds=3))
        (warning,) = [each for each in run.warnings if "no check of the edit" in each]
        assert warning.startswith("step 1: no check of the edit: fake-vlm gave no usable answer")

    def test_so_is_a_comparison_of_two(self):
        vlm = scripted([generate(), generate("b")], dict.fromkeys(range(4), "muu"))
        others = vlm._decisions
        gone = JudgeFailure("one picture at most")
        vlm._decisions = lambda images, asked: gone if len(images) == 2 else others(images, asked)
        run = play(vlm, judging="pairs", candidates=2, budget=Budget(rounds=2))
        (warning,) = [each for each in run.warnings if "one picture at most" in each]
        assert warning.startswith("step 0: no comparison of two candidates: ")

    def test_what_is_left_out_of_an_action_is_one_too(self):
        vlm = scripted([generate(region=[9000, 0, 1, 1])], {0: "mmm"})
        assert play(vlm, budget=Budget(rounds=1)).warnings[0].startswith("step 0: the region is [9000, 0, 1, 1], not")


class TestPairs:
    def test_the_one_that_no_other_beats_in_both_orders(self):
        vlm = FakeVlm(decisions=lambda images, _: [0.9 if canvas_of(images[0]) > canvas_of(images[1]) else 0.1])
        answer = knock_out(vlm, BRIEF, GOALS, [grey(10), grey(30), grey(20)])
        assert answer.value == 1 and answer.calls == 4

    def test_a_judge_that_always_takes_the_first_changes_nothing(self):
        assert knock_out(FakeVlm(decisions=lambda *_: [0.9]), BRIEF, GOALS, [grey(10), grey(20)]).value == 0

    def test_only_what_the_verdicts_leave_level_is_compared(self):
        vlm = scripted([generate()], {0: "umm", 1: "muu", 2: "mmu"}, prefers=2)
        run = play(vlm, candidates=3, judging="pairs", budget=Budget(rounds=1))
        assert run.best == 2 and {frozenset(map(canvas_of, call.images)) for call in asked(vlm, "compare")} == {
            frozenset({0, 2})
        }

    def test_each_asks_no_comparison(self):
        vlm = scripted([generate()], {0: "umm", 1: "mmu"}, prefers=1)
        assert play(vlm, candidates=2, budget=Budget(rounds=1)).best == 0 and not asked(vlm, "compare")


class TestEvidence:
    def run(self, reply, **brief):
        vlm = scripted([generate()], {0: "mu?"})
        acts = vlm._replies
        vlm._replies = lambda messages: (
            reply if messages[-1].data.get("task") in ("evidence", "again") else acts(messages)
        )
        return play(vlm, budget=Budget(rounds=1), **brief), vlm

    def test_it_is_asked_for_what_does_not_hold_and_changes_no_verdict(self):
        told = {
            "seen": [
                {"goal": "g2", "seen": "a dog\n"},
                {"goal": "g3", "seen": "fog"},
                {"goal": "g1", "seen": "nothing"},
            ]
        }
        run, vlm = self.run(json.dumps(told), evidence=True)
        assert [(verdict.state, verdict.evidence) for verdict in run.steps[0].verdicts] == [
            ("met", ""),
            ("unmet", "a dog"),
            ("unsure", "fog"),
        ]
        request = vlm.chats[-1]
        assert request.schema["properties"]["seen"]["items"]["properties"]["goal"]["enum"] == ["g2", "g3"]
        assert "thing 2" in request.messages[-1].text and "thing 1" not in request.messages[-1].text
        assert canvas_of(request.messages[-1].images[0]) == 0

    def test_nothing_is_written_unless_it_is_asked_for(self):
        run, _ = self.run(AssertionError("no words were asked for"))
        assert not any(verdict.evidence for verdict in run.steps[0].verdicts)

    @pytest.mark.parametrize("reply", [JudgeFailure("gone"), "prose"])
    def test_without_an_answer_the_verdicts_stand(self, reply):
        run, _ = self.run(reply, evidence=True)
        assert list(states(run.steps[0].verdicts).values()) == ["met", "unmet", "unsure"]


def test_the_embedded_judge_does_all_of_it():
    from clvr_core.controller import draft_goals
    from clvr_core.stickers.scene import Scene, Thing
    from clvr_core.verifier import explain
    from tests.stickers.eyes import picture_of
    from tests.stickers.oracle import load_vlm

    brief, vlm = Brief("a red cat and a blue car"), load_vlm()
    cat, car = Thing("cat", "red", "large", 0), Thing("car", "blue", "small", 4)
    one, both = (picture_of(Scene(tuple(things))) for things in ([cat], [cat, car]))
    drafted = draft_goals(vlm, brief).value
    assert (
        best_of(vlm, brief, drafted, [one, both, one]).value
        == 1
        == knock_out(vlm, brief, drafted, [one, both, one]).value
    )
    told = explain(vlm, one, drafted, judge(vlm, one, drafted))
    unmet = next(verdict for verdict in told.verdicts if verdict.state == "unmet")
    assert unmet.evidence == "I see 1 x large red cat; scene: plain"
