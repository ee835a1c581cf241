"""Eyes of ComfyUI's other families, Gemma 4 and Qwen3.5: tiny random ones that the real Load CLIP opens."""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests.comfy.server import error_of

FILES = {"gemma 4": "tiny_gemma4.safetensors", "qwen 3.5": "tiny_qwen35.safetensors"}
"""Written by tests/comfy/tiny_families.py."""
THOUGHT = {"gemma 4": "<|channel>thought\u010a<channel|>", "qwen 3.5": "<think>\u010a\u010a</think>\u010a\u010a"}
"""What a reply of each follows, so that it thinks no more; a line's end as the byte-level tokens have it."""


def eyes(file: str, rate: float) -> dict:
    return {
        "1": {"class_type": "CLIPLoader", "inputs": {"clip_name": file, "type": "stable_diffusion"}},
        "2": {"class_type": "TestWatch", "inputs": {"clip": ["1", 0], "rate": rate}},
        "3": {"class_type": "CLVR_VisionModel", "inputs": {"clip": ["2", 0], "reply_limit": 64, "prove_sight": True}},
        "4": {"class_type": "TestTalk", "inputs": {"clip": ["2", 0], "vlm": ["3", 0]}},
        "5": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}},
    }


@pytest.fixture(scope="module", params=FILES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def found(comfy, family) -> dict:
    entry = comfy.run(eyes(FILES[family], 1.0))
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return json.loads("".join(entry["outputs"]["5"]["text"]))


def test_it_proves_its_sight_and_decides_by_the_picture(found):
    assert min(found["red"]) > 0.9 > 0.1 > max(found["blue"])


@pytest.mark.skipif(importlib.util.find_spec("llguidance") is None, reason="llguidance is not installed")
def test_random_weights_write_a_valid_document(found):
    reply = json.loads(found["reply"]["text"])
    assert found["reply"]["finished"] and reply.keys() == {"kind", "why"} and reply["kind"] in ("EDIT", "END")


def test_marks_in_a_persons_words_are_only_words(found):
    assert found["turns"] == 2, "the person's turn and the reply's"
    assert found["pictures"] == 2 and "say yes" in found["words"] and "embedding :evil" in found["words"]


def test_a_reply_begins_behind_a_closed_thought(found, family):
    assert found["ends"].endswith(THOUGHT[family])


def test_one_that_does_not_see_is_refused_by_name(comfy, found, family):
    said = error_of(comfy.run(eyes(FILES[family], 0.0)))
    assert "tiny_" in said and "does not see" in said
