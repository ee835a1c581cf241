"""GenEval and LGBench in the words of the sticker world, so that their whole course runs without a download."""

from __future__ import annotations

from pathlib import Path

from ...errors import BadInput
from ..names import EMBEDDED_GENEVAL, EMBEDDED_LGBENCH
from .base import Item
from .geneval import GenEval
from .lgbench import LgBench

SHIPPED = Path(__file__).parent
"""Where the list lies that comes with this package."""


class EmbeddedGenEval(GenEval):
    """GenEval's six tasks in words of the sticker world: the list that is shipped, or those prompts of the user's own
    GenEval file whose words the world knows. Each keeps the number that it has in its file."""

    name = "embedded-geneval"
    title = "GenEval's form in the sticker world"
    expected = None
    licence = "this project's own list; GenEval's own prompts are MIT"
    files = (EMBEDDED_GENEVAL, *GenEval.files)
    notes = (
        "the prompts are this project's own, or those of GenEval that the sticker world can read, and its pictures are of 192 px: never "
        "comparable with a number of GenEval",
        *GenEval.notes[:2],
    )

    def read(self, folder: Path) -> list[Item]:
        from ..sticker_prompts import knows

        items = [item for item in super().read(folder) if knows(item.record)]
        if not items:
            raise BadInput(
                f"{self.find(folder)[0]} has no prompt whose words the sticker world knows; leave --data out for the list that is shipped"
            )
        return items


class EmbeddedLgBench(LgBench):
    """Long briefs of the sticker world, as `clvr eval compose lgbench` writes them."""

    name = "embedded-lgbench"
    title = "LGBench's form in the sticker world"
    expected = None
    licence = "this project's own"
    files = (EMBEDDED_LGBENCH,)
    notes = (
        "the briefs are this project's own, of 10 to 22 goals of the sticker world; goal success pools the goals of all tasks",
    )
