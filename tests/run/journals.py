"""Journals that the readers in Python and in JavaScript are tested against, and the trajectory that each of them tells.

    python -m tests.run.journals          write what the Python reader makes of each stored journal
    python -m tests.run.journals NAME...  play these runs anew first; the stored ones are kept as they were written, like a user's

Each folder NAME of tests/data/trajectories holds `trajectory.jsonl` and `expected.json`, in which no field is left out.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clvr_core.brief import Budget, Goal
from clvr_core.run.run_folder import JOURNAL, RunFolder, read_trajectory
from clvr_core.run.session import RunModels, Session, drive, go_on
from clvr_core.run.start_image import beginning_with
from clvr_core.trajectory import Remark
from tests.fakes import FakeExecutor, grey
from tests.run.script import END, VALIDATE, a_brief, drafts, edit, generate, scripted

FOLDER = Path(__file__).parents[1] / "data" / "trajectories"
EXPECTED = "expected.json"

GOALS = (
    Goal("g1", "a barn", check="Is there a barn?", area=(0.0, 0.0, 0.5, 1.0)),
    Goal("g2", "the barn stands left of the cat", "layout", feasibility=0.5, conflicts_with=("g3",)),
    Goal("g3", "soft light", "global", need="nice"),
)


def expected(folder: Path) -> dict[str, Any]:
    """The trajectory in the folder with all its fields, as parsed JSON."""
    return json.loads(json.dumps(dataclasses.asdict(read_trajectory(folder))))


def nice_missed(folder: Path) -> None:
    """The nice goal is missed and the brief met all the same."""
    goals = tuple(dataclasses.replace(goal, conflicts_with=()) for goal in GOALS)
    script = scripted([generate(), edit(goals=["g2"])], {0: "muu", 1: "mmu"})
    play(folder, script, goals=goals, budget=Budget(rounds=2))


def rolled_back(folder: Path) -> None:
    """Two edits in a row are rolled back, the controller ends too early, and a comparison chooses the one-shot picture."""
    cut = {"kind": "EDIT", "edit_prompt": "paint the barn red", "references": [0], "region": [0, 0.25, 0.5, 1.0]}
    actions = [generate(goals=["g1"]), edit(), cut, END, edit("add a moon")]
    canvases = {0: "mmu", 1: "muu", 2: "m?e", 3: "mmm", 4: "mmm"}
    script = scripted(actions, canvases, edits={1: (0.2, 0.3), 2: (None, None)}, prefers=4)
    play(folder, script, final_ab=True, budget=Budget(patience=5))


def reviewed(folder: Path) -> None:
    """The artist wishes, corrects, drops a goal, paints a mask, goes back and stops the run."""
    remarks = [
        (Remark(0, words="warmer light"), None),
        (Remark(0, corrected={"g2": "met"}), np.full((8, 8), 255, np.uint8)),
        (Remark(0, dropped=("g3",), back_to=0), None),
        (Remark(0, "stop"), None),
    ]
    script = scripted(
        [generate(), edit(), edit("warm it up"), edit("add a cat, warmly")], dict.fromkeys(range(4), "muum")
    )
    script._decisions = by_the_goal(script._decisions)
    play(folder, script, reviewer=lambda trajectory: remarks.pop(0), budget=Budget(rounds=6, patience=4))


def by_the_goal(decisions: Callable) -> Callable:
    """Answers questions about a wish of the artist with yes, and passes the others on."""

    def answer(images, questions):
        wishes = [question.data.get("goal", {}).get("id", "").startswith("a") for question in questions]
        others = [question for question, wish in zip(questions, wishes) if not wish]
        answers = iter(decisions(images, others) if others else ())
        return [0.9 if wish else next(answers) for wish in wishes]

    return answer


def validated(folder: Path) -> None:
    """A second look clears up what the judge left open on the first canvas."""
    play(folder, scripted([generate(), VALIDATE, edit()], {0: ["m?e", "mmu"], 1: "mmm"}))


def given(folder: Path) -> None:
    """The run begins from a picture of the artist."""
    picture = grey(10)
    brief = beginning_with(a_brief(), picture)
    # FakeExecutor begins with the same grey, which the script takes for canvas 0.
    script = scripted([edit("add a cat", 0)], {0: "mmu", 1: "mmm"})
    executor = FakeExecutor([grey(20)])
    drive(Session(brief, RunModels(script, executor), RunFolder.create(folder), picture=picture))


def rewound(folder: Path) -> None:
    """Stopped by its budget of rounds, then gone on with under a larger one."""
    script = {"actions": [generate(), edit(), edit("more")], "canvases": {0: "muu", 1: "mmu", 2: "mmm"}}
    play(folder, scripted(**script), budget=Budget(rounds=2))
    rest = scripted([edit("more")], script["canvases"])
    executor = FakeExecutor([grey(30)])
    drive(go_on(RunFolder.open(folder), RunModels(rest, executor), Budget(rounds=4, met=0.65)))


def unfinished(folder: Path) -> None:
    """Killed while the second canvas was judged, in the middle of a line."""
    play(folder, scripted([generate(), edit()], {0: "muu", 1: "mmm"}, goals=[drafts(3, kind="text")]))
    lines = (folder / JOURNAL).read_bytes().split(b"\n")
    drawn = [number for number, line in enumerate(lines) if b'"event":"drawn"' in line][1]
    (folder / JOURNAL).write_bytes(b"\n".join([*lines[: drawn + 1], lines[drawn + 1][:40]]))


def measured(folder: Path) -> None:
    """An edit of an edit, each with what it changed on the pixels."""
    play(folder, scripted([generate(), edit(), edit("more", 1)], {0: "muu", 1: "mmu", 2: "mmm"}))


def play(folder: Path, script, *, reviewer=None, **brief: Any) -> None:
    drive(Session(a_brief(**brief), RunModels(script, FakeExecutor()), RunFolder.create(folder), reviewer=reviewer))


RUNS = {
    "nice-missed": nice_missed,
    "rolled-back": rolled_back,
    "reviewed": reviewed,
    "validated": validated,
    "given": given,
    "rewound": rewound,
    "unfinished": unfinished,
    "with-codes": rolled_back,
    "measured": measured,
}
"""All but `with-codes` and `measured` were written before there were codes beside the sentences."""


def without_clock(line: bytes) -> bytes:
    """The line with each time span set to a quarter of a second; a line that is not whole as it is."""

    def still(value: Any) -> Any:
        if isinstance(value, list):
            return [still(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: dict.fromkeys(item, 0.25) if key == "seconds" and isinstance(item, dict) else still(item)
            for key, item in value.items()
        }

    try:
        return json.dumps(still(json.loads(line)), ensure_ascii=False, separators=(",", ":")).encode()
    except ValueError:
        return line


def main(names: list[str]) -> None:
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            RUNS[name](Path(temporary) / "run")
            journal = (Path(temporary) / "run" / JOURNAL).read_bytes()
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        (FOLDER / name).mkdir(parents=True)
        (FOLDER / name / JOURNAL).write_bytes(b"\n".join(map(without_clock, journal.split(b"\n"))))
    for folder in sorted(path for path in FOLDER.iterdir() if path.is_dir()):
        (folder / EXPECTED).write_text(json.dumps(expected(folder), indent=1) + "\n", "utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
