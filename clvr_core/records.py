"""Converts frozen dataclasses to JSON and back. Reading ignores unknown fields and takes defaults for missing ones.

A field whose default has changed since records were written keeps its first one as `metadata={ABSENT: value}`: a record
that leaves the field out means that value for ever.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from .text import shown

T = TypeVar("T")
PLAIN = (str, int, float, bool, type(None))
_EXACTLY = frozenset(PLAIN)
ABSENT = "absent"
"""Key in the metadata of a dataclass's field: what a record means that leaves the field out."""


def to_json(value: Any) -> Any:
    """Convert a value to what `json.dumps` takes: dataclasses to objects without fields that have the value which their
    absence means, tuples to lists.
    """
    cls = type(value)
    if cls in _EXACTLY or isinstance(value, PLAIN):
        return value
    if (defaults := _defaults(cls)) is not None:
        fields = {}
        for name, default in defaults:
            item = getattr(value, name)
            if item is not default and (default is dataclasses.MISSING or item != default):
                fields[name] = item if type(item) in _EXACTLY else to_json(item)
        return fields
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return value


@cache
def _defaults(cls: type) -> tuple[tuple[str, Any], ...] | None:
    """Name of each field and what its absence means; None for what is no dataclass."""
    if not dataclasses.is_dataclass(cls):
        return None
    return tuple((field.name, field.metadata.get(ABSENT, field.default)) for field in dataclasses.fields(cls))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def from_json(cls: type[T], data: Any, where: str = "") -> T:
    """Build the dataclass `cls` from parsed JSON. where: name of the data in errors; empty for the name of the class.

    Raises ValueError naming the field and the value found.
    """
    where = where or cls.__name__
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected an object, found {shown(data)}")
    hints, values = _hints(cls), {}
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]  # T is a dataclass
        if field.name in data:
            values[field.name] = _convert(hints[field.name], data[field.name], f"{where}.{field.name}")
        elif ABSENT in field.metadata:
            values[field.name] = field.metadata[ABSENT]
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}.{field.name} is missing")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(arg for arg in args if arg is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in args:
            raise ValueError(f"{where}: {shown(value)} is none of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, found {shown(value)}")
        if args[-1] is Ellipsis:
            return tuple(_convert(args[0], item, f"{where}[{index}]") for index, item in enumerate(value))
        if len(args) != len(value):
            raise ValueError(f"{where}: expected {len(args)} values, found {len(value)}")
        return tuple(_convert(arg, item, f"{where}[{index}]") for index, (arg, item) in enumerate(zip(args, value)))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected an object, found {shown(value)}")
        return {str(key): _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, value, where)
    if hint is Any:
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not abs(value) < 1e308:  # NaN, the infinities, and integers that no float holds
            raise ValueError(f"{where}: expected a finite number, found {shown(value, 40)}")
        return float(value)
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        raise ValueError(f"{where}: expected {hint.__name__}, found {shown(value)}")
    return value
