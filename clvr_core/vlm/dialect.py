"""What a server takes of OpenAI's chat, where servers differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

TOP = 20
"""Alternatives at a token that are asked for, the most that OpenAI's API and vLLM allow by default."""
FEW = 5
"""The most that DashScope, Fireworks and Gemini allow."""
NO_THOUGHT: tuple[Mapping[str, Any], ...] = (
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"reasoning_effort": "none"},
    {"reasoning_effort": "minimal"},
)
"""How a model that thinks before it answers is asked not to: vLLM, SGLang and llama.cpp; Ollama and OpenAI; OpenAI."""
_NO_CHAT = re.compile(r"embed|rerank|whisper|tts|moderation", re.IGNORECASE)
"""In the names of models that are no vision-language models."""


@dataclass(frozen=True)
class Dialect:
    """What is sent otherwise than first tried.

    limit: name of the field with the limit of a reply.
    temperature: whether it may be 0.
    top: alternatives at a token that may be asked for.
    least: the smallest limit of a reply.
    system: whether a conversation may begin with a system message.
    more: fields that are sent as well.
    """

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True
    top: int = TOP
    least: int = 1
    system: bool = True
    more: Mapping[str, Any] | None = None

    def of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body as this server takes it. `body`: with max_tokens, temperature, top_logprobs and a system
        message."""
        said = dict(body) | dict(self.more or {})
        said[self.limit] = max(said.pop("max_tokens"), self.least)
        if not self.temperature:
            del said["temperature"]
        if "top_logprobs" in said:
            said["top_logprobs"] = min(said["top_logprobs"], self.top)
        if not self.system:
            said["messages"] = without_system(said["messages"])
        return said

    def others(self, changes: Iterable[Mapping[str, Any]]) -> Iterator[Dialect]:
        """What to try when a request is refused: each change alone, then more and more of them together."""
        together: dict[str, Any] = {}
        for change in changes:
            yield replace(self, **change)
        for change in changes:
            together |= change
            yield replace(self, **together)


OF_CHAT: tuple[Mapping[str, Any], ...] = ({"limit": "max_completion_tokens"}, {"temperature": False}, {"system": False})
"""Changes that may help where any request is refused."""
OF_DECISIONS: tuple[Mapping[str, Any], ...] = ({"top": FEW}, {"least": 16}, {"system": False})
"""Changes that may help where a request for probabilities is refused."""


def with_words(messages: Sequence[Mapping[str, Any]], words: str) -> list[dict[str, Any]]:
    """Return the conversation with the words at the end of its last message's text: two messages of one role in a row
    are refused by the templates of Gemma and Mistral."""
    *before, last = map(dict, messages)
    return [*before, {**last, "content": _joined(last["content"], words, behind=True)}]


def without_system(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the conversation with the words of the system inside the first message of the user."""
    first, *rest = map(dict, messages)
    if first["role"] != "system" or not rest:
        return [first, *rest]
    return [{**rest[0], "content": _joined(rest[0]["content"], first["content"], behind=False)}, *rest[1:]]


def _joined(content: str | list[dict], words: str, behind: bool) -> str | list[dict]:
    if isinstance(content, str):
        return f"{content}\n\n{words}" if behind else f"{words}\n\n{content}"
    place = next(index for index, part in enumerate(content) if part["type"] == "text")
    text = _joined(content[place]["text"], words, behind)
    return [*content[:place], {"type": "text", "text": text}, *content[place + 1 :]]


def family(schema: Mapping[str, Any]) -> str:
    """Name what a schema asks for. Schemas of one family differ in what may be chosen, and are refused alike."""
    return ",".join(schema.get("properties", {}))


def chat_model(names: Sequence[str]) -> str:
    """Return the first of the names that a server lists which is not that of an embedding model or its like."""
    return next((name for name in names if not _NO_CHAT.search(name)), names[0])
