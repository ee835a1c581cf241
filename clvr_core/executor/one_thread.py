"""Keeps the calls of several threads apart: a pipeline of diffusers has the state of one call, and a tokenizer that is
padding for one thread counts for no other."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


def for_one_thread(method: Callable[Concatenate[Any, Given], Result]) -> Callable[Concatenate[Any, Given], Result]:
    """Make a method of an executor wait until the executor's lock, `_alone`, is free."""

    @wraps(method)
    def alone(self: Any, *given: Given.args, **named: Given.kwargs) -> Result:
        with self._alone:
            return method(self, *given, **named)

    return alone
