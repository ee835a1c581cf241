"""Reads answers of OpenAI's chat, in the ways in which servers write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ..errors import JudgeFailure
from ..protocols import Reply
from ..text import one_line
from .decisions import SLACK, word

_THOUGHT = re.compile(r"think|^<\|", re.IGNORECASE)
"""A first token with which a model begins to think."""
_LOOP = re.compile(r"\s{64}\Z")
"""The end of a constrained reply that is in a loop: JSON may hold any white space (vllm#38696)."""


def choice_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise JudgeFailure("the server's answer holds no choice")
    return choices[0]


def reply_of(answer: Mapping[str, Any], limit: int) -> Reply:
    """Return what the model said. limit: tokens that it was given.

    Raises JudgeFailure, in the server's words, if it said nothing that can be a reply.
    """
    choice = choice_of(answer)
    if choice.get("finish_reason") == "content_filter":
        raise JudgeFailure("the server's filter withheld the answer")
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    finished = choice.get("finish_reason") != "length"
    text = _text(message.get("content")) or _arguments(message)
    if not text.strip():
        if refusal := _text(message.get("refusal")) or _text(_refused_elsewhere(message)):
            raise JudgeFailure(f"the model refused: {one_line(refusal, 200)}")
        thought = thought_of(message)
        if thought and not finished:
            raise JudgeFailure(
                f"the model thought until its limit, max_tokens = {limit}, and gave no reply; raise that"
            )
        text = thought or text
    return Reply(text, tokens_of(answer), finished)


def thinks(answer: Mapping[str, Any]) -> bool:
    """Whether the answer to a decision begins with a thought."""
    choice = choice_of(answer)
    message = choice.get("message")
    try:
        token = choice["logprobs"]["content"][0]["token"]
    except (KeyError, IndexError, TypeError):
        token = ""
    thought = isinstance(message, dict) and thought_of(message)
    return bool(thought) or (isinstance(token, str) and bool(_THOUGHT.search(token)))


def thought_of(message: Mapping[str, Any]) -> str:
    """Return what a model thought, which servers keep apart; they name it in two ways."""
    return _text(message.get("reasoning_content")) or _text(message.get("reasoning"))


def tokens_of(answer: Mapping[str, Any]) -> int:
    usage = answer.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) and 0 <= total < 2**31 else 0


def loops(reply: Reply) -> bool:
    """Whether the reply was cut in the middle of white space without end."""
    return not reply.finished and bool(_LOOP.search(reply.text))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _refused_elsewhere(message: Mapping[str, Any]) -> Any:
    """Return the refusal where LiteLLM before 1.108 puts what its own types do not have."""
    fields = message.get("provider_specific_fields")
    return fields.get("refusal") if isinstance(fields, dict) else None


def _arguments(message: Mapping[str, Any]) -> str:
    """Return the arguments of the first tool that is called: some gateways make a tool of a schema."""
    try:
        found = message["tool_calls"][0]["function"]["arguments"]
    except (KeyError, IndexError, TypeError):
        return ""
    return found if isinstance(found, str) else json.dumps(found)


def first_token(answer: Mapping[str, Any]) -> list[tuple[str, float]] | None:
    """Return the likeliest words at the first token with their probabilities; None if the answer holds none.

    Raises JudgeFailure if they belong to no distribution.
    """
    choice = choice_of(answer)
    try:
        tokens = choice["logprobs"]["content"]
        listed = [(item["token"], item["logprob"]) for item in (tokens[0]["top_logprobs"] if tokens != [] else [])]
    except (KeyError, IndexError, TypeError):
        return None
    # Some servers write null for an alternative that they do not know; without Yes and No, that is mass elsewhere.
    known = [(token, logprob) for token, logprob in listed if logprob is not None or _is_answer(token)]
    found = [(word(str(token)), _share(token, logprob)) for token, logprob in known]
    if (total := sum(share for _, share in found)) > 1 + SLACK:
        raise JudgeFailure(f"the server's probabilities add up to {total:.2f}, which is no distribution")
    return found


def _is_answer(token: Any) -> bool:
    return isinstance(token, str) and word(token) in ("yes", "no")


def _share(token: Any, logprob: Any) -> float:
    # NaN fails the comparison too.
    if not isinstance(token, str) or type(logprob) not in (int, float) or not logprob <= SLACK:
        raise JudgeFailure(
            f"the server's log probability of {token!r:.40} is {logprob!r:.40}, which belongs to no distribution"
        )
    return math.exp(max(min(logprob, 0.0), -1e4))
