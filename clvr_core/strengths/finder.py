"""Runs a search: draws, asks the judge, and writes each result to the folder before the next one begins.

FOLDER/search.jsonl   what was decided, one line each: the goals of each brief, each picture, each comparison
FOLDER/*.png          the pictures, and sheet.png, the contact sheet
FOLDER/search.json    the ranking
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..brief import Brief, Goal
from ..controller import draft_goals
from ..errors import BadInput, JudgeFailure
from ..protocols import DrawRequest, Executor, Picture, Vlm
from ..records import from_json, to_json
from ..report.sheet import contact_sheet
from ..storage.atomic import write_bytes, writing
from ..storage.lines import Lines
from ..storage.pictures import DECODING_ERRORS, opened, pixels
from ..verifier import compare
from .grid import Compared, Pair, Position, Space, Standing, Strengths, final_ranking, position

JOURNAL, RESULT, SHEET = "search.jsonl", "search.json", "sheet.png"
CELL = 384
"""Pixels of the longer side of a picture on the contact sheet, at most."""
LEFT_OUT = (232, 232, 230)
"""Colour of the places on the sheet where nothing was drawn."""

PATIENCE = 6
"""Comparisons without an answer, one after another, after which the search ends."""

ExecutorAt = Callable[[Strengths], Executor]
"""Returns an executor that draws with the weights of these strengths, until it is called again."""
Progress = Callable[[int, int, str], Any]
"""Called with the steps done, the most there can be, and what is done next in words. What it raises ends the search."""


@dataclass(frozen=True)
class Found:
    """The result of a search.

    best: the strengths that won.
    standings: of all points, the best first.
    comparisons, unanswered: how many were made, and how many of these got no answer.
    rounds: that were drawn, of the space's.
    nfe: transformer evaluations of all pictures.
    sheet: the contact sheet, uint8 H x W x 3: a row for each point, the best first, a column for each picture.
    warnings: sentences for the user.
    """

    best: Strengths
    standings: tuple[Standing, ...]
    comparisons: int
    unanswered: int
    rounds: int
    nfe: int
    sheet: Picture
    warnings: tuple[str, ...] = field(default=())


def search(
    space: Space,
    executor_at: ExecutorAt,
    vlm: Vlm,
    folder: Path,
    key: str,
    width: int,
    height: int,
    progress: Progress = lambda done, most, said: None,
) -> Found:
    """Search the grid, or go on with the search that `folder` holds.

    executor_at: see `ExecutorAt`.
    vlm: drafts the goals of each brief and compares.
    folder: for the pictures and the journal; made if it is missing.
    key: says what is merged and by whom it is judged; a folder of another key is not gone on with.
    width, height: of the pictures, in pixels.

    A comparison without an answer is asked again when the search is gone on with. Raises BadInput for a folder of
    another search, JudgeFailure if no comparison was answered or PATIENCE in a row were not, Away if the judge stays
    away, and what `progress` and `executor_at` raise; the folder then holds all that was done.
    """
    return _Search(space, executor_at, vlm, folder, key, width, height, progress).run()


class _Search:
    def __init__(
        self,
        space: Space,
        executor_at: ExecutorAt,
        vlm: Vlm,
        folder: Path,
        key: str,
        width: int,
        height: int,
        progress: Progress,
    ) -> None:
        self.space, self.executor_at, self.vlm, self.folder = space, executor_at, vlm, folder
        self.width, self.height, self.progress = width, height, progress
        self.lines = Lines(folder / JOURNAL)
        self.warnings: list[str] = []
        head = {"v": 1, "kind": "search", "key": key, "space": to_json(space), "size": [width, height]}
        if not self.lines.lines:
            self.lines.append(head)
        elif self.lines.lines[0] != head:
            raise BadInput(
                f"{folder} holds another search (other files, strengths, briefs, seeds or models); choose another folder or remove it"
            )
        self.drawn: dict[tuple[int, int, int], str] = {}
        self.made: dict[Pair, Compared] = {}
        self.goals: dict[int, tuple[Goal, ...]] = {}
        self.nfe, self.silent = 0, 0
        for line in self.lines.lines[1:]:
            self._read(line)

    def _read(self, line: dict[str, Any]) -> None:
        try:
            if line["kind"] == "drawn":
                self.drawn[line["point"], line["round"], line["brief"]] = str(line["file"])
                self.nfe += int(line["nfe"])
            elif line["kind"] == "goals":
                self.goals[line["brief"]] = tuple(from_json(Goal, goal, "goals") for goal in line["goals"])
            elif line["kind"] == "compared" and line["winner"] in (0, 1, -1):
                pair = from_json(Pair, line["pair"], "pair")
                self.made[pair] = Compared(pair, line["winner"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{self.lines.path} is damaged ({str(error)[:80]}); remove the folder") from error

    def run(self) -> Found:
        while not (now := position(self.space, self.made.values())).over:
            self._draft()
            for point in now.left:
                self._draw(now, point)
            for pair in now.missing:
                self._compare(pair, now)
        return self._found(now)

    def _say(self, what: str) -> None:
        """Count drafts, pictures and comparisons, of the most there can be."""
        done = len(self.goals) + len(self.drawn) + len(self.made)
        space = self.space
        most = len(space.briefs) * (1 + len(space.points) * len(space.seeds)) + space.most_comparisons
        self.progress(done, most, what)

    def _draft(self) -> None:
        """Have the goals of the briefs written, by which the judge compares."""
        for number, prompt in enumerate(self.space.briefs):
            if number in self.goals:
                continue
            self._say(f"goals of brief {number + 1}")
            answer = draft_goals(self.vlm, Brief(prompt, width=self.width, height=self.height))
            if answer.value is None:
                self.warnings.append(
                    f"no goals were written for brief {number + 1} ({answer.failure}); the judge compares by its words alone"
                )
            self.goals[number] = answer.value or ()
            if answer.value:
                self.lines.append({"kind": "goals", "brief": number, "goals": to_json(answer.value)})

    def _draw(self, now: Position, point: int) -> None:
        missing = [brief for brief in range(len(self.space.briefs)) if (point, now.round, brief) not in self.drawn]
        if not missing:
            return
        strengths, seed = self.space.points[point], self.space.seeds[now.round]
        self._say(f"round {now.round + 1} of {len(self.space.seeds)}: drawing {self.space.words(point)}")
        requests = [
            DrawRequest(self.space.briefs[brief], seed, width=self.width, height=self.height) for brief in missing
        ]
        for brief, drawing in zip(missing, self.executor_at(strengths).draw(requests)):
            name = f"point-{point:02}-round-{now.round + 1}-brief-{brief + 1}.png"
            self._keep(name, drawing.picture)
            self.drawn[point, now.round, brief] = name
            self.nfe += drawing.nfe
            self.lines.append(
                {"kind": "drawn", "point": point, "round": now.round, "brief": brief, "file": name, "nfe": drawing.nfe}
            )

    def _keep(self, name: str, picture: Picture) -> None:
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG")
        with writing(self.folder / name):
            write_bytes(self.folder / name, data.getvalue())

    def _picture(self, point: int, round_: int, brief: int) -> Picture:
        path = self.folder / self.drawn[point, round_, brief]
        try:
            with opened(path.read_bytes()) as image:
                return pixels(image)
        except DECODING_ERRORS as error:
            raise BadInput(f"{path} cannot be read ({str(error)[:80]}); remove the folder {self.folder}") from error

    def _compare(self, pair: Pair, now: Position) -> None:
        self._say(
            f"round {now.round + 1} of {len(self.space.seeds)}: comparing {len(now.left)} points, "
            f"{len(now.missing)} comparisons"
        )
        brief = Brief(self.space.briefs[pair.brief], width=self.width, height=self.height)
        first, second = (self._picture(point, pair.round, pair.brief) for point in (pair.first, pair.second))
        answer = compare(self.vlm, brief, self.goals.get(pair.brief, ()), first, second)
        self.made[pair] = Compared(pair, answer.value, answer.failure)
        self.lines.append({"kind": "compared", "pair": asdict(pair), "winner": answer.value, "failure": answer.failure})

        self.silent = 0 if answer.value is not None else self.silent + 1
        if self.silent == PATIENCE:
            raise JudgeFailure(
                f"the judge gave no answer {PATIENCE} times in a row ({answer.failure}), so no strengths were chosen; run again to go on"
            )

    def _found(self, now: Position) -> Found:
        made = list(self.made.values())
        failures = [each.failure for each in made if each.winner is None]
        if len(failures) == len(made):
            raise JudgeFailure(
                f"the judge answered none of {len(made)} comparisons ({failures[0]}), so no strengths were chosen; run again to ask it anew"
            )
        if failures:
            self.warnings.append(
                f"{len(failures)} of {len(made)} comparisons got no answer and count for nobody ({failures[0]}); run again to ask them anew"
            )
        standings = final_ranking(self.space, made)
        if all(each.winner in (-1, None) for each in made):
            self.warnings.append("the judge saw no difference anywhere; the first point of the grid stands first")
        rounds = 1 + max(number for _, number, _ in self.drawn)
        sheet = self._sheet(standings)
        self._keep(SHEET, sheet)
        best = self.space.points[standings[0].point]
        found = Found(best, tuple(standings), len(made), len(failures), rounds, self.nfe, sheet, tuple(self.warnings))
        result = {
            "v": 1,
            "best": asdict(best),
            "standings": [asdict(self.space.points[each.point]) | asdict(each) for each in standings],
            "comparisons": found.comparisons,
            "unanswered": found.unanswered,
            "rounds": rounds,
            "nfe": self.nfe,
            "warnings": self.warnings,
        }
        with writing(self.folder / RESULT):
            write_bytes(self.folder / RESULT, (json.dumps(result, indent=1) + "\n").encode())
        return found

    def _sheet(self, standings: Sequence[Standing]) -> Picture:
        longest = max(self.width, self.height)
        factor = -(-longest // CELL)
        columns = [
            (round_, brief) for round_ in range(len(self.space.seeds)) for brief in range(len(self.space.briefs))
        ]
        columns = [place for place in columns if any((each.point, *place) in self.drawn for each in standings)]
        blank = np.full((self.height // factor, self.width // factor, 3), LEFT_OUT, np.uint8)
        cells = []
        for number, each in enumerate(standings, 1):
            counts = f"{each.won} won, {each.tied} tied, {each.lost} lost"
            counts += f", {each.unanswered} unanswered" if each.unanswered else ""
            words = f"{number}. {self.space.words(each.point)}: {counts};"
            for round_, brief in columns:
                there = (each.point, round_, brief) in self.drawn
                picture = _reduced(self._picture(each.point, round_, brief), factor) if there else blank
                place = f"brief {brief + 1}, seed {self.space.seeds[round_]}" if there else "left before"
                cells.append((picture, f"{words} {place}" if (round_, brief) == columns[0] else place))
        return contact_sheet(cells, len(columns), max(1, CELL // 2 // longest))


def _reduced(picture: Picture, factor: int) -> Picture:
    return np.asarray(Image.fromarray(picture).reduce(factor)) if factor > 1 else picture


def summary_of(found: Found, space: Space) -> str:
    """Return the ranking in words, one line a point."""
    lines = [
        f"{found.comparisons} comparisons in both orders, {found.unanswered} without an answer; "
        f"{found.rounds} of {len(space.seeds)} rounds; {found.nfe} evaluations"
    ]
    for number, each in enumerate(found.standings, 1):
        lines.append(
            f"{number:>3}. {space.words(each.point)}: {each.won} won, {each.tied} tied, {each.lost} lost, strength {each.strength:.3g}"
        )
    return "\n".join([*lines, *(f"warning: {warning}" for warning in found.warnings)])
