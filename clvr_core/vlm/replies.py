"""Parses replies: from raw text to a typed value, or to one sentence that says why not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..errors import JudgeFailure
from ..protocols import Message, Vlm
from ..records import from_json
from ..text import clean, clip, one_line

T = TypeVar("T")

TRANSPORT_ERRORS = (JudgeFailure, OSError, TimeoutError)
"""Errors of a Vlm that gave no answer. Any other error is a bug and is not caught."""

MAX_REPLY = 400_000
"""Characters of one reply, thoughts included."""
MAX_QUOTED = 4_000
"""Characters of an unusable reply that are quoted to the model."""

_STRING = r'"(?:[^"\\]+|\\.)*(?P<closed>")?'
_START = re.compile(r'<think>|\{\s*["}]')
_TOKEN = re.compile(_STRING + r"|[{}\[\],:]", re.DOTALL)
_STRING_OR_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_THOUGHT_BEGINS, _THOUGHT_ENDS = "<think>", "</think>"


class Malformed(JudgeFailure):
    """A reply that is not what was asked for. The message says what is wrong, for the model to correct."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The outcome of asking.

    value: None if there is no usable answer.
    failure: why there is none, one sentence; empty otherwise.
    tokens: read and written over all calls.
    calls: of the model, failed ones included.
    """

    value: T | None
    failure: str = ""
    tokens: int = 0
    calls: int = 0


def ask(
    vlm: Vlm,
    messages: Sequence[Message],
    schema: Mapping[str, Any],
    cls: type[T],
    check: Callable[[T], object] | None = None,
) -> Answer[T]:
    """Ask for a reply that parses as `cls`, at most twice. Never raises for a model that fails.

    check: raises Malformed for a value of the right form that makes no sense.

    The second call quotes the unusable reply and names the error; after an error of TRANSPORT_ERRORS it repeats the
    first.
    """
    conversation, tokens, failure = tuple(messages), 0, ""
    for call in (1, 2):
        try:
            reply = vlm.chat(conversation, schema)
        except TRANSPORT_ERRORS as error:
            failure = f"{vlm.name} gave no reply: {describe(error)}"
            continue
        tokens += reply.tokens
        try:
            value = parse(reply.text, reply.finished, cls)
            if check is not None:
                check(value)
            return Answer(value, tokens=tokens, calls=call)
        except Malformed as error:
            failure = f"{vlm.name} gave no usable reply: {error}"
            conversation = (*messages, _quoted(reply.text), _again(str(error), reply.finished))
    return Answer(None, failure, tokens, 2)


def parse(text: str, finished: bool, cls: type[T]) -> T:
    """Return the first JSON object in the text that is a valid `cls`; fences, prose and thoughts around it are ignored.

    If there is none, broken objects are repaired: trailing commas are removed, a missing end is added. A member that
    was cut is left out rather than closed, since half an instruction is another instruction. Raises Malformed if no
    object is valid.
    """
    if len(text) > MAX_REPLY:
        raise Malformed(f"the reply has {len(text):,} characters; at most {MAX_REPLY:,} are read")
    broken: list[str] = []
    invalid: list[str] = []
    repaired: list[str] = []
    at = _reply_start(text)
    while (start := _next_object(text, at)) is not None:
        try:
            data, at = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            broken.append(f"its JSON object is broken: {one_line(str(error), 200)}")
            candidate, at = _repair(text, start)
            repaired += [candidate] if candidate else []
            continue
        try:
            return _typed(cls, data)
        except Malformed as error:
            invalid.append(str(error))
    for candidate in repaired:
        try:
            return _typed(cls, _DECODER.decode(candidate))
        except (Malformed, ValueError, RecursionError):
            continue
    cut = "" if finished else "the reply was cut by the length limit; "
    # The last error: a model that explains itself writes examples first and its answer last.
    raise Malformed(cut + (invalid or broken or ["there is no JSON object in the reply"])[-1])


def in_words(schema: Mapping[str, Any]) -> str:
    """Return the request for a reply of the schema in words, for a model without constrained decoding."""
    return f"Answer with one JSON object of this schema and nothing else:\n{json.dumps(schema)}"


def describe(error: BaseException) -> str:
    """Describe an error in one line that is never empty."""
    text = one_line(str(error), 300)
    return text if text and isinstance(error, JudgeFailure) else f"{type(error).__name__}: {text}".removesuffix(": ")


def _quoted(text: str) -> Message:
    # Servers refuse an empty turn.
    return Message("assistant", clip(text[_reply_start(text) :].strip(), MAX_QUOTED) or "(nothing)")


def _again(fault: str, finished: bool) -> Message:
    shorter = "" if finished else " Write less in each field."
    again = "Answer the same request again with one JSON object of the schema and nothing else."
    text = f"That reply cannot be used: {fault}.{shorter} {again}"
    return Message("user", text, data={"task": "again", "error": fault})


def _typed(cls: type[T], data: Any) -> T:
    try:
        return from_json(cls, _cleaned(data), "reply")
    except (ValueError, OverflowError, RecursionError) as error:
        raise Malformed(one_line(str(error), 300)) from error


def _cleaned(data: Any) -> Any:
    if isinstance(data, str):
        return clean(data)
    if isinstance(data, list):
        return [_cleaned(item) for item in data]
    if isinstance(data, dict):
        return {key: _cleaned(item) for key, item in data.items()}
    return data


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise ValueError(f"the number {digits:.20} is too large")
    return value


# strict=False: xgrammar lets raw control characters into strings that have a maxLength.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_constant, parse_float=_finite)


def _reply_start(text: str) -> int:
    """Return the index behind a thought at the beginning.

    If the template opens the thought, the text holds only its end.
    """
    head = text.lstrip()
    if head.startswith(("{", "```")):
        return 0
    end = text.find(_THOUGHT_ENDS)
    if end < 0:
        return len(text) if head.startswith(_THOUGHT_BEGINS) else 0
    return end + len(_THOUGHT_ENDS) if head.startswith(_THOUGHT_BEGINS) or _THOUGHT_BEGINS not in text[:end] else 0


def _next_object(text: str, at: int) -> int | None:
    """Return the index of the next text that looks like a JSON object, outside thoughts; None if there is none."""
    while (found := _START.search(text, at)) is not None:
        if found.group().startswith("{"):
            return found.start()
        end = text.find(_THOUGHT_ENDS, found.end())
        if end < 0:
            return None
        at = end + len(_THOUGHT_ENDS)
    return None


def _repair(text: str, start: int) -> tuple[str | None, int]:
    """Return the object that begins at `start`, repaired, and the index behind it; None if no member of it is whole."""
    depth, previous, last_member, last_value = 0, "", None, None
    for found in _TOKEN.finditer(text, start):
        token = found.group()
        if token in ("{", "["):
            depth += 1
        elif token in ("}", "]"):
            depth -= 1
            if depth == 0:
                return _without_trailing_commas(text[start : found.end()]), found.end()
        elif depth == 1 and token == ",":
            last_member = found.start()
        if depth == 1 and (token in ("}", "]") or (found["closed"] and previous == ":")):
            last_value = found.end()
        previous = token
    # A value at the very end is whole only if nothing but a fence follows; a number there may be half a number.
    if last_value is not None and not text[last_value:].strip("` \t\r\n"):
        last_member = last_value
    return (None if last_member is None else _without_trailing_commas(text[start:last_member]) + "}"), len(text)


def _without_trailing_commas(text: str) -> str:
    return _STRING_OR_TRAILING_COMMA.sub(lambda found: found.group(1) or "", text)
