"""What workers in processes of their own load, which must find it in a module."""

from __future__ import annotations

from dataclasses import dataclass

from clvr_core.errors import BadInput
from clvr_core.models.registry import Models
from clvr_core.stickers import CANVAS
from clvr_core.stickers.grammar import parse
from tests.stickers.oracle import OracleExecutor, load_vlm


class BadAtOnce(OracleExecutor):
    """Draws wrongly what has more than four things, as a small model does; edits are right."""

    def _scene(self, request):
        self.fault = 1.0 if not request.references and parse(request.prompt).total > 4 else 0.0
        return super()._scene(request)


@dataclass(frozen=True)
class Sources:
    """Of the models, or of the second judge. unreadable: a prompt that they refuse."""

    second: bool = False
    unreadable: str = ""

    def load(self):
        if self.second:
            return load_vlm(seed=1)

        def check(prompt: str) -> None:
            if prompt == self.unreadable:
                raise BadInput(f"{prompt} is not to be read")

        return Models(load_vlm(), BadAtOnce(), CANVAS, CANVAS, check)
