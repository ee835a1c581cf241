"""One model in this process and behind a server that speaks OpenAI's chat: the same decisions, the same replies."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from clvr_core.controller.prompts import GoalsReply
from clvr_core.protocols import Message, Question
from clvr_core.vlm import constrain
from clvr_core.vlm.local import LocalVlm
from clvr_core.vlm.replies import ask
from clvr_core.vlm.server import Endpoint, ServerVlm
from tests.vlm.servers import serving, speaking
from tests.vlm.test_prefix import picture
from tests.vlm.tiny import HERE

PICTURES = tuple(np.array(picture(color, 96, 64)) for color in ("red", "blue"))
QUESTIONS = tuple(
    map(Question, ("Is it red?", "Is there a house at the left, with two windows and a door?", "Sharp?", "Two discs?"))
)
SCHEMA = {
    "type": "object",
    "properties": {
        "goals": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"text": {"type": "string", "maxLength": 8}},
                "required": ["text"],
                "additionalProperties": False,
            },
            "minItems": 1,
            "maxItems": 2,
        }
    },
    "required": ["goals"],
    "additionalProperties": False,
}


@pytest.fixture(params=HERE)
def local(request, loaded) -> LocalVlm:
    vlm = loaded[request.param]
    return LocalVlm(vlm.model, vlm.processor, replace(vlm.settings, max_tokens=80, image_side=64))


@pytest.fixture
def served(local):
    with serving(speaking(local)) as server:
        vlm = ServerVlm(Endpoint(server.url, image_side=64, max_tokens=80, parallel=1))
        vlm.asked = server.asked
        yield vlm


@pytest.mark.parametrize("images", [PICTURES[:1], PICTURES, PICTURES[::-1], ()], ids=["one", "two", "swapped", "none"])
def test_decisions_are_the_same(local, served, images):
    here, there = local.decide(images, QUESTIONS), served.decide(images, QUESTIONS)
    # A server tells the twenty likeliest tokens only.
    assert [decision.yes for decision in here] == pytest.approx([decision.yes for decision in there], abs=3e-3)
    assert len({round(decision.yes, 3) for decision in here}) > 1
    assert all("logprobs" in asked.body for asked in served.asked if asked.body), "no answer was put into words"


@pytest.mark.skipif(not constrain.available(), reason="llguidance is not installed, which holds replies to a schema")
def test_replies_are_the_same_and_of_the_schema(local, served):
    talk = (Message("system", "be brief"), Message("user", "List the goals.", PICTURES))
    here, there = local.chat(talk, SCHEMA), served.chat(talk, SCHEMA)
    assert here == there and here.finished and 1 <= len(json.loads(here.text)["goals"]) <= 2
    answers = [ask(vlm, talk, SCHEMA, GoalsReply) for vlm in (local, served)]
    assert answers[0] == answers[1] and answers[0].value.goals and answers[0].calls == 1


def test_a_reply_that_is_cut_is_told_by_both(local, served):
    local.settings = replace(local.settings, max_tokens=3)
    served.endpoint = replace(served.endpoint, max_tokens=3)
    talk = [Message("user", "List the goals.")]
    assert [vlm.chat(talk, SCHEMA).finished for vlm in (local, served)] == [False, False]
