"""A run whose canvas is deep: the controller is shown the clean source and told to start from it."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from clvr_core.brief import Budget
from clvr_core.protocols import DrawRequest
from clvr_core.run.conditioning import anew_if_too_long
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, drive, resume
from clvr_core.trajectory import Action
from tests.fakes import FakeExecutor
from tests.run.script import asked, edit, generate, play, scripted, seen

DEEP = [generate(), edit("add a cat"), edit("add a moon")]
"""Two edits, the second of the first."""
SEEN = {0: "muuu", 1: "mmuu", 2: "mmmu"}
LIMIT = Budget(rounds=4, depth=2, patience=9, tolerance=None)


def run(last, found: str, budget: Budget = LIMIT, **fields):
    vlm, executor = scripted([*DEEP, last], {**SEEN, 3: found}, goals=4), FakeExecutor()
    return play(vlm, executor, budget=budget, **fields), vlm, executor


def test_the_edit_at_the_limit_starts_from_the_clean_canvas():
    trajectory, vlm, executor = run(edit("add a cat, a moon and a dog", 0), "mmmm")
    assert seen(executor) == [(), (0,), (1,), (0,)] and trajectory.outcome.canvas == 3
    text = asked(vlm, "action")[-1].text
    assert "Canvas 2 is 2 edits away from canvas 0" in text and '"add a cat"\n- "add a moon"' in text
    assert re.search(r"This step is to serve:\n- g2: .+\n- g3: .+\n- g4: ", text)
    assert "edited 2 times since it was clean" in text and asked(vlm, "action")[-1].data["source"] == 0


def test_an_edit_from_another_canvas_is_refused_and_asked_for_again():
    vlm = scripted([*DEEP, edit("add a dog", 2), edit("add all", 0)], {**SEEN, 3: "mmmm"}, goals=4)
    executor = FakeExecutor()
    play(vlm, executor, budget=LIMIT)
    assert seen(executor)[-1] == (0,) and "must start from canvas 0" in vlm.chats[-1].text


def test_without_an_action_the_goals_are_asked_of_the_clean_canvas():
    vlm, executor = scripted([*DEEP, "no", "no"], {**SEEN, 3: "mmmm"}, goals=4), FakeExecutor()
    trajectory = play(vlm, executor, budget=LIMIT)
    assert seen(executor)[-1] == (0,) and trajectory.steps[-1].action.goals == ("g2", "g3", "g4")
    assert all(f"thing {number}" in executor.requests[-1].prompt for number in (2, 3, 4))


def test_a_canvas_that_is_as_good_and_less_deep_is_handed_over():
    trajectory, *_ = run(edit("add a cat and a moon", 0), "mmmu")
    assert trajectory.steps[-1].ruling == "less edited" and trajectory.outcome.canvas == 3


def test_without_a_limit_the_controller_is_asked_in_the_words_of_before():
    _, vlm, executor = run(edit("add a dog"), "mmmm", Budget(rounds=4, patience=9, tolerance=None))
    assert seen(executor)[-1] == (2,)
    assert not any(
        "since it was clean" in message.text or "edits away" in message.text for message in asked(vlm, "action")
    )


def test_a_source_that_is_no_longer_offered_is_shown_too():
    actions = [generate(), *(edit(f"add {number}") for number in range(6)), edit("all", 0)]
    canvases = {number: "m" * (number + 1) + "u" * (8 - number) for number in range(8)}
    vlm, executor = scripted(actions, canvases, goals=9), FakeExecutor()
    play(vlm, executor, budget=Budget(rounds=8, depth=6, tolerance=None))
    assert seen(executor)[-1] == (0,) and len(asked(vlm, "action")[-1].images) == 5


def test_a_trace_names_only_the_steps_that_the_clean_canvas_shows():
    _, _, executor = run(edit("add all", 0), "mmmm", conditioning="trace")
    assert "I add a cat" in executor.requests[2].prompt
    assert "I add a cat" not in executor.requests[3].prompt and "I paint a barn" in executor.requests[3].prompt


def test_a_run_cut_before_its_restart_goes_on_to_the_same_end(tmp_path):
    last = edit("add a cat, a moon and a dog", 0)
    vlm, executor = scripted([*DEEP, last], {**SEEN, 3: "mmmm"}, goals=4), FakeExecutor()
    whole = play(vlm, executor, RunFolder.create(tmp_path / "whole"), budget=LIMIT)
    journal = (tmp_path / "whole" / "trajectory.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(place for place, line in enumerate(journal) if b"a moon and a dog" in line) + 1
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "trajectory.jsonl").write_bytes(b"".join(journal[:cut]))
    for picture in (tmp_path / "whole").glob("canvas-*.png"):
        (tmp_path / "cut" / picture.name).write_bytes(picture.read_bytes())
    again = scripted([], {3: "mmmm"}, goals=4)
    found = drive(resume(RunFolder.open(tmp_path / "cut"), RunModels(again, FakeExecutor([executor_picture(4)]))))
    assert found.outcome == whole.outcome and [step.action for step in found.steps] == [s.action for s in whole.steps]


def executor_picture(number: int):
    """The picture that FakeExecutor draws at its request of this number."""
    executor = FakeExecutor()
    return executor.draw([DrawRequest("any", 0, width=8, height=8)] * number)[-1].picture


@pytest.mark.parametrize(
    ("words", "scene", "allowed", "kind"),
    [
        ("one two", "a scene", ("EDIT", "GENERATE"), "EDIT"),
        ("one two three four", "a scene", ("EDIT", "GENERATE"), "GENERATE"),
        ("one two three four", "a scene", ("EDIT",), "EDIT"),
        ("one two three four", "", ("EDIT", "GENERATE"), "EDIT"),
        ("one two three four", "a scene of four words and more", ("EDIT", "GENERATE"), "EDIT"),
    ],
)
def test_a_merged_instruction_beyond_the_window_becomes_a_new_scene_if_it_may(words, scene, allowed, kind):
    window = SimpleNamespace(window=3, tokens=lambda text: len(text.split()))
    action = Action("EDIT", edit_prompt=words, scene_prompt=scene, references=(0,))
    found, warnings = anew_if_too_long(action, allowed, window)
    assert found.kind == kind and bool(warnings) == (kind == "GENERATE") and found.draws
    assert found.references == (() if kind == "GENERATE" else (0,))
