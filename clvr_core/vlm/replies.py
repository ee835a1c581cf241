"""Parses replies: from raw text to a typed value, or to one sentence that says why not."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Generic, TypeVar

from ..errors import JudgeFailure
from ..protocols import Message, Vlm
from ..records import from_json
from ..text import clean, clip, one_line

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Runs = Sequence[Sequence[T]]
"""The valid objects of one reply in their order. Objects with nothing between them are one run."""

TRANSPORT_ERRORS = (JudgeFailure, OSError, TimeoutError)
"""Errors of a Vlm that gave no answer. Any other error is a bug and is not caught."""

MAX_REPLY = 400_000
"""Characters of one reply, thoughts included."""
MAX_QUOTED = 4_000
"""Characters of an unusable reply that are quoted to the model."""
MAX_OBJECTS = 100
"""Objects of one reply that are tried."""
MAX_OPEN = 8
"""Of those, the ones that never end, each of which costs a pass over the rest of the text."""

_STRING = r'"(?:[^"\\]+|\\.)*(?P<closed>")?'
# Objects of other languages too, with 'a': or a: for "a":. They are not read, but what stands before them is no answer.
_START = re.compile(r"<think>|\{\s*(?:[\"'}]|\w+\s*:)")
_NOTHING = re.compile(r"[\s,;`\[\]]*(?:json\s*)?", re.IGNORECASE)
"""Between two objects, or around one: no more than the marks of a list or of a fence."""
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
    warnings: what of the reply was left out, a sentence each.
    """

    value: T | None
    failure: str = ""
    tokens: int = 0
    calls: int = 0
    warnings: tuple[str, ...] = ()


def last_said(runs: Runs[T]) -> T:
    """Return the last object: a model that repeats the format or drafts an answer writes its own answer last.

    Raises Malformed if objects side by side differ, since then none of them is the last word.
    """
    last = runs[-1]
    if any(value != last[0] for value in last):
        raise Malformed("it holds objects side by side that contradict each other; one object is asked for")
    return last[-1]


def settled(runs: Runs[Mapping[K, float | None]]) -> dict[K, float | None]:
    """Return what the last run of a reply says of each question, where more is better and None is no answer.

    A question has no answer if objects side by side differ about it, or if an earlier object said less: a reply that
    says no and then yes has not said yes.
    """
    *before, last = runs
    lowest: dict[K, float] = {}
    for said in (said for run in before for said in run):
        lowest |= {key: min(value, lowest.get(key, value)) for key, value in said.items() if value is not None}
    found: dict[K, float | None] = {}
    for said in last:
        found |= {key: value if found.get(key, value) == value else None for key, value in said.items()}
    return {key: None if value is None or value > lowest.get(key, value) else value for key, value in found.items()}


