"""One run: its loop, the models that perform its calls, the journal that records every result before the next call
begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..brief import Brief, Budget
from ..controller import TEMPLATES as CONTROLLER
from ..controller.prompts import NUMBERED
from ..controller.prompts import WORDINGS as STEERED_IN
from ..errors import BadInput
from ..policy import Policy, policy_for
from ..protocols import Drawing, DrawRequest, Picture
from ..records import from_json, to_json
from ..text import shown
from ..trajectory import SCHEMA, Trajectory
from ..verifier import TEMPLATES as VERIFIER
from ..verifier import UNQUOTED
from ..verifier import WORDINGS as JUDGED_IN
from . import loop
from .canvases import Canvases
from .compose import Composition, compose
from .journal import EVENTS, Journal, result_line
from .lines import decision_line
from .loop import Call, ChooseAction, Decided, Draw, Drawn, Judge, Judgement, Result, Review
from .memory_folder import MemoryFolder
from .perform import ChosenAhead, Reviewer, perform, save_drawings
from .references import receive_references
from .run_folder import RunFolder
from .run_models import RunModels, of_former_world, same_models
from .start_image import receive
from .store import RunStore

__all__ = [
    "EVENTS",
    "PROMPTS",
    "Listener",
    "Reviewer",
    "RunModels",
    "Session",
    "drive",
    "go_on",
    "resume",
    "start",
]

PROMPTS = {"controller": CONTROLLER.version, "verifier": VERIFIER.version}
"""Versions of the prompts to the models."""
FIRST_PROMPTS = {"controller": NUMBERED, "verifier": UNQUOTED}
"""Those of runs from before prompts had versions."""

Listener = Callable[[str, dict[str, Any]], None]
"""Called with the event and the content of each line that is new in the journal."""


class Session:
    """One run. To lead it: `advance`, then for each call that returns `perform`, `note` and `advance` with the result;
    `drive` does so.

    models: may be replaced between two calls by models of the same names.
    trajectory: the run as far as it has come.
    """

    def __init__(
        self,
        brief: Brief,
        models: RunModels,
        folder: RunStore | None = None,
        *,
        listener: Listener | None = None,
        reviewer: Reviewer | None = None,
        settled: int | None = None,
        picture: Picture | None = None,
        policy: Policy | None = None,
        references: Mapping[str, Picture] | None = None,
    ) -> None:
        """
        folder: where the run is kept; None keeps it in memory. Lines on record there are replayed without a call.
        reviewer: asks the artist after each step; None asks nobody, and remarks on record stay valid.
        settled: number of lines that stay valid under the brief's budget, as `Journal` takes it.
        picture: the picture that a new run begins from (see `beginning_with`); None if there is none, or the folder has
            it.
        references: pictures of the brief's references that a new run is given, by name (see `with_references`).
        policy: decides in place of the strategy that the brief names, as a variant of it that is measured.

        Raises BadInput if the folder records another run, or the picture is not the brief's.
        """
        # The brief as it will be read from the journal: a 1 in place of a 1.0 would give other bytes after a resume.
        brief = _brief(to_json(brief))
        self.brief, self.models, self.reviewer = brief, models, reviewer
        self.folder: RunStore = MemoryFolder() if folder is None else folder
        self.listener = listener or (lambda event, line: None)
        prompts = self.folder.lines[0].get("prompts", FIRST_PROMPTS) if self.folder.lines else PROMPTS
        if prompts not in [{"controller": one, "verifier": other} for one, other in product(STEERED_IN, JUDGED_IN)]:
            raise BadInput(
                f"{self.folder.where} was asked for in the words of prompts {shown(prompts, 200)}, and this version has {PROMPTS}; "
                "start a new run"
            )
        self.trajectory = Trajectory(brief, models=models.names, prompts=prompts)
        self.canvases = Canvases(self.folder, picture, brief.picture, brief.references)
        self._journal = Journal(self.folder, brief.budget, settled)
        self._ahead: ChosenAhead | None = None
        given = receive(self.trajectory, picture, self.folder)
        receive_references(brief, references or {}, self.folder)
        first = {
            "event": "start",
            "schema": SCHEMA,
            "brief": to_json(brief),
            "models": models.names,
            "prompts": prompts,
        }
        self._record(first)
        blank = np.zeros((brief.height, brief.width, 3), np.uint8)
        beside = tuple(self.canvases.references.values())
        nfe = {
            kind: models.executor.nfe(DrawRequest(brief.prompt, 0, (*canvases, *beside), brief.width, brief.height))
            for kind, canvases in (("GENERATE", ()), ("EDIT", (blank,)))
        }
        self._run = loop.run(self.trajectory, policy or policy_for(brief), nfe, given)

    @property
    def done(self) -> bool:
        return self.trajectory.outcome is not None

    @property
    def position(self) -> int:
        """Number of the journal's lines that were replayed or appended so far."""
        return self._journal.position

    @property
    def ending(self) -> int | None:
        """Position at which the loop decided to begin no further round; None before that."""
        return self._journal.ending

    def picture(self, canvas: int) -> Picture:
        return self.canvases.picture(canvas)

    def digests(self, *canvases: int) -> list[str]:
        """SHA-256 of the pixels of each canvas."""
        return self.canvases.digests(*canvases)

    def advance(self, result: Result | None = None, upto: int | None = None) -> Call | None:
        """Send the last call's result to the loop, replay what is on record, and return the next call to perform; None at
        the end of the run. All that was recorded is on disk by then.

        upto: number of lines that are replayed at most; the call after them is returned although it may be on record.
        """
        while True:
            try:
                asked = self._run.send(result)
            except StopIteration:
                self.folder.sync()
                self.folder.close()
                return None
            result = None
            if isinstance(asked, Decided):
                self._decide(asked)
                continue
            if isinstance(asked, Review) and self._journal.passes_review(self.reviewer is not None, upto):
                continue
            result = self._journal.next_result(asked, upto)
            if result is None:
                self.folder.sync()
                return asked
            self._take(asked, result)
            self._journal.position += 1

    def on_record(self, call: Call, by: str = "") -> Result | None:
        """The result of the next call if it is on record and was made by `by`."""
        result = self._journal.result_by(call, by)
        if result is not None:
            self._take(call, result)
        return result

    def note(self, call: Call, result: Result, by: str = "") -> None:
        """Record a call's result. `by`: name of what made it, where the parts of a graph may be others the next
        time."""
        self._take(call, result)
        self._record(result_line(call, result, by))

    def perform(self, call: Call) -> Result:
        """Perform the call with the session's models. Nothing is recorded yet but the pictures."""
        return perform(call, self.models, self.canvases, self.reviewer, self._ahead)

    def compose(self, call: Draw) -> Composition:
        """The requests for the executor, for a caller that draws by other means than `perform`."""
        return compose(call, self.models, self.canvases)

    def drawn(
        self, composition: Composition, drawings: Sequence[Drawing | None], seconds: float, failure: str = ""
    ) -> Drawn:
        """Save the drawings of these requests and return the result to `note`; see `save_drawings`."""
        return save_drawings(composition, drawings, seconds, self.models, self.canvases, failure)

    def _take(self, call: Call, result: Result) -> None:
        """Note of a result, performed or read, what later calls need."""
        if isinstance(call, ChooseAction):
            self._ahead = None
        if isinstance(call, Judge) and isinstance(result, Judgement) and result.next is not None:
            self._ahead = ChosenAhead(call.canvases[0], result.next)
        if isinstance(result, Drawn):
            self.canvases.expect(result.candidates)

    def _decide(self, decided: Decided) -> None:
        if decided.event == "stop":
            self._journal.ending = self.position
            return
        before, self.trajectory = self.trajectory, decided.trajectory
        if decided.event == "end" and self._journal.recorded("end") is None:
            self._finish()
        self._record(decision_line(decided.event, before, decided.trajectory))
        self.canvases.forget({self.trajectory.best, *self.trajectory.offered})

    def _finish(self) -> None:
        self.folder.sync()
        best = self.trajectory.best
        self.folder.finish(self.trajectory, None if best is None else self.picture(best))

    def _record(self, line: dict[str, Any]) -> None:
        if self._journal.record(line):
            self.listener(line["event"], line)


