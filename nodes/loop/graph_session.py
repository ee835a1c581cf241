"""Sessions whose rounds are nodes: each node makes one or more calls of the loop.

A node gets the run up to a line of its journal and passes it on with more lines. Every result is recorded with the
model that made it; executed again on the same run with the same model, a node reads its result from the journal. So it
does not matter what ComfyUI's cache keeps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import comfy.model_management
from comfy_execution.utils import get_executing_context

from ...clvr_core.brief import Brief
from ...clvr_core.errors import BadInput
from ...clvr_core.policy import policy_for
from ...clvr_core.protocols import Drawing, DrawRequest, Executor, LatentsByPicture, Picture, Vlm
from ...clvr_core.run.loop import Call, Draw
from ...clvr_core.run.reading import read_journal
from ...clvr_core.run.run_folder import JOURNAL, RunFolder, trajectory_from
from ...clvr_core.run.run_models import RunModels
from ...clvr_core.run.start_image import crop_to_size
from ...clvr_core.trajectory import Trajectory
from ...clvr_core.witness.judge import without_witnesses
from ..host.progress import announce_run
from ..host.run_folders import AGAIN, changed_run, folder_for, key_of
from ..host.sockets import Run
from ..host.stops import is_stopping, say_stop

if TYPE_CHECKING:
    from ...clvr_core.run.session import Reviewer, Session

REVIEW = "CLVR_Review"


@dataclass(frozen=True)
class Named:
    """Stands for a model that the executing node does not call: a session needs its name only."""

    name: str


@dataclass(frozen=True)
class GraphExecutor:
    """Stands for the nodes of the body that draw. It costs nothing and cannot be called."""

    name: str = "the graph"

    def nfe(self, request: DrawRequest) -> int:
        return 0

    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        raise BadInput("nothing here draws: link an Execute Step, or the nodes that draw, to the candidates of Verify")


class SessionCache:
    """The session that the last node ended with, for the next node to continue: replaying a long journal takes long.

    One for all prompts, in one attribute, so that two that run side by side find either's or none, never half of each.
    Valid only at the position where the session stands, while the journal has the size that the node left, and without
    a reviewer. Models are replaced by their names, so that none is kept in memory.
    """

    def __init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        self._held: tuple[Session, Call, int] | None = None

    def keep(self, session: Session, call: Call | None) -> None:
        """Keep a session that stands before this call; drop it if the run has ended or a reviewer is asked."""
        if call is None or session.reviewer is not None:
            self.drop()
            return
        names = session.models.names
        models = Named(names["controller"]), Named(names["verifier"]), GraphExecutor(names["executor"])
        self._held = with_models(session, *models), call, _journal_size(session.folder.path)

    def at(self, folder: Path, position: int, brief: Brief) -> Session | None:
        """Return the kept session if it stands at this position of this run."""
        held = self._at(folder, position, brief)
        return None if held is None else held[0]

    def _at(self, folder: Path, position: int, brief: Brief) -> tuple[Session, Call] | None:
        held = self._held  # read once: a prompt that runs beside this one may replace it
        if held is None:
            return None
        session, call, size = held
        same = (session.folder.path, session.position, session.brief) == (folder, position, brief)
        return (session, call) if same and size == _journal_size(folder) else None

    def next_call(self, run: Run, vlm: Vlm, judge: Vlm, executor: Executor) -> tuple[Session, Call] | None:
        """Return the kept session with these models and its next call, if it stands where the run stands and had models
        of these names.
        """
        held, names = self._at(run.folder, run.position, run.trajectory.brief), (vlm.name, judge.name, executor.name)
        if held is None or tuple(held[0].trajectory.models.values()) != names:
            return None
        session, call = held
        return with_models(session, vlm, judge, executor), call


def with_models(session: Session, vlm: Vlm, judge: Vlm, executor: Executor) -> Session:
    other = copy(session)
    other.models = RunModels(vlm, executor, judge=judge)
    return other


CACHE = SessionCache()


class BodyClock:
    """When the nodes of the executing prompt began to draw a round: Reason begins it, Verify reads it."""

    def __init__(self) -> None:
        self._begun: tuple[str, Path, int, float] | None = None

    def begin(self, run: Run) -> None:
        """Note that the body draws from this moment on what Reason decided in this run, unless that is noted."""
        if self._at(run) is None:
            self._begun = (*self._key(run), time.perf_counter())

    def seconds(self, run: Run) -> float:
        """Return the seconds since `begin`; 0 without one in this prompt."""
        begun = self._at(run)
        return 0.0 if begun is None else time.perf_counter() - begun

    def _at(self, run: Run) -> float | None:
        *key, moment = self._begun or (None, 0.0)
        return moment if tuple(key) == self._key(run) else None

    @staticmethod
    def _key(run: Run) -> tuple[str, Path, int]:
        context = get_executing_context()
        return context.prompt_id if context else "", run.folder, run.position


CLOCK = BodyClock()


def _journal_size(folder: Path) -> int:
    """Return the size of the journal in bytes, -1 if there is none."""
    try:
        return (folder / JOURNAL).stat().st_size
    except OSError:
        return -1


class GraphSession:
    """A session at the run's position.

    session: the core's session.
    call: its next call; None if the run has ended.
    """

    def __init__(
        self,
        run: Run,
        vlm: Vlm | None = None,
        judge: Vlm | None = None,
        reviewer: Reviewer | None = None,
        texts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Open the run. Raises BadInput if its journal has changed.

        vlm, judge: needed only by a node that calls them.
        reviewer: with one, the session stops where the artist is to be asked.
        texts: PNG text chunks for the canvases that it draws.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.reviewer, self.texts = reviewer, texts
        self.run, self.brief, names = run, run.trajectory.brief, run.trajectory.models
        self.named = Named(names["controller"]), Named(names["verifier"])
        # A judge that is also the controller may choose the next action in the same reply.
        controller = judge if judge and without_witnesses(judge).name == names["controller"] else self.named[0]
        self.vlm, self.judge = vlm or controller, judge or self.named[1]
        self.executor = run.executor or GraphExecutor()
        cached = None if reviewer else CACHE.next_call(run, self.vlm, self.judge, self.executor)
        if cached:
            self.session, self.call = cached
            return
        folder = RunFolder.open(run.folder, AGAIN)
        if len(folder.lines) < run.position:
            raise changed_run(run.folder)
        if trajectory_from(folder.lines[:1]).brief.budget != self.brief.budget:
            folder = self._fork(folder, run.position, run.folder.name.rpartition("-")[0])
        self._open(folder, run.position)

    def _open(self, folder: RunFolder, position: int) -> None:
        from ...clvr_core.run.session import Session

        self.session = Session(
            self.brief, RunModels(self.vlm, self.executor, judge=self.judge), folder, reviewer=self.reviewer
        )
        self.call = self.session.advance(upto=position)
        folder.close()
        CACHE.keep(self.session, self.call)

    def _fork(self, folder: RunFolder, position: int, key: str) -> RunFolder:
        """Return the folder of this key under the run's budget; a new one gets a copy of the run up to `position`."""
        from ...clvr_core.run.session import go_on

        path = folder_for(key, self.brief.budget)
        other = RunFolder.reopen(path, AGAIN)
        if not other.lines:
            return folder.fork(path, position, self.brief.budget)
        go_on(other, RunModels(self.named[0], self.executor, judge=self.named[1]), self.brief.budget).advance()
        return other

    def recorded(self, by: str) -> object | None:
        """Return the next call's result if the journal has it as made by `by`, else None.

        If the journal has it as made by something else, that run is left as it is, and the session continues in a fork.
        """
        session = self.session
        result = session.on_record(self.call, by)
        if result is None and session.position < len(session.folder.lines):
            key = key_of([session.folder.path.name.rpartition("-")[0], session.position, by])
            self._open(self._fork(session.folder, session.position, key), session.position)
            result = self.session.on_record(self.call, by)
        return result

    def settle(self, by: str, perform: Callable[[Session, Any], object] | None = None) -> None:
        """Make the next call, or read its result from the journal, and go on to the call after it.

        by: identifies what makes the result: a model's name, or the provenance of nodes.
        perform: makes the call; None for the session's own models.
        """
        result = self.recorded(by)
        folder = self.session.folder
        folder.texts = self.texts
        try:
            folder.hold()
            if result is None:
                result = perform(self.session, self.call) if perform else self.session.perform(self.call)
            CACHE.drop()
            self.session.note(self.call, result, by)
            if self.session.reviewer is None and (is_stopping(folder.path) or self._said()):
                self.session.reviewer = say_stop
            self.call = self.session.advance(result, upto=self.session.position)
        finally:
            folder.close()
        CACHE.keep(self.session, self.call)
        announce_run(self.session.folder.path)

    def _said(self) -> bool:
        """Whether a word of the artist is on record right behind the decision that comes next."""
        session = self.session
        return any(line["event"] == "review" for line in session.folder.lines[session.position : session.position + 2])

    def reached(self) -> Run:
        """Return the run at the session's position."""
        return replace(
            self.run,
            trajectory=self.session.trajectory,
            folder=self.session.folder.path,
            position=self.session.position,
        )


