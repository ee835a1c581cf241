"""Kept runs as lessons: the very requests of the loop, and what is learnt of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from clvr_core.controller.prompts import GOALS_SCHEMA
from clvr_core.errors import BadInput
from clvr_core.models.registry import Models
from clvr_core.policy import LOOPS
from clvr_core.run.run_folder import read_trajectory
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.stickers import CANVAS
from clvr_core.synthesis.engine import RUNS, Settings, random_prompts, synthesize
from clvr_core.synthesis.lessons import FORMS, kept_runs, lessons_of
from clvr_core.synthesis.overlap import near, read_benchmark, refuse_overlaps, words_of
from clvr_core.synthesis.reasons import REASONS, Reasons
from clvr_core.trajectory import Action
from clvr_core.world import world_named
from tests.fakes import FakeExecutor, FakeVlm
from tests.run.script import canvas_of, scripted
from tests.stickers.oracle import load_vlm
from tests.synthesis.crews import BadAtOnce
from tests.synthesis.kept import ACTIONS, SEEN, save_kept


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_kept(tmp_path_factory.mktemp("data"))


def of(lessons, task):
    return [lesson for lesson in lessons if lesson.task == task]


def as_said(messages):
    return [(each.role, each.text, [picture.tobytes() for picture in each.images]) for each in messages]


def test_only_kept_runs_are_lessons(data, tmp_path):
    assert kept_runs(data) == ["000000", "000001"]
    with pytest.raises(BadInput, match="clvr synthesize"):
        kept_runs(tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_the_requests_are_those_of_the_loop(data, form):
    """Word by word and picture by picture what a run of this form asks."""
    lessons = lessons_of(data, "000000", form)
    vlm = scripted(ACTIONS, SEEN)
    brief = replace(read_trajectory(data / RUNS / "000000").brief, conversation=form == "conversation")
    drive(Session(brief, RunModels(vlm, FakeExecutor())))
    asked = [chat.messages for chat in vlm.chats]
    told = [lesson.messages for lesson in lessons if lesson.task != "verdict"]
    assert [as_said(each) for each in told] == [as_said(each) for each in asked]
    questions = [
        (question.text, [canvas_of(image) for image in call.images])
        for call in vlm.decides
        for question in call.questions
        if question.data["task"] == "goal"
    ]
    verdicts = [(each.question, [canvas_of(image) for image in each.images]) for each in of(lessons, "verdict")]
    assert [each for each in verdicts if len(each[1]) == 1] == questions


@pytest.mark.parametrize("form", FORMS)
def test_replies_are_compact_json_in_the_order_of_the_schema(data, form):
    lessons = lessons_of(data, "000000", form)
    (goals,) = of(lessons, "goals")
    assert list(json.loads(goals.reply)["goals"][0]) == list(GOALS_SCHEMA["properties"]["goals"]["items"]["properties"])
    actions = of(lessons, "action")
    assert [list(json.loads(each.reply)) == list(each.schema["properties"]) for each in actions] == [True] * 4
    assert all(each.reply == json.dumps(json.loads(each.reply), separators=(",", ":")) for each in (goals, *actions))


def test_what_was_rolled_back_is_read_and_not_learnt(data):
    actions = of(lessons_of(data, "000000"), "action")
    assert [each.learnt for each in actions] == [True, False, True, True]
    assert actions[1].reply in [message.text for message in actions[3].messages]


def test_verdicts_are_what_the_judge_was_sure_of(data):
    verdicts = of(lessons_of(data, "000000"), "verdict")
    one, two = ([each.reply for each in verdicts if len(each.images) == count] for count in (1, 2))
    assert one == ["Yes", "No", "No", "No", "No", "No", "Yes", "Yes", "No", "Yes", "Yes", "Yes"]
    assert len(two) == 6 and set(two) == {"Yes"}  # done and kept, of three edits


def test_goals_can_be_learnt_without_their_questions(data):
    (goals,) = of(lessons_of(data, "000000", checks=False), "goals")
    assert {goal["check"] for goal in json.loads(goals.reply)["goals"]} == {""}


def test_a_teacher_rewrites_the_reasons_of_what_is_learnt_once(data, tmp_path):
    said = [json.dumps({"reason": f"I see it thus, {number}."}) for number in range(3)]
    teacher = FakeVlm(said)
    reasons = Reasons(teacher, tmp_path)
    lessons = of(lessons_of(data, "000000", reason=reasons), "action")
    summaries = [json.loads(each.reply)["summary"] for each in lessons]
    assert summaries == ["I see it thus, 0.", "The cat is missing.", "I see it thus, 1.", "I see it thus, 2."]
    assert "I begin with the barn." in teacher.chats[0].text and "GENERATE. a barn" in teacher.chats[0].text
    assert "I see it thus, 1." in lessons[3].messages[-2].text, "the conversation goes on from what is learnt"
    again = of(lessons_of(data, "000000", reason=Reasons(FakeVlm([]), tmp_path)), "action")
    assert [each.reply for each in again] == [each.reply for each in lessons]
    (tmp_path / REASONS).write_text((tmp_path / REASONS).read_text()[:-9])  # the last line was cut by a kill
    late = Reasons(FakeVlm([json.dumps({"reason": "Once more."})]), tmp_path)
    assert json.loads(of(lessons_of(data, "000000", reason=late), "action")[3].reply)["summary"] == "Once more."


def test_without_a_usable_reply_of_the_teacher_a_reason_stays_as_it_was(tmp_path):
    told: list[str] = []
    reasons = Reasons(FakeVlm(["prose", '{"reason": ""}']), tmp_path, told.append)
    assert reasons("000000", 2, Action("EDIT", "I add a cat.", edit_prompt="add a cat")) == "I add a cat."
    assert reasons.kept_as_they_were == 1 and "run 000000, step 2" in told[0]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("A photo of a cow.", "a photo of a COW", True),
        ("a photo of a cow", "a photo of a cat", False),
        ("a photo of a red cow", "a photo of a cow", False),
        ("one two three four five six seven eight nine ten", "one two three four five six seven eight nine cow", True),
        ("one two three four five six seven eight nine ten", "one two three four five six seven cow nine cow", False),
        ("one two three four five six seven eight nine ten", "two one three four five six seven eight nine ten", False),
        (
            "one two three four five six seven eight nine ten",
            "one two three four five six seven eight nine ten and",
            True,
        ),
    ],
)
def test_prompts_are_near_if_one_word_in_ten_differs(one, other, expected):
    assert near(words_of(one), words_of(other)) is expected and near(words_of(other), words_of(one)) is expected


def test_briefs_of_a_benchmark_are_refused_and_it_is_read_in_both_forms(tmp_path):
    lines, objects = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    lines.write_text("a cow\na photo of a dog\n")
    objects.write_text('{"tag": "x", "prompt": "a cow"}\n{"prompt": "a photo of a dog"}\n')
    assert read_benchmark(lines) == read_benchmark(objects) == ["a cow", "a photo of a dog"]
    refuse_overlaps(["a barn", "a photo of a cat"], [lines, objects])
    with pytest.raises(BadInput, match=r"1 briefs of the training data are those of the benchmark prompts\.jsonl"):
        refuse_overlaps(["a barn", "A photo of a dog!"], [objects])
    objects.write_text('{"tag": "x"}\n')
    with pytest.raises(BadInput, match="line 1 has no prompt"):
        read_benchmark(objects)


def test_a_data_set_of_all_three_strategies_is_replayed_in_both_forms(tmp_path):
    """Runs of the embedded world, as `clvr synthesize --strategy clvr,director,strokes` makes them."""
    prompts = random_prompts(world_named("stickers"), 9, 5)
    models = Models(load_vlm(), BadAtOnce(), CANVAS, CANVAS)
    settings = Settings(rounds=16, patience=6, together=6, strategies=LOOPS)
    synthesize(tmp_path, prompts, models, load_vlm(seed=1), settings, lambda line: None)
    strategies = [read_trajectory(tmp_path / RUNS / name).brief.strategy for name in kept_runs(tmp_path)]
    assert {*strategies} == {*LOOPS}, strategies
    for name in kept_runs(tmp_path):
        run = read_trajectory(tmp_path / RUNS / name)
        for form in FORMS:
            actions = [each for each in of(lessons_of(tmp_path, name, form), "action") if each.learnt]
            kept = [step.action for step in run.steps if step.accepted and step.action.draws]
            assert actions and {json.loads(each.reply)["kind"] for each in actions} <= {step.kind for step in kept}


def test_a_strategy_that_is_none_is_refused():
    with pytest.raises(BadInput, match="the strategies are clvr, oneshot"):
        Settings(strategies=("clvr", "oneshot"))
