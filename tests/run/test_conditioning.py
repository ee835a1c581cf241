"""Which words the executor is given, by mode."""

from __future__ import annotations

import pytest

from clvr_core.brief import Brief
from clvr_core.run.conditioning import shorten_to_window
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.trajectory import Action
from tests.fakes import FakeExecutor, FakeVlm, step, trajectory

MODES = ("proxy", "instruction", "summary", "trace")
EDIT = Action("EDIT", "The cat is missing.", "a barn and a cat", "add a cat")
GENERATE = Action("GENERATE", "I start over.", "a barn, whole", "not read")


def prompt_for(trajectory, action) -> str:
    """The prompt for an executor without a window."""
    prompt, warning = shorten_to_window(trajectory, action, None)
    assert warning == ""
    return prompt


def run(mode: str, steps: bool = True):
    told = (
        step("GENERATE", 0, summary="I set the barn.", scene_prompt="a barn", edit_prompt="not read"),
        step("EDIT", 1, accepted=False, summary="I failed.", edit_prompt="add a dog"),
        step("VALIDATE", summary="I look again."),
        step("END", accepted=False, summary="I am done."),
        step("EDIT", 2, edit_prompt="paint it red", scene_prompt="not read"),
    )
    return trajectory(*(told if steps else ()), brief=Brief("a red barn with a cat", conditioning=mode))


def test_proxy_is_the_scene_or_the_instruction_alone():
    assert prompt_for(run("proxy"), GENERATE) == "a barn, whole"
    assert prompt_for(run("proxy"), EDIT) == "add a cat"


def test_instruction_is_the_brief_and_the_instruction():
    assert prompt_for(run("instruction"), EDIT) == "a red barn with a cat\nStep 1: add a cat"
    assert prompt_for(run("instruction"), GENERATE) == "a red barn with a cat\nStep 1: a barn, whole"


def test_summary_tells_the_kept_steps_by_their_summaries_or_their_words_where_there_is_none():
    assert (
        prompt_for(run("summary"), EDIT)
        == "a red barn with a cat\nStep 1: I set the barn.\nStep 2: paint it red\nStep 3: add a cat"
    )


def test_trace_tells_the_kept_steps_with_every_prompt():
    assert prompt_for(run("trace"), EDIT) == (
        "a red barn with a cat\nStep 1: I set the barn. a barn\nStep 2: paint it red\nStep 3: The cat is missing. add a cat"
    )


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_tells_what_was_rolled_back_or_not_drawn(mode):
    told = prompt_for(run(mode), EDIT)
    assert not any(words in told for words in ("dog", "failed", "look again", "done", "not read"))


@pytest.mark.parametrize("mode", MODES)
def test_the_instruction_stands_last_and_whole(mode):
    long = Action("EDIT", edit_prompt="add a cat " * 200)
    assert prompt_for(run(mode), long).endswith(long.edit_prompt)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("steps", [True, False], ids=["after steps", "at first"])
def test_one_shot_of_the_briefs_own_words_is_the_brief_alone(mode, steps):
    own = Action("GENERATE", "One shot of the whole brief.", "a red barn with a cat")
    assert prompt_for(run(mode, steps), own) == "a red barn with a cat"


class Short:
    """Reads so many words."""

    def __init__(self, window: int) -> None:
        self.window = window

    def tokens(self, prompt: str) -> int:
        return len(prompt.split())


@pytest.mark.parametrize("mode", MODES)
def test_what_fits_is_told_whole_and_without_a_word(mode):
    assert (
        shorten_to_window(run(mode), EDIT, Short(100))
        == shorten_to_window(run(mode), EDIT, None)
        == (prompt_for(run(mode), EDIT), "")
    )


@pytest.mark.parametrize(
    ("window", "text", "lost"),
    [
        (27, "a red barn with a cat\nStep 2: paint it red\nStep 3: The cat is missing. add a cat", "step 1"),
        (19, "a red barn with a cat\nStep 3: The cat is missing. add a cat", "step 1, step 2"),
        (14, "a red barn with a cat\nStep 3: add a cat", "step 1, step 2, the summary of this step"),
        (10, "add a cat", "step 1, step 2, the summary of this step, the brief"),
        (2, "add a", "step 1, step 2, the summary of this step, the brief, its last 1 words"),
    ],
)
def test_what_does_not_fit_is_shortened_from_the_oldest_on_and_said(window, text, lost):
    whole = len(prompt_for(run("trace"), EDIT).split())
    said = f"the prompt for the executor has {whole} tokens and its text encoder reads {window}; left out: {lost}"
    assert shorten_to_window(run("trace"), EDIT, Short(window)) == (text, said)


def test_the_words_of_the_action_are_cut_only_where_they_alone_are_too_long():
    long = Action("GENERATE", scene_prompt="one two  three,\nfour five")
    assert shorten_to_window(run("proxy"), long, Short(4))[0] == "one two  three,\nfour"
    assert shorten_to_window(run("proxy"), long, Short(4))[1].endswith("left out: its last 1 words")


def test_a_run_says_it_in_its_warnings():
    class Narrow(FakeExecutor):
        window = 4

        def tokens(self, prompt: str) -> int:
            return len(prompt.split())

    executor = Narrow()
    vlm = FakeVlm(['{"goals": []}'] * 2, lambda images, questions: [0.9])
    trajectory = drive(Session(Brief("a red barn with a cat", strategy="oneshot"), RunModels(vlm, executor)))
    assert executor.requests[0].prompt == "a red barn with"
    assert trajectory.warnings[-1] == (
        "step 0: the prompt for the executor has 6 tokens and its text encoder reads 4; left out: its last 2 words"
    )