def run_at(planned: Run, folder: Path, position: int) -> Run:
    """Return the run after the first `position` lines of this folder's journal. Raises BadInput if it has changed."""
    if cached := CACHE.at(folder, position, planned.trajectory.brief):
        return Run(cached.trajectory, folder, position, planned.executor)
    lines = read_journal(folder).lines
    if position not in range(1, len(lines) + 1):
        raise changed_run(folder)
    return Run(trajectory_from(lines[:position]), folder, position, planned.executor)


def best_of(run: Run) -> Picture | None:
    """Return the best picture so far."""
    best, cached = run.trajectory.best, CACHE.at(run.folder, run.position, run.trajectory.brief)
    return None if best is None else (cached or RunFolder(run.folder, [])).picture(best)


def record_drawings(session: Session, pictures: Sequence[Picture], call: Draw, seconds: float):
    """Record the pictures that the body drew in so many seconds, cropped to the brief's size. Raises BadInput for
    another number of pictures."""
    if len(call.seeds) == 1 and len(pictures) == policy_for(call.trajectory.brief).candidates(call.trajectory):
        # The one-shot picture for comparison: the sampler still draws as many as in every round.
        pictures = pictures[:1]
    if len(pictures) != len(call.seeds):
        raise BadInput(
            f"candidates has {len(pictures)} pictures, and this round judges {len(call.seeds)}: give the sampler a batch of that many, or "
            "set candidates of Brief to what it draws"
        )
    composed, brief = session.compose(call), call.trajectory.brief
    sizes = [crop_to_size(picture, brief.width, brief.height) for picture in pictures]
    executor = session.models.executor
    latent_of = executor.latent_of if isinstance(executor, LatentsByPicture) else lambda picture: None
    drawings = [
        Drawing(picture, executor.nfe(request), latent_of(picture))
        for picture, request in zip(sizes, composed.requests)
    ]
    return session.drawn(composed, drawings, seconds)


def awaits_review(dynprompt: Any, node: str) -> bool:
    """Return whether a Review node is linked to the first output of this node."""
    return any(
        at["class_type"] == REVIEW and at["inputs"].get("trajectory") == [node, 0]
        for at in map(dynprompt.get_node, dynprompt.all_node_ids())
    )


def unlinked_review(trajectory: Trajectory):
    """Raise BadInput. A node with this reviewer stops before the review and leaves it to the Review node."""
    raise BadInput("the artist is asked by the Review node; link it between Verify and Loop End")