def _brief(data: Any) -> Brief:
    try:
        return from_json(Brief, data)
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"the brief cannot be read: {error}") from error


def _named(models: Any) -> str:
    return (
        ", ".join(f"{role} {name!r}" for role, name in models.items())
        if isinstance(models, dict)
        else "models it does not name"
    )


def drive(session: Session) -> Trajectory:
    """Run the session to its end. However that comes, the run's folder is then free for others."""
    try:
        call = session.advance()
        while call is not None:
            result = session.perform(call)
            session.note(call, result)
            call = session.advance(result)
        return session.trajectory
    finally:
        session.folder.close()


def start(brief: Brief, models: RunModels, out: Path, listener: Listener | None = None) -> Session:
    """A new run in an empty folder. Raises BadInput if `out` is not empty or cannot be written."""
    return Session(brief, models, RunFolder.create(out), listener=listener)


def resume(
    folder: RunStore,
    models: RunModels,
    listener: Listener | None = None,
    reviewer: Reviewer | None = None,
    policy: Policy | None = None,
) -> Session:
    """Continue the run in the folder after its last complete line. policy: as in Session, the one that it was begun with.

    Raises BadInput if it was made by other models or with other versions of the prompts.
    """
    first = folder.lines[0]
    brief = _brief(first.get("brief"))
    session = Session(brief, models, folder, listener=listener, reviewer=reviewer, policy=policy)
    if not same_models(first.get("models"), models.names):
        if of_former_world(first.get("models")):
            raise BadInput(
                f"{folder.where} was made in the shapes world, which is no longer part of clvr, so it cannot be gone on with; "
                "its pictures, journal and report stay readable; start a new run"
            )
        raise BadInput(
            f"{folder.where} was made by {_named(first.get('models'))}, and these models are {_named(models.names)}; "
            "go on with the same ones or start a new run"
        )
    return session


def go_on(
    folder: RunStore,
    models: RunModels,
    budget: Budget,
    listener: Listener | None = None,
    reviewer: Reviewer | None = None,
) -> Session:
    """Continue the run under a budget in which no limit is tighter than before. Lines that only end the run for its old
    budget are rewound; the others stay.

    Raises BadInput as `resume` does, for a tighter budget, and for one under which the rounds on record would be
    others.
    """
    held = resume(folder, models)
    brief = replace(held.brief, budget=budget)
    if not budget.covers(held.brief.budget):
        raise BadInput(
            f"{folder.where} has a larger budget than it is to go on with; give at least as much or start a new run"
        )
    if policy_for(brief).candidates(Trajectory(brief)) != policy_for(brief).candidates(Trajectory(held.brief)):
        raise BadInput(
            f"{folder.where}: this budget of images makes other rounds than those on record; start a new run"
        )
    if budget == held.brief.budget:
        return Session(brief, models, folder, listener=listener, reviewer=reviewer)
    held.advance()
    settled = len(folder.lines) if held.ending is None else held.ending
    return Session(brief, models, folder, listener=listener, reviewer=reviewer, settled=settled)
