"""The controller in one conversation: it grows by appending alone, is made of the record, and begins anew where it must."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.policy import LOOPS
from clvr_core.protocols import ChatWindow, Decision, Message, Picture, Question, Reply
from clvr_core.records import from_json, to_json
from clvr_core.run.memory_folder import MemoryFolder
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from clvr_core.stickers import neural
from clvr_core.stickers.neural import NeuralVlm
from clvr_core.trajectory import Trajectory
from clvr_core.vlm.local import Local, LocalVlm, load_local
from tests.fakes import FakeExecutor, FakeVlm
from tests.run.script import END, a_brief, canvas_of, edit, generate, scripted
from tests.stickers.untrained import save_untrained

ACTIONS = [
    generate(goals=["g1"]),
    edit("add a cat", 0, goals=["g2"]),
    edit("paint a cat", goals=["g2"]),
    END,
    edit("hang a moon", goals=["g3"], region=[0.5, 0.0, 1.0, 0.5]),
]
SEEN = {0: "muu", 1: "uuu", 2: "mmu", 3: "mmm"}
"""The first edit is rolled back, the END refused."""


def play(vlm, folder=None, executor=None, **brief) -> Trajectory:
    brief = {"conversation": True, "budget": Budget(tolerance=None), **brief}
    return drive(Session(a_brief(**brief), RunModels(vlm, executor or FakeExecutor()), folder))


def requests(vlm: FakeVlm) -> list[tuple[Message, ...]]:
    return [chat.messages for chat in vlm.chats if chat.messages[-1].data.get("task") == "action"]


def as_said(messages: Sequence[Message]) -> list[tuple[str, str, list[bytes]]]:
    return [(each.role, each.text, [picture.tobytes() for picture in each.images]) for each in messages]


@pytest.fixture(scope="module")
def told() -> tuple[FakeVlm, Trajectory]:
    vlm = scripted(ACTIONS, SEEN)
    return vlm, play(vlm)


def test_each_request_begins_with_all_that_was_said_before(told):
    vlm, run = told
    said = [as_said(messages) for messages in requests(vlm)]
    assert run.outcome.met and [len(messages) for messages in said] == [2, 4, 6, 8, 10]
    for before, after in pairwise(said):
        assert after[: len(before)] == before
        assert [role for role, *_ in after[len(before) :]] == ["assistant", "user"]


def test_only_what_is_new_is_said(told):
    """A step that was rolled back stays as it was told, and each canvas is shown once."""
    vlm, _ = told
    _, first, *rest = requests(vlm)[-1]
    turns = rest[1::2]
    assert first.text.count("GENERATE: a new picture") == 1 and "thing 3" in first.text
    assert [list(map(canvas_of, turn.images)) for turn in turns] == [[0], [], [2], []]
    assert "gave canvas 0" in turns[0].text and "- g2: does not hold" in turns[0].text
    assert "Rolled back: rolled back: lost g1" in turns[1].text and "holds" not in turns[1].text
    assert "END refused" in turns[3].text and turns[3].text.endswith("one of GENERATE, EDIT, END.")
    assert "EDIT: change a canvas" in turns[0].text and all("change a canvas" not in turn.text for turn in turns[1:])
    assert all("<brief>" not in turn.text and "fixed for the whole run" not in turn.text for turn in turns)


def test_replies_are_told_as_compact_json_in_the_order_of_the_schema(told):
    vlm, run = told
    replies = [message.text for message in requests(vlm)[-1] if message.role == "assistant"]
    assert [json.loads(text)["kind"] for text in replies] == ["GENERATE", "EDIT", "EDIT", "END"]
    schema = vlm.chats[-1].schema
    for text in replies:
        assert list(json.loads(text)) == list(schema["properties"])
        assert text == json.dumps(json.loads(text), separators=(",", ":"))
    last = run.steps[-1].exchanges[-1]
    assert json.loads(last.replied)["region"] == [0.5, 0.0, 1.0, 0.5] and not last.begins


def test_the_record_says_which_form_was_used(told):
    _, run = told
    assert run.brief.conversation and all(len(step.exchanges) == 1 for step in run.steps)
    assert [step.exchanges[0].begins for step in run.steps] == [True, *[False] * 4]
    assert [step.exchanges[0].canvases for step in run.steps] == [(), (0,), (), (2,), ()]
    assert from_json(Trajectory, to_json(run)) == run
    alone = play(scripted(ACTIONS, SEEN), conversation=False)
    assert not alone.brief.conversation and not any(step.exchanges for step in alone.steps)


@pytest.mark.parametrize("place", range(1, 5))
def test_a_resumed_run_goes_on_with_the_same_messages(told, tmp_path, place):
    """The run is ended by its controller at each request in turn, and gone on with by one that knows only the rest."""
    vlm, whole = told

    class Gone(Exception):
        pass

    executor = FakeExecutor()
    with pytest.raises(Gone):
        play(scripted([*ACTIONS[:place], Gone()], SEEN), RunFolder.create(tmp_path / "run"), executor)
    later = scripted(ACTIONS[place:], SEEN)
    run = drive(resume(RunFolder.open(tmp_path / "run"), RunModels(later, executor)))
    assert [as_said(each) for each in requests(later)] == [as_said(each) for each in requests(vlm)[place:]]
    assert [step.exchanges for step in run.steps] == [step.exchanges for step in whole.steps]


class Windowed(FakeVlm):
    """Has no room for a conversation of more than some requests."""

    most = 3

    def room(self, messages: Sequence[Message]) -> int | None:
        users = sum(message.role == "user" for message in messages)
        return 100 if users <= self.most else -250


def test_a_conversation_that_no_longer_fits_begins_anew_and_the_run_says_so():
    plain = scripted(ACTIONS, SEEN)
    vlm = Windowed(plain._replies, plain._decisions)
    assert isinstance(vlm, ChatWindow)
    run = play(vlm)
    assert [len(messages) for messages in requests(vlm)] == [2, 4, 6, 2, 4]
    fresh = requests(vlm)[3][-1]
    assert "What I tried and had to take back" in fresh.text and "My steps so far" in fresh.text
    assert [canvas_of(image) for image in fresh.images] == [2, 0]
    assert [each for each in run.warnings if "begins" in each] == [
        "step 3: the conversation has no more room in the window of fake-vlm, by 250 tokens; a new one begins, with a summary "
        "of the run"
    ]
    assert [step.exchanges[0].begins for step in run.steps] == [True, False, False, True, False]


def test_a_request_that_a_server_does_not_answer_is_made_anew_without_the_conversation():
    gone = [JudgeFailure("400: the prompt is longer than the window")] * 2
    vlm = scripted([*ACTIONS[:2], *gone, *ACTIONS[2:]], SEEN)
    run = play(vlm)
    assert run.outcome.met and [len(messages) for messages in requests(vlm)] == [2, 4, 6, 6, 2, 4, 6]
    (warning,) = [each for each in run.warnings if "begins" in each]
    assert "the conversation of 3 requests was not answered" in warning and "longer than the window" in warning
    assert run.steps[2].cost.vlm_calls >= 3


def test_where_no_reply_is_usable_the_conversation_says_what_was_done_instead():
    vlm = scripted([*ACTIONS[:1], *["prose"] * 4, *ACTIONS[2:]], {0: "muu", 1: "mmu", 2: "mmm"})
    run = play(vlm)
    (exchange,) = run.steps[1].exchanges
    assert exchange.begins and "gave no action" in json.loads(exchange.replied)["summary"]
    assert json.loads(exchange.replied)["edit_prompt"] == run.steps[1].action.edit_prompt
    assert requests(vlm)[-1][2].text == exchange.replied


def test_a_contradiction_is_said_in_the_conversation(tmp_path):
    again = edit("add a white cat", goals=["g2"])
    vlm = scripted(
        [*ACTIONS[:1], edit("add a dog", goals=["g2"]), again, *ACTIONS[2:]],
        {0: "muu", 1: "mmu", 2: "mmm"},
        inspections=[0.1, 0.9, *[0.1] * 8],
    )
    run = play(vlm, RunFolder.create(tmp_path / "run"), strategy="strokes")
    first, second = run.steps[1].exchanges
    assert json.loads(first.replied)["edit_prompt"] == "add a dog" and "contradicts it: add a dog" in second.asked
    assert "What came of it" in first.asked and "What came of it" not in second.asked and not second.canvases
    assert json.loads(second.replied)["edit_prompt"] == "add a white cat"
    for before, after in pairwise(map(as_said, requests(vlm))):
        assert after[: len(before)] == before


def test_an_action_that_was_just_tried_is_refused_in_the_conversation():
    same = edit("add a cat", 0, goals=["g2"])
    vlm = scripted([*ACTIONS[:2], same, *ACTIONS[2:]], SEEN)
    run = play(vlm, guided=True)
    first, second = run.steps[2].exchanges
    assert (
        json.loads(first.replied)["edit_prompt"] == "add a cat"
        and "What you have just chosen was tried" in second.asked
    )
    for before, after in pairwise(map(as_said, requests(vlm))):
        assert after[: len(before)] == before


def test_fused_replies_and_a_conversation_exclude_each_other():
    with pytest.raises(BadInput, match="fused and conversation are both on"):
        Brief("a barn", fused=True, conversation=True)


class Blanked:
    """Hands on the words and pictures alone."""

    def __init__(self, vlm) -> None:
        self._vlm, self.name = vlm, vlm.name

    def chat(self, messages, schema) -> Reply:
        return self._vlm.chat([Message(each.role, each.text, each.images) for each in messages], schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        return self._vlm.decide(images, [Question(each.text) for each in questions])


@pytest.fixture(scope="module")
def reads(tmp_path_factory) -> Iterator[LocalVlm]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = save_untrained(tmp_path_factory.mktemp("model") / "vlm")
    yield load_local(Local(str(folder), "cpu", "float32", image_side=192, max_tokens=12))
    torch.set_num_threads(before)


@pytest.fixture
def embedded(reads, monkeypatch) -> NeuralVlm:
    """The embedded controller and judge as it is loaded, on the same weights."""
    monkeypatch.setattr(neural, "LONGEST", reads.settings.max_tokens)
    return NeuralVlm(Path(reads.settings.folder))


class Beside:
    """Reads each request with a real model and answers by a script. read: tokens that went through the model, and those
    of the prompt, a request each."""

    def __init__(self, vlm, script: FakeVlm) -> None:
        self.vlm, self.script, self.name = vlm, script, vlm.name
        self.read: list[tuple[int, int]] = []

    def chat(self, messages, schema) -> Reply:
        if messages[-1].data["task"] == "action":
            passed, forward = [], self.vlm.model.forward

            def counted(*given, **named):
                passed.append(named["input_ids"].shape[1])
                return forward(*given, **named)

            self.vlm.model.forward = counted
            try:
                self.vlm.chat(messages, schema)
            finally:
                del self.vlm.model.forward
            self.read.append((passed[0], len(self.vlm._prompter.prompt(self.vlm._turns(messages)))))
        return self.script.chat(messages, schema)

    def decide(self, images, questions):
        return self.script.decide(images, questions)


@pytest.mark.parametrize("conversation", [True, False])
def test_the_prefix_cache_reads_only_what_is_new_of_a_conversation(reads, conversation):
    vlm = Beside(reads, scripted(ACTIONS, SEEN))
    reads._reader.forget()
    play(vlm, conversation=conversation)
    prompts = [prompt for _, prompt in vlm.read]
    fresh = [read for read, _ in vlm.read]
    assert fresh[0] == prompts[0]
    grown = [after - before for before, after in pairwise(prompts)]
    if conversation:
        # At most what was appended; the beginning of the reply was generated already.
        assert all(read <= new for new, read in zip(grown, fresh[1:]))
    else:
        assert any(read > new + 100 for new, read in zip(grown, fresh[1:]))


def test_a_model_in_this_process_knows_what_room_is_left(reads, embedded):
    few = (Message("user", "What is this?", (np.zeros((64, 64, 3), np.uint8),)),)
    many = (*few, Message("assistant", "A thing."), replace(few[0], text="And this?"))
    assert isinstance(reads, ChatWindow)
    first, second = reads.room(few), reads.room(many)
    assert first is not None and second is not None and second < first
    longest = reads.model.config.get_text_config().max_position_embeddings
    assert first < longest - reads.settings.max_tokens
    assert reads.room((Message("user", "word " * longest),)) < 0
    assert isinstance(embedded, ChatWindow) and embedded.room(few) == first


@pytest.mark.parametrize("strategy", LOOPS)
@pytest.mark.parametrize("conversation", [True, False])
def test_nothing_changes_where_the_structured_side_is_blanked(embedded, strategy, conversation):
    """A model that reads words and looks at pictures gives the same run without Message.data and Question.data. Its weights
    are random, so the run is a poor one; what counts is that it is the same."""

    def run(vlm) -> Trajectory:
        budget = Budget(rounds=2, patience=2, tolerance=None)
        brief = Brief("a cat", strategy, width=32, height=32, conversation=conversation, candidates=1, budget=budget)
        return drive(Session(brief, RunModels(vlm, FakeExecutor()), MemoryFolder()))

    said, blank = run(embedded), run(Blanked(embedded))
    timeless = lambda steps: [replace(each, cost=replace(each.cost, seconds={})) for each in steps]  # noqa: E731
    assert said.steps and timeless(said.steps) == timeless(blank.steps)
    assert (said.goals, said.outcome, said.warnings) == (blank.goals, blank.outcome, blank.warnings)


def test_the_controller_that_is_a_program_chooses_the_same_in_a_conversation_as_without():
    """Each canvas is shown once in it, so that what a request offers stands in earlier messages too."""
    from clvr_core.stickers.judge import StickersVlm
    from clvr_core.stickers.scene import CANVAS
    from clvr_core.stickers.simulated import Rates, SimulatedExecutor, perceive

    prompt = "three green cars, two small red cats in the top row, a pink cow above a large banana, a blue dog"
    executor, exact = SimulatedExecutor(Rates(thing=0.2, edit=0.4)), StickersVlm(read=perceive)
    judges = [StickersVlm(0.05, 6, "correlated", read=perceive) for _ in range(2)]
    runs = [
        drive(
            Session(
                Brief(prompt, "clvr", 4, CANVAS, CANVAS, Budget(8, patience=3), conversation=conversation),
                RunModels(exact, executor, judge=judge),
            )
        )
        for conversation, judge in zip((True, False), judges)
    ]
    told = [exchange for step in runs[0].steps for exchange in step.exchanges]
    assert [exchange.begins for exchange in told] == [True, *[False] * (len(told) - 1)] and len(told) > 2
    assert [step.action for step in runs[0].steps] == [step.action for step in runs[1].steps]