def ask(
    vlm: Vlm,
    messages: Sequence[Message],
    schema: Mapping[str, Any],
    cls: type[T],
    check: Callable[[T], object] | None = None,
    settle: Callable[[Runs[T]], T] = last_said,
) -> Answer[T]:
    """Ask for a reply that parses as `cls`, at most twice. Never raises for a model that fails.

    check: raises Malformed for a value of the right form that makes no sense.
    settle: makes one value of the objects of a reply, or raises Malformed.

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
            value = settle(objects_in(reply.text, reply.finished, cls))
            if check is not None:
                check(value)
            return Answer(value, tokens=tokens, calls=call)
        except Malformed as error:
            failure = f"{vlm.name} gave no usable reply: {error}"
            conversation = (*messages, _quoted(reply.text), _again(str(error), reply.finished))
    return Answer(None, failure, tokens, 2)


def parse(text: str, finished: bool, cls: type[T]) -> T:
    """Return the last JSON object of the text that is a valid `cls`. Raises Malformed as `objects_in` and `last_said`
    do.
    """
    return last_said(objects_in(text, finished, cls))


def objects_in(text: str, finished: bool, cls: type[T]) -> Runs[T]:
    """Return the JSON objects of the text that are a valid `cls`, at least one; fences, prose and thoughts around them
    are ignored.

    A broken object is repaired: trailing commas are removed, a missing end is added. A member that was cut is left out
    rather than closed, since half an instruction is another instruction. Raises Malformed if no object is valid, and
    if the last attempt at one is not: what stands before it may be the format or a draft.
    """
    if len(text) > MAX_REPLY:
        raise Malformed(f"the reply has {len(text):,} characters; at most {MAX_REPLY:,} are read")
    cut = "" if finished else "the reply was cut by the length limit; "
    runs: list[list[T]] = []
    faults: dict[bool, list[str]] = {True: [], False: []}  # of objects that are JSON, and of those that are not
    spoilt, count, unended, at = "", 0, 0, _reply_start(text)
    begin, first, end = at, at, at  # of the reply; of the last run and behind it
    while (start := _next_object(text, at)) is not None:
        count += 1
        if count > MAX_OBJECTS:
            raise Malformed(f"the reply holds more than {MAX_OBJECTS} objects; one is asked for")
        found = _object_at(text, start)
        at, fault = found.at, found.fault
        unended += found.reach == len(text)
        if unended > MAX_OPEN:
            raise Malformed(f"the reply holds more than {MAX_OPEN} objects that never end; one that ends is asked for")
        try:
            value = _typed(cls, found.data) if not fault else None
        except Malformed as error:
            value, fault = None, str(error)
        if value is None:
            faults[not found.fault].append(fault)
            if not found.closed or _keys_of(cls).search(text, start, found.reach):
                spoilt = fault
            continue
        if runs and _NOTHING.fullmatch(text, end, start):
            runs[-1].append(value)
        else:
            runs.append([value])
            first = start
        spoilt, end = "", at
    if not runs or spoilt:
        # The last error: a model that explains itself writes examples first and its answer last.
        raise Malformed(
            cut + (spoilt or (faults[True] or faults[False] or ["there is no JSON object in the reply"])[-1])
        )
    # In a reply that was cut, an object that was led up to may be the example before the answer.
    rest, led = text[end:], len(runs) == 1 and not _NOTHING.fullmatch(text, begin, first)
    if not finished and (led or "{" in rest or _THOUGHT_BEGINS in rest):
        raise Malformed(f"{cut}the object before that may be an example or a draft")
    return runs


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


class _Repeated:
    """The value of a key that stands twice in one object. No field takes it."""

    def __repr__(self) -> str:
        return "two values"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        members |= {key: _Repeated() for key, count in counts.items() if count > 1}
    return members


# strict=False: xgrammar lets raw control characters into strings that have a maxLength.
_DECODER = json.JSONDecoder(
    strict=False, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_repeats
)


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


@dataclass(frozen=True)
class _Object:
    """What stands in a text from a brace on.

    at: index from which to look for the next object.
    reach: index behind this one.
    closed: False if the text ends before it does.
    fault: why it is no JSON; empty if `data` is what it holds.
    """

    data: Any
    at: int
    reach: int
    closed: bool
    fault: str = ""


def _object_at(text: str, start: int) -> _Object:
    try:
        data, end = _DECODER.raw_decode(text, start)
        return _Object(data, end, end, True)
    except (ValueError, RecursionError) as error:
        fault = f"its JSON object is broken: {one_line(str(error), 200)}"
    candidate, end, closed = _repair(text, start)
    if candidate:
        try:
            return _Object(_DECODER.decode(candidate), end, end, closed)
        except (ValueError, RecursionError):
            pass
    if not closed and text[start + 1 :].lstrip()[:1] != '"':
        # A brace in prose; an object may follow it.
        return _Object(None, start + 1, end, True, fault)
    return _Object(None, end, end, closed, fault)


@cache
def _keys_of(cls: type) -> re.Pattern[str]:
    """Match a field of the dataclass `cls` as a key, in quotes or not."""
    names = "|".join(field.name for field in fields(cls))
    return re.compile(rf"\b(?:{names})[\"']?\s*:" if names else r"(?!)")


def _repair(text: str, start: int) -> tuple[str | None, int, bool]:
    """Return the object that begins at `start`, repaired, the index behind it, and whether it ends before the text does.

    The object is None if no member of it is whole.
    """
    depth, previous, last_member, last_value = 0, "", None, None
    for found in _TOKEN.finditer(text, start):
        token = found.group()
        if token in ("{", "["):
            depth += 1
        elif token in ("}", "]"):
            depth -= 1
            if depth == 0:
                return _without_trailing_commas(text[start : found.end()]), found.end(), True
        elif depth == 1 and token == ",":
            last_member = found.start()
        if depth == 1 and (token in ("}", "]") or (found["closed"] and previous == ":")):
            last_value = found.end()
        previous = token
    # A value at the very end is whole only if nothing but a fence follows; a number there may be half a number.
    if last_value is not None and not text[last_value:].strip("` \t\r\n"):
        last_member = last_value
    whole = None if last_member is None else _without_trailing_commas(text[start:last_member]) + "}"
    return whole, len(text), False


def _without_trailing_commas(text: str) -> str:
    return _STRING_OR_TRAILING_COMMA.sub(lambda found: found.group(1) or "", text)
