"""What is seen of a loop while it runs, and what a cancel or a judge that fails leaves of it; with models that answer by a script."""

from __future__ import annotations

import pytest

from clvr_core.run.run_folder import BEST, JOURNAL
from tests.comfy.graphs import begun, cancelled, go, in_one, looped, over, runs, told
from tests.comfy.test_body import BRIEF, END, SAVE, SAY, VERIFY
from tests.comfy.test_trajectories import load
from tests.waiting import until


@pytest.mark.parametrize(("make", "node", "seed"), [(looped, END, 121), (in_one, "2", 122)])
def test_the_round_the_goals_met_and_the_canvas_are_on_the_node_of_the_loop(comfy, make, node, seed):
    with comfy.listening() as heard:
        _, (run,) = begun(comfy, make(seed))
    assert len(run.steps) == 3
    texts = [text for shown_on, text in (line["text"] for line in heard if "text" in line) if shown_on == node]
    assert texts[:3] == [f"round {number} of 12, {number} of 3 goals met" for number in (1, 2, 3)]
    assert "every goal is met" in texts[-1]
    bars = [line["said"]["data"]["nodes"] for line in heard if line.get("said", {}).get("type") == "progress_state"]
    values = {
        state["value"]
        for states in bars
        for state in states.values()
        if state["display_node_id"] == node and state["max"] == 12
    }
    assert {1, 2, 3} <= values
    previews = [
        size
        for about, size in (line["preview"] for line in heard if "preview" in line)
        if about["display_node_id"] == node
    ]
    assert len(previews) >= 3 and min(previews) > 500


def test_the_pictures_of_a_round_appear_before_the_next_begins(comfy):
    with comfy.listening() as heard:
        begun(comfy, looped(123))
    shown = [
        [image["filename"] for image in line["said"]["data"]["output"]["images"]]
        for line in heard
        if line.get("said", {}).get("type") == "executed" and line["said"]["data"]["display_node"] == VERIFY
    ]
    assert [len(files) for files in shown] == [1, 2, 3] and shown[0] == ["canvas-000.png"]


@pytest.mark.parametrize(("make", "node"), [(looped, END), (in_one, "2")])
def test_a_graph_that_is_answered_from_the_cache_still_names_its_run(comfy, make, node):
    prompt = make(129)
    _, (run,) = begun(comfy, prompt)
    with comfy.listening() as heard:
        go(comfy, prompt)
        # The history has it before the websocket has told all of it.
        until(lambda: any(line.get("said", {}).get("type") == "execution_success" for line in list(heard)), "the end")
    told_of = {
        line["said"]["data"]["node"]: line["said"]["data"]["output"]
        for line in heard
        if line.get("said", {}).get("type") == "executed"
    }
    assert told_of[node]["clvr_run"] == [runs(comfy)[-1].name]
    assert make is in_one or told_of[BRIEF]["clvr_goals"] == [goal.text for goal in run.goals]


LONG = {"steps": 1000, "step_seconds": 0.1}
TALK = {"tokens": 1000, "token_seconds": 0.1}


@pytest.mark.parametrize("make", [looped, in_one])
@pytest.mark.parametrize(("script", "what"), [(LONG, "step"), (TALK, "token")])
def test_cancel_takes_effect_within_one_sampler_step_or_one_token(comfy, make, script, what):
    late = over(comfy, f"stub: {what}, cancelled")
    cancelled(comfy, make(124, script=script), f"stub: {what}", 2)
    assert over(comfy, f"stub: {what}, cancelled") <= late + 1


@pytest.mark.parametrize(("make", "seed"), [(looped, 125), (in_one, 126)])
def test_what_was_drawn_before_a_cancel_can_be_looked_at_and_gone_on_with(comfy, make, seed):
    slow = {"halves": 0, "tokens": 2, "token_seconds": 0.02}
    _, (folder,) = cancelled(comfy, make(seed, script=slow, rounds=50, patience=50), "stub: step", 3)
    run = told(folder)
    assert not (folder / BEST).exists() and run.outcome is None and run.goals and 1 <= len(run.steps) <= 3
    entry = go(comfy, load(folder.name))
    assert "the run has not ended" in "".join(entry["outputs"]["3"]["text"]) and entry["outputs"]["4"]["images"]
    kept = (folder / JOURNAL).read_bytes()
    go(comfy, make(seed, script=slow, rounds=50, patience=5))
    (same,) = (path for path in runs(comfy) if (path / JOURNAL).read_bytes().startswith(kept))
    assert same == folder or told(folder).brief.budget.patience == 50


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ({"fails": "decide"}, "the judge gave no answer to"),
        ({"fails": "decide", "fails_after": 4}, "the judge gave no answer to"),
        ({"fails": "decide", "fails_with": "OSError"}, "the stub gives no answer"),
        ({"fails": "chat", "fails_with": "TimeoutError"}, "the brief is judged as one goal"),
        ({"fails": "chat", "fails_after": 3}, "gave no reply"),
        ({"fails": "both"}, "the stub gives no answer"),
        ({"reply": "I will not say"}, "gave no usable reply"),
    ],
)
@pytest.mark.parametrize("make", [looped, in_one])
def test_a_judge_that_fails_ends_with_the_best_picture_and_a_warning(comfy, make, script, says):
    prompt = make(127, script=script | {"words": str(script)}, rounds=4, strategy="clvr")
    with comfy.listening() as heard:
        entry, _ = begun(comfy, prompt)
    words = SAY if make is looped else "4"
    summary = "".join(entry["outputs"][words]["text"])
    assert "\nwarning: " in summary and says in summary
    assert entry["outputs"][SAVE if make is looped else "3"]["images"]
    node = END if make is looped else "2"
    assert any(line["text"] == [node, summary] for line in heard if "text" in line), "it is on the node of the loop too"
