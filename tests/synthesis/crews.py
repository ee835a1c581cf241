"""What workers in processes of their own load, which must find it in a module."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clvr_core.errors import BadInput
from clvr_core.models.registry import Models
from clvr_core.stickers import CANVAS
from tests.stickers.oracle import OracleExecutor, load_vlm


class BadAtOnce(OracleExecutor):
    """Draws four things at once at most, as a small model does; edits are right."""

    def _scene(self, request):
        scene = super()._scene(request)
        return scene if request.references else replace(scene, things=scene.things[:4])


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
