"""A real LiteLLM proxy before upstreams of three dialects, which are scripted, and before a real llama.cpp where there is one."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clvr_core.errors import Away, JudgeFailure
from clvr_core.protocols import Message
from clvr_core.vlm.sight import check_sight
from tests.servers import Asked, Said
from tests.servers import serving as scripted
from tests.vlm.servers import completion

from . import processes
from .asking import BLUE, QUESTIONS, RED, SCHEMAS, SHOWN, model

processes.need(*processes.LITELLM)

KEY = "sk-of-the-tests"
CONFIG = """
model_list:
{models}
litellm_settings: {{num_retries: 0}}
general_settings: {{master_key: {key}}}
"""
UPSTREAMS = {
    "openai": "openai/fake, api_base: '{scripted}/v1'",
    "vllm": "hosted_vllm/fake, api_base: '{scripted}/v1'",
    "ollama": "ollama_chat/fake, api_base: '{scripted}'",
    "anthropic": "anthropic/claude-3-5-sonnet-20240620, api_base: '{scripted}'",
    "busy": "openai/busy, api_base: '{scripted}/v1'",
    "broken": "openai/broken, api_base: '{scripted}/v1'",
    "refusing": "openai/refusing, api_base: '{scripted}/v1'",
}


def texts_and_pictures(body: dict[str, Any]) -> tuple[str, list[np.ndarray]]:
    """What is asked, in any of the three dialects."""
    texts, data = [], []
    for message in body["messages"]:
        data += message.get("images", [])  # Ollama
        content = message["content"]
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            if part["type"] == "text":
                texts.append(part["text"])
            elif part["type"] == "image_url":
                data.append(part["image_url"]["url"].partition(",")[2])
            else:
                data.append(part["source"]["data"])  # Anthropic
    return "\n".join(texts), [np.array(Image.open(io.BytesIO(base64.b64decode(each)))) for each in data]


def upstream(asked: Asked) -> Said:
    if asked.body is None or "messages" not in asked.body:
        return Said({"model_info": {}, "template": "", "capabilities": ["vision"]})  # Ollama's /api/show
    if asked.body["model"] == "broken":
        return Said({"error": {"message": "the card fell out", "code": 500}})
    if asked.body["model"] == "busy":
        return Said({"error": {"message": "too many requests"}}, 429)
    if asked.body["model"] == "refusing":
        said = completion("")
        said.body["choices"][0]["message"] |= {"content": None, "refusal": "I will not."}
        return said
    words, pictures = texts_and_pictures(asked.body)
    red = bool(pictures) and int(pictures[0][0, 0, 0]) > int(pictures[0][0, 0, 2])
    value = {"answers": [{"question": 1, "answer": "yes" if red else "no"}]} if "answers" in words else {"a": 1}
    usage = {"input_tokens": 5, "output_tokens": 6}
    if "/api/chat" in asked.path:
        message = {"role": "assistant", "content": json.dumps(value)}
        done = {"done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 6}
        return Said({"model": "fake", "created_at": "2026-01-01T00:00:00Z", "message": message, **done})
    if asked.path.endswith("/messages"):
        content: dict[str, Any] = {"type": "text", "text": json.dumps(value)}
        if tools := asked.body.get("tools"):
            content = {"type": "tool_use", "id": "t1", "name": tools[0]["name"], "input": value}
        head = {"id": "m1", "type": "message", "role": "assistant", "model": "claude"}
        return Said({**head, "content": [content], "stop_reason": "end_turn", "stop_sequence": None, "usage": usage})
    yes = 0.9 if red else 0.1
    told = [("Yes", yes), ("No", 1 - yes)] if asked.body.get("logprobs") else None
    return completion("Yes" if told else json.dumps(value), logprobs=told)


@pytest.fixture(scope="module")
def proxy(place, request) -> Iterator[str]:
    real = request.getfixturevalue("llama") if not processes.missing(*processes.LLAMA[1:]) else ""
    with scripted(upstream) as fake:
        entries = {name: each.format(scripted=fake.url.removesuffix("/v1")) for name, each in UPSTREAMS.items()}
        if real:
            entries["real"] = f"hosted_vllm/eyes, api_base: '{real}'"
        lines = [
            f"  - {{model_name: {name}, litellm_params: {{model: {each}, api_key: none}}}}"
            for name, each in entries.items()
        ]
        (place / "litellm.yaml").write_text(CONFIG.format(models="\n".join(lines), key=KEY))
        port = processes.free_port()
        start = ["-c", "from litellm import run_server; run_server()", "--config", place / "litellm.yaml"]
        command = [*start, "--host", "127.0.0.1", "--port", port]
        with processes.serving(command, port, place / "litellm.log", KEY) as url:
            yield url


@pytest.fixture
def through(proxy, monkeypatch):
    monkeypatch.setenv("KEY_OF_THE_PROXY", KEY)
    return lambda name, **settings: model(proxy, model=name, **{"key_variable": "KEY_OF_THE_PROXY", **settings})


@pytest.mark.parametrize(
    ("name", "probabilities"), [("openai", True), ("vllm", True), ("ollama", False), ("anthropic", False)]
)
def test_decisions_and_replies_come_through(through, name, probabilities):
    vlm = through(name)
    check_sight(vlm)
    told = [vlm.decide((picture,), QUESTIONS[:1])[0].yes for picture in (RED, BLUE)]
    assert told == pytest.approx([0.9, 0.1]) and vlm.tells_probabilities is probabilities
    reply = vlm.chat([Message("system", "You plan."), Message("user", "What?", (RED,))], {"type": "object"})
    assert json.loads(reply.text) == {"a": 1} and reply.tokens > 0


@pytest.mark.skipif(bool(processes.missing(*processes.LLAMA[1:])), reason="there is no llama.cpp to be the upstream")
def test_those_of_a_real_server_come_through_as_they_are(through, llama):
    direct, proxied = model(llama), through("real")
    for pictures in SHOWN[1:]:
        told = [decision.yes for decision in proxied.decide(pictures, QUESTIONS)]
        assert told == pytest.approx([decision.yes for decision in direct.decide(pictures, QUESTIONS)], abs=1e-5)
    reply = proxied.chat([Message("user", "What is to be done?", (RED,))], SCHEMAS["goals"])
    assert set(json.loads(reply.text)) == {"goals"}


def test_an_error_inside_an_answer_is_told_in_the_server_s_words(through):
    with pytest.raises((JudgeFailure, Away), match="the card fell out"):
        through("broken").chat([Message("user", "hello")], {"type": "object"})


def test_a_refusal_is_told_in_the_model_s_words(through):
    with pytest.raises(JudgeFailure, match="the model refused: I will not"):
        through("refusing").chat([Message("user", "hello")], {"type": "object"})


def test_an_unknown_model_is_told(through):
    with pytest.raises(JudgeFailure, match="Invalid model name passed in model=nonesuch"):
        through("nonesuch").chat([Message("user", "hello")], {"type": "object"})


def test_a_provider_that_is_busy_ends_as_away_and_not_as_a_verdict(through):
    with pytest.raises(Away, match="busy is away: the server answered 429"):
        through("busy", wait=0.2).decide((RED,), QUESTIONS)
