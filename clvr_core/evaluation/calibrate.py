"""Measures how often each witness is right, on pictures of which a person has said what holds.

Those are the artist's own corrections in the runs of a folder, and the lines of its labels.jsonl:

    {"picture": "shop.png", "goal": "a sign that says \"OPEN\"", "kind": "text", "holds": true}
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ..brief import Goal, GoalKind
from ..errors import BadInput
from ..protocols import Picture, Vlm
from ..records import from_json
from ..run.lines import standing
from ..run.run_folder import JOURNAL, RunFolder, trajectory_from
from ..text import one_line
from ..verifier.counting import counted
from ..witness import HEARD, SURE, Witnesses
from ..witness.reliability import LEAST, Reliability

LABELS = "labels.jsonl"
MAX_LABELS = 100_000


@dataclass(frozen=True)
class Label:
    """Whether a goal holds on a picture.

    where: names the picture; labels of one picture follow each other.
    load: reads it, uint8 H x W x 3.
    """

    where: str
    load: Callable[[], Picture]
    goal: Goal
    holds: bool


@dataclass(frozen=True)
class _Line:
    picture: str
    goal: str
    holds: bool
    kind: GoalKind = "local"


def read_labels(folder: Path) -> list[Label]:
    """Return the labels of a folder: of its labels.jsonl, of it as a run, and of the runs in it.

    Raises BadInput if there are none, or a file cannot be read.
    """
    found = [*_listed(folder)]
    for journal in sorted({folder / JOURNAL, *folder.glob(f"*/{JOURNAL}")}):
        if journal.is_file():
            found += _corrected(journal.parent)
    if not found:
        raise BadInput(
            f"{folder} has no {LABELS}, and no run in it in which a verdict was corrected; correct verdicts in a review, or "
            'write lines such as {"picture": "shop.png", "goal": "three cups", "holds": false}'
        )
    return found


def _listed(folder: Path) -> Iterator[Label]:
    from .store import read_picture

    try:
        lines = (folder / LABELS).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder / LABELS} cannot be read ({error})") from error
    if len(lines) > MAX_LABELS:
        raise BadInput(f"{folder / LABELS} has {len(lines):,} lines; at most {MAX_LABELS:,} are read")
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = from_json(_Line, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{folder / LABELS}, line {number}: {one_line(str(error), 300)}") from error
        picture = folder / line.picture
        if not picture.resolve().is_relative_to(folder.resolve()):
            raise BadInput(f"{folder / LABELS}, line {number}: {line.picture!r:.80} lies outside the folder")
        goal = Goal(f"g{number}", line.goal, line.kind)
        yield Label(line.picture, lambda picture=picture: read_picture(picture), goal, line.holds)


def _corrected(path: Path) -> Iterator[Label]:
    """The verdicts that the artist gave in a run, each on the canvas that was current then."""
    folder = RunFolder.open(path)
    try:
        lines, _ = standing(folder.lines)
        for place, line in enumerate(lines):
            remarks = line.get("remarks") if line["event"] == "remarked" else None
            if not remarks:
                continue
            trajectory = trajectory_from(lines[: place + 1])
            canvas, corrected = trajectory.current, trajectory.remarks[-1].corrected
            if canvas is None or not corrected:
                continue
            sha256 = trajectory.candidate(canvas).sha256
            load = lambda folder=folder, canvas=canvas, sha256=sha256: folder.picture(canvas, sha256)  # noqa: E731
            for goal, state in corrected.items():
                known = {each.id: each for each in trajectory.goals}.get(goal)
                if known is not None:
                    yield Label(f"{path.name}/{canvas}", load, known, state == "met")
    finally:
        folder.close()


def calibrate(
    labels: list[Label],
    witnesses: Witnesses,
    vlm: Vlm | None = None,
    progress: Callable[[int], object] = lambda n: None,
) -> dict[str, Reliability]:
    """Return, by name of a witness, how often it was right where it had something to say.

    vlm: is asked for its count, if the witnesses have it.
    """
    found = {name: Reliability() for name in witnesses.kinds.values()}
    done = 0
    for _, group in groupby(labels, key=lambda label: label.where):
        several = list(group)
        goals = {f"c{number}": label for number, label in enumerate(several)}
        asked = [_renamed(label.goal, name) for name, label in goals.items()]
        picture = several[0].load()
        own = counted(vlm, picture, asked).value if vlm is not None and witnesses.counts else None
        for name, findings in witnesses.look(picture, asked, own or {}).said.items():
            for finding in findings:
                witness = witnesses.kinds[finding.witness]
                found[witness] = found[witness].with_case(finding.says, goals[name].holds)
        done += len(several)
        progress(done)
    return found


def _renamed(goal: Goal, name: str) -> Goal:
    """The goal under an id that no other goal of the picture has."""
    return Goal(name, goal.text, goal.kind, goal.check)


def in_words(found: dict[str, Reliability]) -> str:
    """Say of each witness how often it was right, and what follows."""
    lines = []
    for name, each in found.items():
        for says, right, wrong in (("yes", each.yes_right, each.yes_wrong), ("no", each.no_right, each.no_wrong)):
            share = each.of(says)  # pyright: ignore[reportArgumentType]
            if share is None:
                follows = f"too few to tell, at least {LEAST} are needed"
            elif share < HEARD:
                follows = "is told and not counted"
            else:
                follows = "settles what the judge leaves open" if share >= SURE and says == "yes" else "is counted"
            lines.append(f"{name}: says {says}, right in {right} of {right + wrong}; {follows}")
    return "\n".join(lines)


def calibrate_command(options: argparse.Namespace) -> int:
    """Measure the witnesses that `--witness` names, or the models' own; keep what was found, and print it. Returns 0."""
    from ..models.registry import load_models
    from ..models.witnesses import load_witnesses, read_witnesses, reliability_file
    from ..witness.judge import Witnessed, without_witnesses
    from ..witness.reliability import write_reliability

    labels = read_labels(options.calibrate)
    witnesses = load_witnesses(read_witnesses(options.witness)) if options.witness else Witnesses()
    vlm: Any = None
    if witnesses.counts or not options.witness:
        judge = load_models(str(options.models or "shapes"), options.weights).verifier
        vlm = without_witnesses(judge)
        witnesses = witnesses or (judge.witnesses if isinstance(judge, Witnessed) else witnesses)
    if not witnesses.kinds:
        raise BadInput(
            "there is no witness to measure; name some, such as --witness text, or a clvr.toml that has them"
        )
    found = calibrate(labels, witnesses, vlm)
    write_reliability(reliability_file(), found)
    if options.json:
        print(json.dumps({name: asdict(each) for name, each in found.items()}))
    else:
        print(f"{in_words(found)}\nkept in {reliability_file()}, for every run from now on")
    return 0
