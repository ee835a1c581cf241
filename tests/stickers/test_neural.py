"""The learned controller and judge: what ships reads words and looks at pictures, and is mostly right."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from clvr_core.brief import Brief
from clvr_core.controller import draft_goals, next_action
from clvr_core.errors import BadInput
from clvr_core.protocols import Message, Question
from clvr_core.stickers.grammar import NotInGrammar
from clvr_core.stickers.neural import FOLDER, NeuralVlm
from clvr_core.stickers.render import render
from clvr_core.training.vlm_control import request_for_action
from clvr_core.training.vlm_questions import ONE, asked
from clvr_core.vlm.sight import check_sight
from clvr_core.world import world_named
from tests.stickers.test_art import needs_art

LARGEST = 20_000_000
"""Bytes of the weights."""


needs_weights = pytest.mark.skipif(
    not any(FOLDER.glob("*.safetensors")), reason="the learned model has no weights: clvr train stickers vlm --publish"
)
needs_steering = pytest.mark.skipif(not world_named().neural, reason="the learned model is not the usual one")


def test_without_weights_the_error_says_how_to_make_them(tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    with pytest.raises(BadInput, match=r"clvr train stickers vlm"):
        NeuralVlm(tmp_path)


@pytest.fixture(scope="module")
def vlm() -> NeuralVlm:
    return NeuralVlm()


@needs_weights
def test_the_folder_is_small_and_of_files_below_fifteen_megabytes():
    sizes = [file.stat().st_size for file in FOLDER.glob("*.safetensors")]
    assert sizes and sum(sizes) <= LARGEST and max(sizes) < 15_000_000


@needs_weights
def test_it_sees(vlm):
    check_sight(vlm)


@needs_weights
def test_a_brief_beyond_its_words_is_refused(vlm):
    vlm.require_readable("a photo of a blue cow")
    with pytest.raises(NotInGrammar):
        vlm.require_readable("a portrait in oil")


@needs_steering
def test_it_takes_a_brief_apart(vlm):
    goals = draft_goals(vlm, Brief("a photo of a blue cow and two green cars at night")).value
    assert goals is not None
    assert {"the scene is at night", "a blue cow", "two green cars"} <= {goal.text for goal in goals}


@needs_art
@needs_weights
def test_it_is_mostly_right_about_renders(vlm):
    made, right = asked(random.Random("shipped"), 24, questions=6, pairs=0, dense=False), []
    for kind, one, _, question, answer in made.rows:
        if kind in ONE and kind != "word":
            (decision,) = vlm.decide((render(made.scenes[one]),), (Question(question),))
            right.append(decision.yes is not None and (decision.yes > 0.5) == (answer == "Yes"))
    assert len(right) > 80 and np.mean(right) > 0.9, "of all but words on signs, which it has not learnt to compare"


@needs_art
@needs_weights
def test_nothing_beside_the_words_and_pictures_changes_an_answer(vlm):
    """Message.data and Question.data hold the truth in a form that a program could read."""
    rng = random.Random(3)
    made = next(found for _ in range(99) if (found := request_for_action(rng)) and found.scenes and found.situation)
    assert made.situation is not None
    situation = replace(made.situation, pictures={c: render(made.scenes[c]) for c in made.situation.pictures})

    class Blank:
        name = "blank"
        chat = staticmethod(
            lambda messages, schema: vlm.chat([Message(m.role, m.text, m.images) for m in messages], schema)
        )
        decide = staticmethod(lambda images, questions: vlm.decide(images, [Question(q.text) for q in questions]))

    said, blank = next_action(vlm, situation), next_action(Blank(), situation)
    assert said.value is not None and said.value == blank.value and said.calls == blank.calls
    picture = next(iter(situation.pictures.values()))
    question = Question("Is the picture plain red all over?", data={"task": "goal", "goal": {"text": "a cat"}})
    assert vlm.decide((picture,), (question,)) == Blank.decide((picture,), (question,))
