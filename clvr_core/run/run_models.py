"""The models of one run, passed together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..protocols import Executor, PromptWindow, ReferenceLimit, Vlm
from ..text import without_folder


@dataclass(frozen=True)
class RunModels:
    """
    vlm: drafts the goals and chooses the actions.
    executor: draws and edits.
    judge: answers the questions about the pictures; None if `vlm` does that too.
    """

    vlm: Vlm
    executor: Executor
    judge: Vlm | None = field(default=None, kw_only=True)

    @property
    def verifier(self) -> Vlm:
        """The model that judges."""
        return self.judge or self.vlm

    @property
    def names(self) -> dict[str, str]:
        """Role -> name of its model, as a journal's first line records them."""
        return {"controller": self.vlm.name, "verifier": self.verifier.name, "executor": self.executor.name}

    # A look at a protocol takes as long as the rest of a round's composition, so each is taken once.
    @cached_property
    def window(self) -> PromptWindow | None:
        """The executor, if it says how much of a prompt it reads."""
        return self.executor if isinstance(self.executor, PromptWindow) else None

    @cached_property
    def limit(self) -> ReferenceLimit | None:
        """The executor, if it says how many references it takes."""
        return self.executor if isinstance(self.executor, ReferenceLimit) else None


def same_models(recorded: Any, names: Mapping[str, str]) -> bool:
    """Whether the models that a journal's first line records are those of these names.

    Earlier versions recorded the whole path where a server names its model by one.
    """
    if not isinstance(recorded, dict) or not all(isinstance(name, str) for name in recorded.values()):
        return False
    return {role: without_folder(name) for role, name in recorded.items()} == names or recorded == names


def of_former_world(recorded: Any) -> bool:
    """Whether a journal's first line records models of the shapes world, which version 0.1 had."""
    return isinstance(recorded, dict) and any(str(name).partition(" ")[0] == "shapes" for name in recorded.values())
