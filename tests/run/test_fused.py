"""Verdicts and the next action in one reply: a call saved, the same record, and a way back where the reply is of no use."""

from __future__ import annotations

import json

import pytest

from clvr_core.brief import Budget
from clvr_core.errors import JudgeFailure
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from clvr_core.trajectory import states
from tests.fakes import FakeExecutor
from tests.run.script import END, a_brief, canvas_of, edit, generate, judged, scripted

STATES = {"m": "met", "u": "unmet", "?": "unsure"}


def fused(letters: str, action: dict) -> str:
    verdicts = [
        {"goal": f"g{number}", "state": STATES[letter], "evidence": f"seen {letter}"}
        for number, letter in enumerate(letters, 1)
    ]
    return json.dumps({"verdicts": verdicts, **action})


def eyes(replies, *more, **script):
    """A scripted model that also answers requests for both."""
    vlm = scripted(*more, **script)
    alone, said = vlm._replies, iter(replies)
    vlm._replies = lambda messages: (
        next(said) if any(message.data.get("task") == "fused" for message in messages) else alone(messages)
    )
    return vlm


def play(vlm, folder=None, **brief):
    return drive(Session(a_brief(fused=True, **brief), RunModels(vlm, FakeExecutor()), folder))


def tasks(vlm) -> list[str]:
    return [chat.messages[-1].data["task"] for chat in vlm.chats]


def test_a_round_costs_one_reply_and_no_decision_but_that_on_the_edit():
    vlm = eyes([fused("muu", edit("add a cat", 0)), fused("mmm", END)], [generate()])
    run = play(vlm)
    assert tasks(vlm) == ["goals", "action", "fused", "fused"] and not judged(vlm) and run.outcome.met
    assert [step.action.kind for step in run.steps] == ["GENERATE", "EDIT"]
    assert [(verdict.state, verdict.evidence) for verdict in run.steps[0].verdicts] == [
        ("met", "seen m"),
        ("unmet", "seen u"),
        ("unmet", "seen u"),
    ]
    request = vlm.chats[2]
    assert canvas_of(request.messages[-1].images[0]) == 0 and "Canvas 0, picture 1, was drawn just now" in request.text
    assert next(iter(request.schema["properties"])) == "verdicts" and "edit_prompt" in request.schema["properties"]
    assert "does not hold" not in request.text, "it is not judged yet"


def test_it_is_off_unless_it_is_asked_for():
    vlm = eyes([], [generate()], {0: "mmm"})
    drive(Session(a_brief(), RunModels(vlm, FakeExecutor())))
    assert "fused" not in tasks(vlm) and judged(vlm) == [0]


@pytest.mark.parametrize(
    "bad", [[JudgeFailure("gone")] * 2, ["prose"] * 2, [fused("mm", END)] * 2, [fused("mmmm", END)] * 2]
)
def test_a_reply_of_no_use_leaves_the_judge_as_it_was(bad):
    vlm = eyes([*bad], [generate(), END], {0: "mu?"})
    run = play(vlm, budget=Budget(rounds=1, patience=1))
    assert judged(vlm)[0] == 0 and list(states(run.steps[0].verdicts).values()) == ["met", "unmet", "unsure"]


EDITED = edit("add a cat", 0)


@pytest.mark.parametrize(
    ("reply", "seen"),
    [
        (f"The format is {fused('mmm', END)}. My answer: {fused('muu', EDITED)}", "muu"),
        (fused("muu", EDITED) + fused("muu", EDITED), "muu"),
        (fused("mmm", END) + fused("muu", EDITED), None),
        (f"{fused('muu', EDITED)} If all held: {fused('mmm', END)}", None),
        (f"{fused('muu', EDITED)[:-1]}, {fused('mmm', END)[1:]}", None),
        (f"The format is {fused('mmm', END)}. My answer: {fused('muu', EDITED)[:60]}", None),
    ],
    ids=["example first", "doubled", "contradictory", "raised", "keys twice", "cut"],
)
def test_an_example_or_a_second_object_never_makes_a_goal_met(reply, seen):
    vlm = eyes([reply, reply], [generate(), END], {0: "uuu"})
    run = play(vlm, budget=Budget(rounds=1, patience=1))
    expected = [STATES[letter] for letter in seen or "uuu"]
    assert list(states(run.steps[0].verdicts).values()) == expected and bool(judged(vlm)) == (seen is None)


def test_an_action_for_a_canvas_that_was_rolled_back_is_not_taken():
    vlm = eyes(
        [fused("mmu", edit("add a cat", 0)), fused("uuu", edit("add a dog", 1)), fused("mmm", END)],
        [generate(), edit("add a moon", 0)],
    )
    run = play(vlm)
    assert [step.action.edit_prompt for step in run.steps] == ["", "add a cat", "add a moon"] and tasks(vlm).count(
        "action"
    ) == 2


def test_a_refused_end_is_not_said_again_by_itself():
    vlm = eyes([fused("mmu", END), fused("mmm", END)], [generate(), edit("add a moon", 0)])
    run = play(vlm)
    assert [step.action.kind for step in run.steps] == ["GENERATE", "END", "EDIT"] and run.outcome.met


@pytest.mark.parametrize("kept", range(1, 11))
def test_a_run_killed_at_any_line_goes_on_with_the_action_that_was_foreseen(kept, tmp_path):
    def script():
        return eyes([fused("muu", edit("add a cat", 0)), fused("mmm", END)], [generate()])

    whole = play(script(), RunFolder.create(tmp_path / "run"))
    journal = tmp_path / "run" / "trajectory.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:kept]))
    done = [json.loads(line)["event"] for line in lines[:kept]].count
    replies = [fused("muu", edit("add a cat", 0)), fused("mmm", END)][done("judged") :]
    vlm = eyes(replies, [] if done("action") else [generate()])
    executor = FakeExecutor()
    executor.requests = [None] * done("drawn")
    again = drive(resume(RunFolder.open(tmp_path / "run"), RunModels(vlm, executor)))
    assert [step.action for step in again.steps] == [
        step.action for step in whole.steps
    ] and again.outcome == whole.outcome
