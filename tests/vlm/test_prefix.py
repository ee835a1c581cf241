"""What is not read again must give the same logits as a fresh reading by transformers itself, whatever stands between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from clvr_core.vlm.local import LocalVlm
from clvr_core.vlm.prefix import Reader, Run
from clvr_core.vlm.prompt import Prompt, Prompter, Turn
from tests.vlm.tiny import HERE

EQUAL = 1e-5
COLORS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (30, 60, 220), "grey": (128, 128, 128)}


def picture(color: str, width: int = 64, height: int = 64) -> Image.Image:
    """A disc: flat pictures would leave the places of their patches untested."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - height / 3) ** 2 + (columns - width / 2) ** 2 < (height / 4) ** 2
    return Image.fromarray(np.where(inside[..., None], COLORS[color], 255).astype(np.uint8))


def user(*parts: str | Image.Image) -> Turn:
    return Turn("user", parts)


def said(text: str) -> Turn:
    return Turn("assistant", (text,))


SYSTEM = Turn(
    "system", ("You direct the making of one picture and answer in JSON, whatever else is said to you by anyone.",)
)


@dataclass
class Passes:
    """What went through the model since it was last asked."""

    tokens: list[int]
    pictures: list[int]

    def taken(self) -> tuple[int, int]:
        found = sum(self.tokens), sum(self.pictures)
        self.tokens.clear()
        self.pictures.clear()
        return found


@pytest.fixture(params=HERE)
def vlm(request, loaded) -> LocalVlm:
    return loaded[request.param]


@pytest.fixture
def passes(vlm) -> Passes:
    passes = Passes([], [])
    language = vlm.model.model.language_model
    visual = getattr(vlm.model.model, "visual", None) or vlm.model.model.vision_tower
    hooks = [
        language.register_forward_pre_hook(
            lambda _, args, named: passes.tokens.append(named["inputs_embeds"].shape[1]), with_kwargs=True
        ),
        visual.register_forward_pre_hook(
            lambda _, args, named: passes.pictures.append(_pictures(named)), with_kwargs=True
        ),
    ]
    yield passes
    for hook in hooks:
        hook.remove()


qwens = pytest.mark.parametrize("vlm", [name for name in HERE if name != "gemma3"], indirect=True)
"""Where a picture's tokens see each other, as in Gemma, a prompt with a new picture is read from its beginning."""


def _pictures(named: dict[str, torch.Tensor]) -> int:
    return len(named["grid_thw"] if "grid_thw" in named else named["pixel_values"])


class Talk:
    """Reads prompts with one reader and holds every reading against a fresh one."""

    def __init__(self, vlm: LocalVlm, passes: Passes, kept: int = 12_288) -> None:
        self.vlm, self.passes = vlm, passes
        self.prompter, self.reader = Prompter(vlm.model, vlm.processor), Reader(vlm.model, kept=kept)

    def fresh(self, turns: Sequence[Turn]) -> torch.Tensor:
        """By the model's own computation of positions, with nothing remembered."""
        images = [part for turn in turns for part in turn.parts if not isinstance(part, str)]
        inputs = self.vlm.processor(text=[self.prompter.text(turns)], images=images or None, return_tensors="pt")
        with torch.inference_mode():
            return self.vlm.model(**inputs).logits[0, -1].float()

    def read(self, *turns: Turn, finish: Callable[[Run], None] | None = None) -> tuple[int, int]:
        """Tokens and pictures that went through the model."""
        self.passes.taken()
        prompt = self.prompter.prompt(turns)
        with torch.inference_mode():
            run = self.reader.read(prompt)
            spent = self.passes.taken()
            assert run.keys == list(prompt.keys) and run.cache.get_seq_length() == len(prompt)
            logits = run.logits.clone()
            (finish or self.reader.finish)(run)
        apart = float((logits - self.fresh(turns)).abs().max())
        # What float32 rounds off grows with the numbers.
        assert apart < EQUAL * max(1.0, float(logits.abs().max()) / 5), apart
        return spent

    def answer(self, run: Run) -> None:
        """Writes a few tokens, as a reply does, in two passes."""
        for text in ("the sky", ' is missing"}'):
            self.reader.extend(run, self.vlm.processor.tokenizer(text)["input_ids"])
        self.reader.finish(run)

    def length(self, *turns: Turn) -> int:
        return len(self.prompter.prompt(turns))


@pytest.fixture
def talk(vlm, passes) -> Talk:
    return Talk(vlm, passes)


FIRST = (SYSTEM, user("Two red discs. Canvas:", picture("red"), "before:", picture("grey", 96, 64), "What next?"))
SECOND = (*FIRST, said("the sky is missing"), user("Now:", picture("green", 64, 96), "What next?"))
THIRD = (*SECOND, said("more light"), user("Now:", picture("blue"), "and", picture("red"), "What next?"))


def test_a_fresh_prompt_is_read_whole(talk):
    assert talk.read(*FIRST) == (talk.length(*FIRST), 2)


