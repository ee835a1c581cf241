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


def test_a_round_costs_one_reply_and_only_the_last_one_decisions_on_the_goals():
    vlm = eyes([fused("muu", edit("add a cat", 0)), fused("mmm", END)], [generate()], {1: "mmm"})
    run = play(vlm)
    assert tasks(vlm) == ["goals", "action", "fused", "fused"] and judged(vlm) == [1] and run.outcome.met
    assert [verdict.confidence for verdict in run.steps[1].verdicts] == [0.9] * 3
    assert [verdict.evidence for verdict in run.steps[1].verdicts] == ["seen m"] * 3
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
    ("words", "action", "seen"),
    [
        ("mmm", END, "uuu"),
        ("mmm", END, "mmu"),
        ("mmm", EDITED, "muu"),
        ("mm?", EDITED, "uu?"),
        ("muu", END, "mmu"),
        ("mmm", END, "eee"),
    ],
)
def test_words_that_could_end_the_run_are_judged_by_probabilities_first(words, action, seen):
    """An END that they speak against is not taken either: the controller is asked anew."""
    vlm = eyes([fused(words, action), fused("uuu", EDITED)], [generate(), edit("add a dog", 0), END], {0: seen})
    run = play(vlm, budget=Budget(rounds=2, patience=1))
    found = {"m": "met", "u": "unmet", "?": "unsure", "e": "error"}
    assert list(states(run.steps[0].verdicts).values()) == [found[letter] for letter in seen]
    assert not run.outcome.met and [step.action.kind for step in run.steps[:2]] == ["GENERATE", "EDIT"]
    assert run.steps[1].action.edit_prompt == ("add a dog" if action is END else "add a cat")
    for verdict, said in zip(run.steps[0].verdicts, words):
        agree = STATES[said] == verdict.state
        assert verdict.state == "error" or verdict.evidence == (f"seen {said}" if agree else "")


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
        {2: "mmm"},
    )
    run = play(vlm)
    assert [step.action.edit_prompt for step in run.steps] == ["", "add a cat", "add a moon"] and tasks(vlm).count(
        "action"
    ) == 2


def test_an_end_beside_a_goal_that_is_unmet_is_not_taken():
    vlm = eyes([fused("mmu", END), fused("mmm", END)], [generate(), edit("add a moon", 0)], {0: "mmu", 1: "mmm"})
    run = play(vlm)
    assert [step.action.kind for step in run.steps] == ["GENERATE", "EDIT"] and run.outcome.met


@pytest.mark.parametrize("kept", range(1, 11))
def test_a_run_killed_at_any_line_goes_on_with_the_action_that_was_foreseen(kept, tmp_path):
    def script():
        return eyes([fused("muu", edit("add a cat", 0)), fused("mmm", END)], [generate()], {1: "mmm"})

    whole = play(script(), RunFolder.create(tmp_path / "run"))
    journal = tmp_path / "run" / "trajectory.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:kept]))
    done = [json.loads(line)["event"] for line in lines[:kept]].count
    replies = [fused("muu", edit("add a cat", 0)), fused("mmm", END)][done("judged") :]
    vlm = eyes(replies, [] if done("action") else [generate()], {1: "mmm"})
    executor = FakeExecutor()
    executor.requests = [None] * done("drawn")
    again = drive(resume(RunFolder.open(tmp_path / "run"), RunModels(vlm, executor)))
    assert [step.action for step in again.steps] == [
        step.action for step in whole.steps
    ] and again.outcome == whole.outcome
