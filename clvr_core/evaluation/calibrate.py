"""Measures how often each witness is right, on pictures of which a person has said what holds.

Those are the artist's own corrections in the runs of a folder, and the lines of its labels.jsonl:

    {"picture": "shop.png", "goal": "a sign that says \"OPEN\"", "kind": "text", "holds": true}
    {"picture": "hill.png", "goal": "the face of ann is kept", "kind": "likeness", "reference": "ann.png", "holds": false}
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
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
from ..witness.likeness import LikenessWitness
from ..witness.reliability import LEAST, Reliability

LABELS = "labels.jsonl"
MAX_LABELS = 100_000


@dataclass(frozen=True)
class Label:
    """Whether a goal holds on a picture.

    where: names the picture; labels of one picture follow each other.
    load: reads it, uint8 H x W x 3.
    reference: reads the picture that a goal of likeness is about; None for other goals.
    """

    where: str
    load: Callable[[], Picture]
    goal: Goal
    holds: bool
    reference: Callable[[], Picture] | None = None


@dataclass(frozen=True)
class _Line:
    picture: str
    goal: str
    holds: bool
    kind: GoalKind = "local"
    reference: str = ""


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
        for name in (line.picture, line.reference):
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise BadInput(f"{folder / LABELS}, line {number}: {name!r:.80} lies outside the folder")
        load = lambda name: lambda: read_picture(folder / name)  # noqa: E731
        goal = Goal(f"g{number}", line.goal, line.kind, reference=line.reference)
        yield Label(
            line.picture, load(line.picture), goal, line.holds, load(line.reference) if line.reference else None
        )


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
                    named = {each.name: each.sha256 for each in trajectory.brief.references}
                    digest = named.get(known.reference, "")
                    shown = lambda folder=folder, name=known.reference, digest=digest: folder.reference(name, digest)  # noqa: E731
                    kept = shown if digest else None
                    yield Label(f"{path.name}/{canvas}", load, known, state == "met", kept)
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
        asked = [replace(label.goal, id=name) for name, label in goals.items()]
        references = {label.goal.reference: label.reference() for label in several if label.reference is not None}
        picture = several[0].load()
        own = counted(vlm, picture, asked).value if vlm is not None and witnesses.counts else None
        for name, findings in witnesses.look(picture, asked, own or {}, references).said.items():
            for finding in findings:
                witness = witnesses.kinds[finding.witness]
                found[witness] = found[witness].with_case(finding.says, goals[name].holds)
        done += len(several)
        progress(done)
    return found


def likeness_in_words(labels: list[Label], witness: LikenessWitness) -> str:
    """Say which similarity tells best apart what is alike and what is not, on labels that have a reference; "" without
    both kinds."""
    near: dict[bool, list[float]] = {True: [], False: []}
    for label in labels:
        if label.reference is not None:
            near[label.holds].append(witness.nearness(label.load(), label.reference()))
    if not near[True] or not near[False]:
        return ""

    def right(limit: float) -> float:
        """The mean of the shares that are told rightly, of what is alike and of what is not."""
        alike = sum(value >= limit for value in near[True]) / len(near[True])
        return (alike + sum(value < limit for value in near[False]) / len(near[False])) / 2

    best = max(sorted(near[True]), key=right)
    return (
        f"likeness: {min(near[True]):.2f} to {max(near[True]):.2f} where it holds, {min(near[False]):.2f} to {max(near[False]):.2f} "
        f"where it does not; from {best:.2f} on tells best, right in {right(best):.2f}"
    )


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
        judge = load_models(str(options.models or "embedded"), options.weights).verifier
        vlm = without_witnesses(judge)
        witnesses = witnesses or (judge.witnesses if isinstance(judge, Witnessed) else witnesses)
    if not witnesses.kinds:
        raise BadInput(
            "there is no witness to measure; name some, such as --witness text, or a clvr.toml that has them"
        )
    found = calibrate(labels, witnesses, vlm)
    write_reliability(reliability_file(), found)
    likeness = [likeness_in_words(labels, each) for each in witnesses.members if isinstance(each, LikenessWitness)]
    if options.json:
        print(json.dumps({name: asdict(each) for name, each in found.items()}))
    else:
        print(
            "\n".join(
                filter(None, (in_words(found), *likeness, f"kept in {reliability_file()}, for every run from now on"))
            )
        )
    return 0
