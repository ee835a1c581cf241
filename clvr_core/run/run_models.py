"""The models of one run, passed together."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..protocols import Executor, Vlm


@dataclass(frozen=True, slots=True)
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