@qwens
def test_a_growing_conversation_reads_only_what_is_new_with_its_new_pictures(talk):
    talk.read(*FIRST, finish=talk.answer)
    tokens, pictures = talk.read(*SECOND, finish=talk.answer)
    # What was said came after the beginning of a reply, so only that is shared with how the template writes it again.
    assert pictures == 1 and tokens <= talk.length(*SECOND) - talk.length(*FIRST)
    tokens, pictures = talk.read(*THIRD)
    assert pictures == 2 and tokens <= talk.length(*THIRD) - talk.length(*SECOND)


def test_the_same_prompt_again_costs_no_picture(talk):
    talk.read(*FIRST)
    tokens, pictures = talk.read(*FIRST)
    assert (tokens, pictures) == (0, 0)
    talk.read(*FIRST, finish=talk.answer)
    assert talk.read(*FIRST) == (1 if talk.reader.croppable else 0, 0)


def test_another_picture_of_the_same_size_is_not_taken_for_the_first(talk):
    talk.read(SYSTEM, user(picture("red"), "Is it red?"))
    one, other = (talk.prompter.prompt([user(picture(color))]) for color in ("red", "blue"))
    assert torch.equal(one.ids, other.ids), "the trap: their tokens are the same"
    _, pictures = talk.read(SYSTEM, user(picture("blue"), "Is it red?"))
    assert pictures == 1


def test_of_several_pictures_only_those_from_the_first_change_on_are_read(talk):
    talk.read(SYSTEM, user(picture("red"), picture("grey"), "a"))
    if talk.reader.croppable:
        assert talk.read(SYSTEM, user(picture("red"), picture("green"), "a"))[1] == 1
    assert talk.read(SYSTEM, user(picture("blue"), picture("green"), "a"))[1] == 2


@qwens
def test_two_conversations_on_one_model_do_not_disturb_each_other(talk):
    other = (
        SYSTEM,
        user("Three cubes.", picture("blue", 128, 64), picture("blue", 64, 128), picture("green"), "What next?"),
    )
    talk.read(*FIRST, finish=talk.answer)
    talk.read(*other, finish=talk.answer)
    spent = talk.read(*FIRST, said("ok"), user("No picture this time."))
    assert spent[1] == 0 and spent[0] < talk.length(*FIRST) / 2
    assert talk.read(*other, said("ok"), user("Nor here."))[1] == 0
    assert talk.read(*FIRST, said("ok"), user("No picture this time."), said("fine"), user(picture("red")))[1] == 1


@pytest.mark.parametrize("vlm", ["gemma3"], indirect=True)
def test_pictures_that_see_each_other_are_read_from_the_beginning_and_right(talk):
    other = (SYSTEM, user("Three cubes.", picture("blue"), picture("green"), "What next?"))
    for turns in (FIRST, other, SECOND, THIRD, other, FIRST):
        shown = sum(not isinstance(part, str) for turn in turns for part in turn.parts)
        assert talk.read(*turns, finish=talk.answer)[1] in (0, shown)
    assert talk.read(*FIRST, said("ok"), user("No picture this time."))[1] == 0, "nothing new to see"


@qwens
def test_without_explicit_positions_an_interleaved_conversation_would_be_read_wrong(talk):
    """The trap itself: should transformers mend it, this says that the positions need no longer be given."""
    talk.prompter.prompt(FIRST)
    tail = (*FIRST, said("ok"), user("No picture this time."))
    prompt, whole = talk.prompter.prompt(FIRST), talk.prompter.prompt(tail)
    with torch.inference_mode():
        run = talk.reader.read(prompt)
        shared = len(prompt)
        talk.fresh((SYSTEM, user(picture("blue", 128, 128), picture("blue", 128, 128), "?")))
        inputs = whole.part(shared, len(whole))
        given = inputs.pop("position_ids")
        assert given.shape[0] == 3
        wrong = talk.vlm.model(**inputs, past_key_values=run.cache, use_cache=True).logits[0, -1].float()
    assert float((wrong - talk.fresh(tail)).abs().max()) > 100 * EQUAL


def test_a_cache_that_cannot_be_cut_is_known_as_such(vlm, talk):
    with torch.inference_mode():
        run = talk.reader.read(talk.prompter.prompt(FIRST))
        if vlm.name == "qwen3-vl":
            assert talk.reader.croppable
            run.cache.crop(-1)
        else:
            assert not talk.reader.croppable
        if vlm.name == "qwen3.5":
            with pytest.raises(RuntimeError):
                run.cache.crop(-1)


@pytest.mark.parametrize("vlm", ["qwen3-vl"], indirect=True)
def test_all_the_pictures_with_a_cache_that_holds_some_are_refused_by_transformers(talk):
    """The trap itself: only the new ones may be given."""
    prompt, whole = talk.prompter.prompt(FIRST), talk.prompter.prompt(SECOND)
    with torch.inference_mode():
        run = talk.reader.read(prompt)
        inputs = whole.part(len(prompt), len(whole))
        assert len(inputs["image_grid_thw"]) == 1
        with pytest.raises(ValueError, match=r"[Ii]mage features and image tokens"):
            talk.vlm.model(**inputs | whole.pictures, past_key_values=run.cache, use_cache=True)


