"""The verifier: probabilities decide, words never do, and a judge that did not answer has said nothing of the picture."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.protocols import Decision
from clvr_core.records import to_json
from clvr_core.trajectory import Action, EditCheck
from clvr_core.verifier import Judged, Thresholds, check_edit, compare, judge
from tests.fakes import FakeVlm, goals, grey

BRIEF = Brief("a red circle above a blue square")
GOALS = goals("a red circle", "a blue square", "the circle is above the square")
ONE = GOALS[:1]
EDIT = Action("EDIT", edit_prompt="paint the circle red, keep the rest", references=(0,))
UNUSABLE = [None, math.nan, math.inf, -0.1, 1.01, True, "yes", Decision(None, "no reply")]
SILENCE = [TimeoutError(), ConnectionError("refused"), JudgeFailure("the model is loading")]


def judged(*decisions: object, of: tuple[Goal, ...] = GOALS) -> tuple[Judged, FakeVlm]:
    vlm = FakeVlm(decisions=decisions)
    return judge(vlm, grey(), of), vlm


def states(result: Judged) -> list[str]:
    return [verdict.state for verdict in result.verdicts]


class TestThresholds:
    @pytest.mark.parametrize(
        ("probability", "state"),
        [
            (0, "unmet"),
            (0.35, "unmet"),
            (0.3500001, "unsure"),
            (0.5, "unsure"),
            (0.6499999, "unsure"),
            (0.65, "met"),
            (1, "met"),
        ],
    )
    def test_the_borders_belong_to_met_and_unmet(self, probability, state):
        assert states(judged([probability], of=ONE)[0]) == [state]

    def test_they_can_be_chosen(self):
        vlm = FakeVlm(decisions=[[0.7]])
        assert states(judge(vlm, grey(), ONE, Thresholds(met=0.9, unmet=0.1))) == ["unsure"]

    @pytest.mark.parametrize(
        ("met", "unmet"), [(0.5, 0.5), (0.3, 0.6), (1.1, 0.2), (0.6, -0.1), (math.nan, 0.2), (0.6, math.nan)]
    )
    def test_senseless_ones_are_refused_by_name(self, met, unmet):
        with pytest.raises(BadInput, match="thresholds"):
            Thresholds(met, unmet)


class TestJudging:
    def test_all_goals_are_asked_in_one_look_at_the_whole_picture(self):
        picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
        vlm = FakeVlm(decisions=[[0.9, 0.1, 0.5]])
        result = judge(vlm, picture, GOALS)
        assert states(result) == ["met", "unmet", "unsure"] and len(vlm.decides) == 1 and result.calls == 1
        (image,) = vlm.decides[0].images
        assert np.array_equal(image, picture)
        assert [question.data for question in vlm.decides[0].questions] == [
            {"task": "goal", "goal": to_json(goal)} for goal in GOALS
        ]

    def test_the_verdict_carries_evidence_and_confidence(self):
        result, _ = judged([Decision(0.9, "a red disc at the top", 5), Decision(0.2, tokens=3), 0.5])
        assert [verdict.confidence for verdict in result.verdicts] == [0.9, 0.8, 0.5]
        assert result.verdicts[0].evidence == "a red disc at the top" and result.tokens == 9

    @pytest.mark.parametrize("evidence", ["I know nothing about that", "Yes. No doubt.", "no", "unknown", "yes"])
    def test_words_decide_nothing(self, evidence):
        assert states(judged([Decision(0.9, evidence)], of=ONE)[0]) == ["met"]
        assert states(judged([Decision(0.1, evidence)], of=ONE)[0]) == ["unmet"]
        assert states(judged([Decision(None, evidence)], [Decision(None, evidence)], of=ONE)[0]) == ["error"]

    def test_a_goal_has_its_own_question_or_one_made_from_its_text(self):
        own, made = Goal("g1", "a cat", check="Is a cat to be seen?"), Goal("g2", 'a sign "{0}"')
        _, vlm = judged([1.0, 1.0], of=(own, made))
        first, second = vlm.decides[0].questions
        assert 'Goal: "a cat"' in first.text and 'question: "Is a cat to be seen?"' in first.text
        assert r'Goal: "a sign \"{0}\""' in second.text and "question" not in second.text

    def test_no_goals_need_no_call(self):
        result, vlm = judged(of=())
        assert result == Judged(()) and not vlm.decides

    def test_a_batch_is_not_a_picture(self):
        with pytest.raises(BadInput, match="one picture"):
            judge(FakeVlm(), np.zeros((2, 8, 8, 3), np.uint8), ONE)
        with pytest.raises(BadInput, match="float32"):
            judge(FakeVlm(), np.zeros((8, 8, 3), np.float32), ONE)

    def test_evidence_without_end_is_cut(self):
        result, _ = judged([Decision(0.9, "<b>x\n" * 50_000)], of=ONE)
        assert len(result.verdicts[0].evidence) <= 500 and "\n" not in result.verdicts[0].evidence


class TestAJudgeThatDidNotAnswer:
    @pytest.mark.parametrize("error", SILENCE, ids=repr)
    def test_is_error_with_the_reason_and_never_unmet(self, error):
        result, vlm = judged(error, error)
        assert states(result) == ["error"] * 3 and len(vlm.decides) == 2 and result.calls == 2
        for verdict in result.verdicts:
            assert "fake-vlm" in verdict.evidence and (str(error) or "TimeoutError") in verdict.evidence
            assert verdict.confidence is None

    @pytest.mark.parametrize("answer", UNUSABLE, ids=repr)
    def test_an_answer_that_is_no_probability_is_no_answer(self, answer):
        result, _ = judged([answer], [answer], of=ONE)
        assert states(result) == ["error"] and result.verdicts[0].evidence

    @pytest.mark.parametrize("answers", [[], [0.9], [0.9, 0.9], [0.9] * 4])
    def test_a_wrong_number_of_answers_is_no_answer_for_any_goal(self, answers):
        result, _ = judged(answers, answers)
        assert states(result) == ["error"] * 3
        assert f"{len(answers)} answers to 3 questions" in result.verdicts[0].evidence

    @pytest.mark.parametrize("first", [TimeoutError(), [None, None, None], [0.9]], ids=repr)
    def test_the_whole_call_is_made_once_more(self, first):
        result, vlm = judged(first, [0.9, 0.1, 0.5])
        assert states(result) == ["met", "unmet", "unsure"] and result.calls == 2
        assert [question.text for question in vlm.decides[0].questions] == [
            question.text for question in vlm.decides[1].questions
        ]

    def test_one_missing_answer_does_not_take_the_others_along(self):
        result, _ = judged([0.9, None, 0.1], [0.1, None, 0.9])
        assert states(result) == ["met", "error", "unmet"]

    def test_the_second_call_only_fills_the_holes(self):
        assert states(judged([0.9, None, 0.1], [0.1, 0.9, 0.9])[0]) == ["met", "met", "unmet"]
        assert states(judged([0.9, None, 0.1], TimeoutError())[0]) == ["met", "error", "unmet"]

    def test_tokens_of_both_calls_are_counted(self):
        result, _ = judged([Decision(None, tokens=5)], [Decision(0.9, tokens=7)], of=ONE)
        assert result.tokens == 12

    @pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("CUDA out of memory"), KeyboardInterrupt()])
    def test_mistakes_of_the_program_are_not_swallowed(self, error):
        with pytest.raises(type(error)):
            judged(error)


class TestTheEdit:
    def test_before_and_after_are_seen_in_order_with_both_questions_in_one_call(self):
        vlm = FakeVlm(decisions=[[Decision(0.9, "it is red", 4), Decision(0.75, "the sky is paler", 4)]])
        check, tokens, calls = check_edit(vlm, grey(1), grey(2), EDIT)
        assert check == EditCheck(True, 0.25, "it is red; the sky is paler") and (tokens, calls) == (8, 1)
        assert [int(image[0, 0, 0]) for image in vlm.decides[0].images] == [1, 2]
        done, kept = vlm.decides[0].questions
        assert done.data == {"task": "edit-done", "instruction": EDIT.edit_prompt} and EDIT.edit_prompt in done.text
        assert kept.data == {"task": "edit-kept", "instruction": EDIT.edit_prompt} and EDIT.edit_prompt in kept.text

    def test_an_edit_that_did_nothing_kept_everything(self):
        check, _, _ = check_edit(FakeVlm(decisions=[[0.1, 1.0]]), grey(), grey(), EDIT)
        assert check.success is False and check.over_edit == 0

    @pytest.mark.parametrize("error", SILENCE, ids=repr)
    def test_no_answer_is_neither_success_nor_harm(self, error):
        check, _, calls = check_edit(FakeVlm(decisions=[error, error]), grey(), grey(), EDIT)
        assert check.success is None and check.over_edit is None and calls == 2
        assert check.evidence.count("fake-vlm") == 1

    def test_half_an_answer_is_half_a_check(self):
        check, _, _ = check_edit(FakeVlm(decisions=[[0.9, None], [0.9, math.nan]]), grey(), grey(), EDIT)
        assert check.success is True and check.over_edit is None and check.evidence

    def test_a_generation_has_no_instruction_to_check(self):
        vlm = FakeVlm()
        assert (
            check_edit(vlm, grey(), grey(), Action("GENERATE", scene_prompt="x")) == (EditCheck(), 0, 0)
            and not vlm.decides
        )


class TestComparing:
    @pytest.mark.parametrize(
        ("forth", "back", "choice"),
        [(0.9, 0.1, 0), (0.1, 0.9, 1), (0.9, 0.9, -1), (0.1, 0.1, -1), (0.5, 0.1, -1), (0.9, 0.5, -1), (0.5, 0.5, -1)],
    )
    def test_a_choice_must_hold_in_both_orders(self, forth, back, choice):
        answer = compare(FakeVlm(decisions=[[forth], [back]]), BRIEF, GOALS, grey(1), grey(2))
        assert answer.value == choice and answer.calls == 2

    def test_the_pictures_are_swapped_and_the_question_stays(self):
        vlm = FakeVlm(decisions=[[0.9], [0.1]])
        compare(vlm, BRIEF, GOALS, grey(1), grey(2))
        assert [[int(image[0, 0, 0]) for image in call.images] for call in vlm.decides] == [[1, 2], [2, 1]]
        (question,), (again,) = (call.questions for call in vlm.decides)
        assert question == again
        assert question.data == {"task": "compare", "prompt": BRIEF.prompt, "goals": to_json(GOALS)}
        assert "The first image fits the brief better than the second" in question.text

    @pytest.mark.parametrize(
        "decisions",
        [[TimeoutError(), [None]], [[0.9], [math.nan], TimeoutError()]],
        ids=["first order", "second order"],
    )
    def test_without_an_answer_in_each_order_there_is_no_choice(self, decisions):
        answer = compare(FakeVlm(decisions=decisions), BRIEF, GOALS, grey(1), grey(2))
        assert answer.value is None and answer.failure
