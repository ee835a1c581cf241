"""A real HTTP server that speaks OpenAI's chat and can see."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from clvr_core.protocols import Message
from tests.servers import Asked, Said, serving

__all__ = ["Asked", "Said", "completion", "pictures_in", "said_in", "serving", "speaking"]


def completion(
    text: str, finish: str = "stop", logprobs: list[tuple[str, float]] | None = None, tokens: Any = 10
) -> Said:
    """A chat completion; `logprobs`: words with their probabilities at the first token."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    if logprobs is not None:
        top = [{"token": word, "logprob": math.log(share)} for word, share in logprobs]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return Said({"id": "x", "object": "chat.completion", "choices": [choice], "usage": {"total_tokens": tokens}})


def pictures_in(body: dict[str, Any]) -> list[np.ndarray]:
    found = []
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part["type"] == "image_url":
                kind, _, data = part["image_url"]["url"].partition(",")
                assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
                found.append(np.array(Image.open(io.BytesIO(base64.b64decode(data)))))
    return found


def said_in(body: dict[str, Any]) -> str:
    """All the words of the conversation."""
    contents = [message["content"] for message in body["messages"]]
    parts = [part for content in contents for part in ([{"text": content}] if isinstance(content, str) else content)]
    return "\n".join(part.get("text", "") for part in parts)


def speaking(vlm: Any) -> Callable[[Asked], Said]:
    """OpenAI's chat as a server gives it that holds replies to their schema and tells probabilities, with a `LocalVlm`'s model.

    Replies are the LocalVlm's own. Probabilities are read off one whole prompt by transformers' own path, so they are a second opinion.
    """

    def answer(asked: Asked) -> Said:
        if asked.body is None:
            return Said({"data": [{"id": vlm.name}]})
        unknown = set(asked.body) - {
            "model",
            "messages",
            "temperature",
            "max_tokens",
            "response_format",
            "logprobs",
            "top_logprobs",
        }
        if unknown or asked.body["temperature"] != 0 or asked.body["model"] != vlm.name:
            return Said({"error": f"unknown {unknown}"}, status=400)
        pictures = iter(pictures_in(asked.body))
        turns = [(message["role"], list(_parts(message["content"], pictures))) for message in asked.body["messages"]]
        return (
            _likeliest(vlm, turns, asked.body["top_logprobs"])
            if asked.body.get("logprobs")
            else _reply(vlm, turns, asked.body)
        )

    return answer


def _parts(content: Any, pictures: Iterator[np.ndarray]) -> Iterator[str | np.ndarray]:
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        yield part["text"] if part["type"] == "text" else next(pictures)


def _reply(vlm: Any, turns: list[tuple[str, list]], body: dict[str, Any]) -> Said:
    messages = []
    for role, parts in turns:
        words = [part for part in parts if isinstance(part, str)]
        assert len(words) == 1 and isinstance(parts[0], str), "in a conversation words come before pictures"
        messages.append(Message(role, words[0], tuple(parts[1:])))
    assert body["max_tokens"] == vlm.settings.max_tokens
    reply = vlm.chat(messages, body["response_format"]["json_schema"]["schema"])
    return completion(reply.text, "stop" if reply.finished else "length", tokens=reply.tokens)


def _likeliest(vlm: Any, turns: list[tuple[str, list]], most: int) -> Said:
    import torch

    content = [
        (role, [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts])
        for role, parts in turns
    ]
    text = vlm.processor.apply_chat_template(
        [{"role": role, "content": parts} for role, parts in content], add_generation_prompt=True, tokenize=False
    )
    images = [Image.fromarray(part) for _, parts in turns for part in parts if not isinstance(part, str)]
    inputs = vlm.processor(text=[text], images=images or None, return_tensors="pt")
    with torch.inference_mode():
        shares, tokens = vlm.model(**inputs).logits[0, -1].float().softmax(-1).topk(most)
    words = [vlm.processor.tokenizer.decode([token]) for token in tokens.tolist()]
    return completion("", "length", list(zip(words, shares.tolist())), tokens=inputs["input_ids"].shape[1] + 1)
