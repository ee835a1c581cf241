"""Sessions of many edits in a row, in the form of LME-Bench (arXiv 2609.35611): each turn edits the picture of the turn
before it.

DATA/lme_bench.json   the sessions: id, category, turns and a label (hard, soft, local) of each turn
DATA/images/ID.png    the picture that a session begins from
IMAGES/NAME/ID/       source.png and turn1.png, turn2.png, ..., where the benchmark's own judge looks for them
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..protocols import Picture, Vlm
from ..run.start_image import fit_to_canvas
from ..storage.atomic import write_bytes, writing
from ..storage.png import read_png
from ..storage.png_encode import encode
from ..trajectory import Action
from ..verifier import check_edit
from .arms import Job, NotMade, Way
from .benchmarks.base import PICTURES, inside, mapping, need
from .statistics import wilson
from .store import read_picture, seed_of

FILES = ("lme_bench.json", "data/lme_bench.json", "benchmark/lme_bench.json")
AFTER = (3, 5, 8, 10)
"""Turns after which the share of sessions is told in which all were right so far."""
KEPT = 0.5
"""Probability that the rest was kept from which a turn counts as right."""


@dataclass(frozen=True, slots=True)
class EditSession:
    """source: path of the picture that it begins from. turns: the instructions, in order."""

    id: str
    category: str
    source: Path
    turns: tuple[str, ...]


def read_sessions(folder: Path) -> list[EditSession]:
    """Read LME-Bench from a folder. Raises BadInput naming the session and the field that cannot be read."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise BadInput(f"{folder} does not hold {FILES[0]}; get LME-Bench from its own place and name its folder")
    found: dict[str, EditSession] = {}
    for number, record in enumerate(need(mapping(path), "items", list, str(path)), 1):
        where = f"{path} session {number}"
        if not isinstance(record, dict):
            raise BadInput(f"{where} is {record!r:.60}; an object is expected")
        name = inside(need(record, "id", str, where), where)
        turns = need(record, "turns", list, where)
        if not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
            raise BadInput(f"{where}: turns is {turns!r:.60}; a list of instructions is expected")
        places = [base / "images" / f"{name}{ending}" for base in (path.parent, folder) for ending in PICTURES]
        source = next((place for place in places if place.is_file()), None)
        if source is None:
            raise BadInput(f"{where}: the picture {places[0]} is not there; get the images of the benchmark too")
        if name in found:
            raise BadInput(f"{where}: the id {name!r} is taken by an earlier session")
        found[name] = EditSession(name, str(record.get("category", "")), source, tuple(turns))
    if not found:
        raise BadInput(f"{path} holds no sessions")
    return list(found.values())


@dataclass(frozen=True)
class Sessions:
    """Carries out sessions by one arm, each turn on the picture of the turn before.

    way: makes the pictures. A loop has a run of its own for each turn.
    folder: of the pictures of this arm.
    side: a source with a larger area than this squared is scaled down to it.
    """

    way: Way
    folder: Path
    seed: int = 0
    side: int = 512
    parallel: int = 4

    def run(self, sessions: Sequence[EditSession], progress: Callable[[int, int, str], None]) -> list[tuple[str, str]]:
        """Draw what is not there yet. Returns the turns that were not drawn, with the reason; the turns after them are
        left out."""
        failed, done = [], 0
        total = sum(len(session.turns) for session in sessions)
        for start in range(0, len(sessions), self.parallel):
            some = sessions[start : start + self.parallel]
            pictures = {session.id: self._begin(session) for session in some}
            for turn in range(1, max(len(session.turns) for session in some) + 1):
                left = [each for each in some if each.id in pictures and turn <= len(each.turns)]
                for session, why in self._turn(left, turn, pictures):
                    failed.append((f"{session.id} turn {turn}", why))
                    del pictures[session.id]
                done += len(left)
                progress(done, total, "")
        return failed

    def _begin(self, session: EditSession) -> Picture:
        place = self.folder / session.id / "source.png"
        if place.is_file():
            return read_png(place)[0]
        picture = fit_to_canvas(read_picture(session.source), self.side, self.side, 16)
        return self._saved(place, picture)

    def _turn(
        self, sessions: Sequence[EditSession], turn: int, pictures: dict[str, Picture]
    ) -> Iterator[tuple[EditSession, str]]:
        """Draw one turn of these sessions and put its pictures in place of those before. Yields what was not drawn."""
        places = {session.id: self.folder / session.id / f"turn{turn}.png" for session in sessions}
        new = [session for session in sessions if not places[session.id].is_file()]
        for session in sessions:
            if session not in new:
                pictures[session.id] = read_png(places[session.id])[0]
        jobs = [
            Job(
                f"{session.id}-turn{turn}",
                session.turns[turn - 1],
                seed_of(str(self.seed), session.id, turn),
                pictures[session.id],
            )
            for session in new
        ]
        for session, job, made in zip(new, jobs, self.way.make(jobs)):
            if isinstance(made, NotMade):
                yield session, made.why
            else:
                pictures[session.id] = self._saved(places[session.id], made.picture)
                self.way.done(job)

    def _saved(self, place: Path, picture: Picture) -> Picture:
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(place, encode(picture))
        return picture


def judge_sessions(
    vlm: Vlm, sessions: Sequence[EditSession], folder: Path, progress: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """Judge each turn beside the picture before it: was the instruction carried out, and the rest kept? As in the
    benchmark a session is not judged after its first turn that was not right.

    Raises BadInput for a session whose pictures are not all there.
    """
    right: dict[str, int | None] = {}
    for number, session in enumerate(sessions, 1):
        right[session.id] = _turns_right(vlm, session, folder / session.id)
        progress(number, len(sessions), "")
    return success(right, max(len(session.turns) for session in sessions))


def _turns_right(vlm: Vlm, session: EditSession, folder: Path) -> int | None:
    """Return how many turns in a row are right from the first on; None if the judge gave no answer on the way."""
    files = [folder / "source.png", *(folder / f"turn{turn}.png" for turn in range(1, len(session.turns) + 1))]
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file} is not there; carry out the sessions first, with the same command without --judge")
    before = read_png(files[0])[0]
    for turn, words in enumerate(session.turns):
        after = read_png(files[turn + 1])[0]
        check, _, _ = check_edit(vlm, before, after, Action("EDIT", edit_prompt=words))
        if check.success is None or check.over_edit is None:
            return None
        if not check.success or check.over_edit > 1 - KEPT:
            return turn
        before = after
    return len(session.turns)


def success(right: Mapping[str, int | None], turns: int) -> dict[str, Any]:
    """Return the share of sessions with all turns right so far, after each turn, and its 95 % interval (Wilson's).

    right: session -> turns that were right in a row; None for one without an answer, which is left out.
    """
    known = [count for count in right.values() if count is not None]
    shares = {turn: sum(count >= turn for count in known) for turn in range(1, turns + 1)}
    return {
        "sessions": len(known),
        "unanswered": len(right) - len(known),
        "success": {str(turn): share / len(known) if known else None for turn, share in shares.items()},
        "ci95": {str(turn): [*wilson(share, len(known))] for turn, share in shares.items()} if known else {},
        "turns_right": dict(right),
    }
