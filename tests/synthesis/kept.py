"""A small data set of kept runs, as `clvr synthesize` leaves it, made by a script."""

from __future__ import annotations

import json
from pathlib import Path

from clvr_core.brief import Budget
from clvr_core.records import to_json
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.synthesis.data import Row
from clvr_core.synthesis.engine import DECISIONS, RUNS, SETTINGS, Decision
from tests.fakes import FakeExecutor
from tests.run.script import a_brief, edit, generate, scripted

ACTIONS = (
    generate("a barn", goals=["g1"], summary="I begin with the barn."),
    edit("add a dog", 0, goals=["g2"], summary="The cat is missing."),
    edit("add a cat", goals=["g2"], summary="I tried a dog; now the cat.", region=[0.5, 0.0, 1.0, 0.5]),
    edit("hang a moon", goals=["g3"], summary="The moon is missing."),
)
"""The second is rolled back."""
SEEN = {0: "muu", 1: "uuu", 2: "mmu", 3: "mmm"}


def save_kept(folder: Path, count: int = 2, side: int = 64, **brief) -> Path:
    """Write a data set of so many runs, all kept but one more, which is rejected."""
    decisions = []
    for number in range(count + 1):
        name = f"{number:06d}"
        models = RunModels(scripted(ACTIONS, SEEN), FakeExecutor())
        fields = {"width": side, "height": side, "seed": number, "budget": Budget(tolerance=None), **brief}
        end = drive(Session(a_brief(**fields), models, RunFolder.create(folder / RUNS / name)))
        row = Row(name, end.brief.prompt, number, (), "") if number < count else None
        decisions.append(
            Decision(name, end.brief.prompt, number, "", 4, 4, 16, 9, row, "kept" if row else "comparison")
        )
    lines = "".join(json.dumps(to_json(each)) + "\n" for each in decisions)
    (folder / DECISIONS).write_text(lines)
    (folder / SETTINGS).write_text(json.dumps({"prompts": [each.prompt for each in decisions]}))
    return folder