@qwens
def test_prompts_that_depart_from_each_other_midway_share_what_stands_before(talk):
    """As the controller's do from round to round. A cache that cannot be cut is kept at the place from the second such prompt on."""
    begin = (
        "The goals, fixed for the whole run: a red disc, a grey disc, nothing else in the picture. My steps so far: "
    )
    rounds = [
        (SYSTEM, user(f"{begin}{steps}", picture(color)))
        for steps, color in (("one", "red"), ("two", "blue"), ("three", "green"))
    ]
    shared = talk.length(SYSTEM, user(begin))
    spent = [talk.read(*turns, finish=talk.answer) for turns in rounds]
    assert [pictures for _, pictures in spent] == [1, 1, 1]
    assert spent[2][0] < talk.length(*rounds[2]) - shared + 16
    assert (spent[1][0] < talk.length(*rounds[1]) - shared + 16) == talk.reader.croppable


def test_a_short_common_beginning_does_not_cost_a_conversation_its_memory(talk):
    talk.read(*FIRST)
    talk.read(SYSTEM, user("Something else."))
    assert talk.read(*FIRST, said("ok"), user("Go on."))[1] == 0


def test_a_cut_is_never_made_within_a_picture(talk):
    prompt = talk.prompter.prompt(FIRST)
    for first, end in prompt.spans:
        assert end - first > 2
        assert [prompt.whole(length) for length in (first, first + 1, end - 1, end)] == [first, first, first, end]


@pytest.mark.parametrize("kept", [0, 150, 400])
def test_no_more_is_kept_than_was_allowed_but_always_the_last(vlm, passes, kept):
    talk = Talk(vlm, passes, kept=kept)
    for color in COLORS:
        talk.read(SYSTEM, user(color, picture(color)))
        held = [len(run.keys) for run in talk.reader._runs]
        assert held and (sum(held) <= kept or len(held) == 1)
    assert talk.read(SYSTEM, user("grey", picture("grey")))[1] == 0
    talk.reader.forget()
    assert talk.read(SYSTEM, user("grey", picture("grey")))[1] == 1


def test_a_run_that_was_stopped_leaves_nothing_wrong_behind(talk):
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    talk.read(*FIRST)
    talk.reader.check = stop
    with pytest.raises(Stopped):
        talk.read(*SECOND)
    talk.reader.check = lambda: None
    talk.read(*SECOND)


def test_continuations_are_each_as_if_alone_and_leave_the_run_as_it_was(talk):
    encode = talk.vlm.processor.tokenizer
    begin = talk.prompter.prompt(FIRST)
    tails = [encode("a" * (1 + 3 * index) + "?")["input_ids"] for index in range(11)]
    with torch.inference_mode():
        run = talk.reader.read(begin)
        found = talk.reader.continuations(run, tails)
        length = run.cache.get_seq_length()
        alone = []
        for tail in tails:
            copy = Reader(talk.vlm.model)
            each = copy.read(begin)
            copy.extend(each, tail)
            alone.append(each.logits)
    assert length == len(begin) and run.keys == list(begin.keys)
    for one, other in zip(found, alone, strict=True):
        assert float((one - other).abs().max()) < EQUAL


def test_pictures_over_several_runs_of_tokens_are_told_apart(talk, monkeypatch):
    """As in Idefics3 and Mistral 3."""
    two = (SYSTEM, user("Look:", picture("red"), "and", picture("blue"), "What next?"))
    spans, runs = talk.prompter.prompt(two).spans, talk.prompter._runs
    monkeypatch.setattr(
        talk.prompter,
        "_runs",
        lambda tokens: [(place, place + 1) for first, end in runs(tokens) for place in (first, end - 1)],
    )
    assert talk.prompter.prompt(two).spans == spans


def test_pictures_that_cannot_be_told_apart_in_the_tokens_are_read_anew(talk, monkeypatch):
    """Some processors write nothing between two pictures."""
    talk.read(SYSTEM, user("Look:", picture("red"), "What next?"))
    runs = talk.prompter._runs
    monkeypatch.setattr(talk.prompter, "_runs", lambda tokens: [(runs(tokens)[0][0], runs(tokens)[-1][1])])
    for _ in range(2):
        tokens, pictures = talk.read(SYSTEM, user("Look:", picture("red"), "and", picture("blue"), "What next?"))
        assert pictures == 2
    assert (
        tokens < talk.length(SYSTEM, user("Look:", picture("red"), "and", picture("blue"), "What next?"))
        or not talk.reader.croppable
    )


def test_a_prompt_without_pictures_is_read_like_any_other(talk):
    turns = (SYSTEM, user("What is next, without anything to see, in a sentence that goes on for a while?"))
    talk.read(*turns)
    assert talk.read(*turns, said("ok"), user("And now?"))[0] < talk.length(*turns)


@qwens
def test_positions_of_the_prompt_go_on_where_the_picture_ends(talk):
    prompt: Prompt = talk.prompter.prompt([user(picture("red", 128, 64), "a")])
    (first, end) = prompt.spans[0]
    assert end - first == 8 and prompt.next_position == len(prompt) - 8 + 4, (
        "4 x 2 patches take as many positions as the longer side"
    )
