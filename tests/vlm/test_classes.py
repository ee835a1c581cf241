"""Further classes of vision-language models in this process: the shared reading gives what one whole pass gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers.models.smolvlm import processing_smolvlm
from transformers.utils import is_torchvision_available

from clvr_core.errors import BadInput
from clvr_core.vlm.local import Local, LocalVlm, load_local
from tests.vlm import zoo
from tests.vlm.test_local import ASK, BLUE, QUESTIONS, RED, SCHEMA, constrained, separately
from tests.vlm.test_prefix import FIRST, SECOND, Passes, Talk
from tests.vlm.tiny import NEW

pytestmark = pytest.mark.skipif(not NEW, reason="the settings of these models are those of transformers 5")


@pytest.fixture(scope="module", params=zoo.KINDS)
def vlm(request, tmp_path_factory) -> LocalVlm:
    if zoo.KINDS[request.param].needs == "torchvision" and not is_torchvision_available():
        pytest.skip("torchvision is not installed, without which transformers reads no pictures for this model")
    folder = zoo.save(tmp_path_factory.mktemp("zoo") / request.param, request.param)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        # Only spells the number of a video's frames.
        patch.setattr(processing_smolvlm, "num2words", str)
        yield load_local(Local(str(folder), "cpu", "float32", max_tokens=200))
    torch.set_num_threads(threads)


def test_decisions_equal_one_whole_pass_whatever_was_read_before(vlm):
    found = []
    for images in ((RED,), (RED, BLUE), (BLUE, RED), ()):
        decisions = [decision.yes for decision in vlm.decide(images, QUESTIONS)]
        assert decisions == pytest.approx([separately(vlm, images, question) for question in QUESTIONS], abs=1e-4)
        assert max(decisions) - min(decisions) > 1e-4, "the questions must matter, or nothing was compared"
        found.append(round(decisions[0], 5))
    assert len(set(found)) == 4, "and so must the pictures and their order"


def test_a_conversation_with_new_pictures_is_read_like_a_fresh_one(vlm):
    talk = Talk(vlm, Passes([], []))
    for turns in (FIRST, SECOND, FIRST):
        talk.read(*turns, finish=talk.answer)
    first, second = (talk.prompter.prompt(turns) for turns in (FIRST, SECOND))
    assert len(first.spans) == 2 and second.keys[: first.spans[-1][1]] == first.keys[: first.spans[-1][1]]
    new = second.part(first.spans[-1][1], len(second))["pixel_values"]
    assert new.numel() < second.pictures["pixel_values"].numel(), "only the new picture goes through the model"


@constrained
def test_a_reply_is_held_to_its_schema(vlm):
    reply = vlm.chat(ASK, SCHEMA)
    assert reply.finished and json.loads(reply.text).keys() == {"instruction", "kind"}


@pytest.mark.parametrize("kind", [name for name, kind in zoo.KINDS.items() if kind.needs])
def test_a_package_that_is_missing_is_named_and_no_damage_is_suspected(kind, tmp_path: Path, monkeypatch):
    package = zoo.KINDS[kind].needs
    if package == "torchvision" and is_torchvision_available():
        pytest.skip("torchvision is installed")
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(BadInput, match="needs a package that is not installed here") as refused:
        load_local(Local(str(zoo.save(tmp_path / kind, kind)), "cpu", "float32"))
    assert package in str(refused.value).casefold() and "download" not in str(refused.value)
