"""JSON Schema (draft 2020-12) of a run, made from the dataclasses that read and write it.

The document describes a trajectory as a picture carries it; `#/$defs/Line` in it describes one line of `trajectory.jsonl`. As the
readers do, it lets unknown fields and unknown events pass, and requires only the fields that have no default. It leaves to the readers
what JSON Schema cannot say: that goal ids differ, that `unmet` lies below `met`, that a number is finite, that 1.0 is not an integer.

`python -m clvr_core.schema` writes it to clvr_core/trajectory.schema.json.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .brief import LIMITS, MAX_PROMPT, MAX_SIDE, Brief, Budget
from .records import ABSENT, to_json
from .run.journal import EVENTS
from .run.lines import DECISIONS, REWIND
from .run.loop import RESULTS
from .trajectory import SCHEMA, Trajectory

FILE = Path(__file__).with_name("trajectory.schema.json")
DRAFT = "https://json-schema.org/draft/2020-12/schema"

RANGES: dict[str, dict[str, Any]] = {
    "Trajectory.schema": {"minimum": 1, "maximum": SCHEMA},
    "Brief.prompt": {"pattern": r"\S", "maxLength": MAX_PROMPT},
    "Brief.seed": {"minimum": 0, "maximum": 2**63 - 1},
    "Brief.width": {"minimum": 1, "maximum": MAX_SIDE},
    "Brief.height": {"minimum": 1, "maximum": MAX_SIDE},
    "Brief.candidates": {"minimum": 1, "maximum": 64},
    "Budget.met": {"exclusiveMinimum": 0, "maximum": 1},
    "Budget.unmet": {"minimum": 0, "exclusiveMaximum": 1},
    **{f"Budget.{limit}": {"exclusiveMinimum": 0} for limit in (*LIMITS, "tolerance", "depth")},
}
"""What the constructors check beyond the type of a field."""


def trajectory_schema() -> dict[str, Any]:
    """The whole document, as parsed JSON."""
    definitions: dict[str, Any] = {}
    root = _reference(Trajectory, definitions)
    lines = _lines(definitions)
    names = sorted(lines)
    definitions["Line"] = {
        "description": "One line of trajectory.jsonl. Lines of other events come from later versions; readers skip them.",
        "type": "object",
        "properties": {"event": {"type": "string"}},
        "required": ["event"],
        "oneOf": [
            *({"$ref": f"#/$defs/{_line_name(event)}"} for event in names),
            {"properties": {"event": {"not": {"enum": names}}}},
        ],
    }
    definitions |= {_line_name(event): lines[event] for event in names}
    return {"$schema": DRAFT, "title": "CLVR trajectory", **root, "$defs": dict(sorted(definitions.items()))}


def text() -> str:
    """The document as the file holds it."""
    return json.dumps(trajectory_schema(), indent=2) + "\n"


def _line_name(event: str) -> str:
    return f"Line.{event}"


def _lines(definitions: dict[str, Any]) -> dict[str, Any]:
    """Event -> schema of its line. Adds the records that the lines hold to `definitions`."""
    version = definitions["Trajectory"]["properties"]["schema"]
    fields = {name: _named(name, definitions) for name in ("models", "prompts")}
    lines = {
        "start": _line(
            "start",
            "The first line: the brief, and the models and prompt versions that work on it.",
            {"schema": version, "brief": _reference(Brief, definitions), **fields},
            ("brief",),
        ),
        REWIND: _line(
            REWIND,
            "Takes back all but the first `keep` of the lines that stand before it; the run goes on under this budget.",
            {"keep": {"type": "integer", "minimum": 1}, "budget": _reference(Budget, definitions)},
            ("keep",),
        ),
    }
    for call, event in EVENTS.items():
        by = {"type": "string", "description": "Name of the node that made the result, in a run of single-step nodes."}
        result = _reference(RESULTS[call], definitions)
        lines[event] = _line(event, f"Result of the call {call.__name__}.", {"result": result, "by": by}, ("result",))
    for event, names in DECISIONS.items():
        carried = {name: _named(name, definitions) for name in ("warnings", "overhead", *names)}
        lines[event] = _line(event, "A decision: the fields of the trajectory that are new or changed.", carried)
    return lines


def _named(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of this field of a trajectory."""
    return definitions["Trajectory"]["properties"][name]


def _line(event: str, description: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "properties": {"event": {"const": event}, **properties},
        "required": ["event", *required],
    }


def _reference(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """Adds the dataclass and all that its fields hold to `definitions`."""
    name = cls.__name__
    if name not in definitions:
        definitions[name] = {}  # a record may hold its own kind
        definitions[name] = _record(cls, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _record(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, (about, words) = typing.get_type_hints(cls), descriptions(cls)
    properties, required = {}, []
    for field in dataclasses.fields(cls):
        # A limit applies only to values of its own type: null passes where it may stand.
        schema = {**_type(hints[field.name], definitions), **RANGES.get(f"{cls.__name__}.{field.name}", {})}
        if field.name in words:
            schema = {"description": words[field.name], **schema}
        if ABSENT in field.metadata:
            schema = {**schema, "default": to_json(field.metadata[ABSENT])}
        elif field.default is not dataclasses.MISSING:
            schema = {**schema, "default": to_json(field.default)}
        elif field.default_factory is not dataclasses.MISSING:
            schema = {**schema, "default": to_json(field.default_factory())}
        else:
            required.append(field.name)
        properties[field.name] = schema
    described = {"description": about} if about else {}
    return {**described, "type": "object", "properties": properties, **({"required": required} if required else {})}


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Raises TypeError for a hint that clvr_core/records.py does not read either."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        some = [_type(arg, definitions) for arg in args if arg is not type(None)]
        if len(some) != 1 or len(some) == len(args):
            raise TypeError(f"{hint}: a field is of one type, or of one type or None")
        if isinstance(some[0].get("type"), str) and "enum" not in some[0]:
            return {**some[0], "type": [some[0]["type"], "null"]}
        return {"anyOf": [*some, {"type": "null"}]}
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin is tuple and args[-1] is Ellipsis:
        return {"type": "array", "items": _type(args[0], definitions)}
    if origin is tuple and len(set(args)) == 1:
        return {"type": "array", "items": _type(args[0], definitions), "minItems": len(args), "maxItems": len(args)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _type(args[1], definitions)}
    if dataclasses.is_dataclass(hint):
        return _reference(typing.cast(type, hint), definitions)
    if hint not in _PLAIN:
        raise TypeError(f"{hint} has no JSON Schema here")
    return {"type": _PLAIN[hint]}


_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number"}


def descriptions(cls: type) -> tuple[str, dict[str, str]]:
    """What the docstring says of the class, and of each field that it lists as `name: words` or `one, other: words`."""
    text, names = inspect.cleandoc(cls.__doc__ or ""), [field.name for field in dataclasses.fields(cls)]
    if text.startswith(f"{cls.__name__}("):  # written by @dataclass
        return "", {}
    name = "|".join(map(re.escape, names))
    parts = re.split(rf"(?:^|(?<=\s))((?:{name})(?:, (?:{name}))*)(?:, [\w ,]+)?:\s", text)
    about = _one_line(parts[0])
    return about, {
        each: _one_line(words) for listed, words in zip(parts[1::2], parts[2::2]) for each in listed.split(", ")
    }


def _one_line(words: str) -> str:
    return re.sub(r"\bNone\b", "null", " ".join(words.split()))


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8", newline="\n")
