"""A run led by nodes, one call of the loop at a time.

A node takes the run as far as it came and hands on one that came further. What a node has done once is on record: executed again, by the
same model on the same run, it reads it there. So the cache of ComfyUI may forget what it likes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import comfy.model_management

from ...clvr_core.brief import Brief
from ...clvr_core.errors import BadInput
from ...clvr_core.protocols import Drawing, DrawRequest, Executor, Picture, Vlm
from ...clvr_core.run.loop import Call, Draw
from ...clvr_core.run.run_folder import JOURNAL, RunFolder, trajectory_from
from ...clvr_core.run.session import Reviewer, Session, go_on
from ...clvr_core.run.start_image import crop_to_size
from ...clvr_core.trajectory import Trajectory
from ..host.sockets import Run
from .host_session import folder_for, key_of, tell

REVIEW = "CLVR_Review"
BOUNDARIES = ("CLVR_LoopStart", "CLVR_Reason")
"""Where the run enters a body: what comes from there is told by the run's own record."""


@dataclass(frozen=True)
class Named:
    """Stands in the run's papers for a model that the node at hand does not need."""

    name: str


@dataclass(frozen=True)
class Graph:
    """Draws with whatever nodes stand in the body."""

    name: str = "the graph"

    def nfe(self, request: DrawRequest) -> int:
        return 0

    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        raise BadInput("nothing here draws: link an Execute Step, or the nodes that draw, to the candidates of Verify")


class SessionCache:
    """The session that the last node left, for the next one to go on with: to replay the record for every node takes longer the longer
    the run. Good only for the very place at which it stands, while the journal is as that node left it, and where the artist is not
    asked. Holds no model."""

    def __init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        self._session: Session | None = None
        self._call: Call | None = None
        self._size = 0

    def take(self, session: Session, call: Call | None) -> None:
        if call is None or session.reviewer is not None:
            self.drop()
            return
        models = Named(session.vlm.name), Named(session.judge.name), Graph(session.executor.name)
        self._session, self._call, self._size = with_models(session, *models), call, _size(session.folder.path)

    def at(self, folder: Path, position: int, brief: Brief) -> Session | None:
        held = self._session
        there = held is not None and (held.folder.path, held.position, held.brief) == (folder, position, brief)
        return held if there and self._size == _size(folder) else None

    def next_call(self, run: Run, vlm: Vlm, judge: Vlm, executor: Executor) -> tuple[Session, Call] | None:
        """The session with these models at the place where the run stands, and its next call."""
        held, names = self.at(run.folder, run.position, run.trajectory.brief), (vlm.name, judge.name, executor.name)
        if held is None or tuple(held.trajectory.models.values()) != names:
            return None
        return with_models(held, vlm, judge, executor), self._call


def with_models(session: Session, vlm: Vlm, judge: Vlm, executor: Executor) -> Session:
    other = copy(session)
    other.vlm, other.judge, other.executor = vlm, judge, executor
    return other


LEFT = SessionCache()


def _size(folder: Path) -> int:
    """Of the journal, in bytes; -1 if there is none."""
    try:
        return (folder / JOURNAL).stat().st_size
    except OSError:
        return -1


class GraphSession:
    """A session as it was at the run's position, and the call that comes next there; None if the run has ended.

    `vlm` and `judge` are needed only by the node that asks them. With a `reviewer` the walk stops where the artist is to be asked.
    What it draws carries the `texts`.
    """

    def __init__(
        self,
        run: Run,
        vlm: Vlm | None = None,
        judge: Vlm | None = None,
        reviewer: Reviewer | None = None,
        texts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.reviewer, self.texts = reviewer, texts
        self.run, self.brief, names = run, run.trajectory.brief, run.trajectory.models
        self.named = Named(names["controller"]), Named(names["verifier"])
        # The judge may choose the next action in the same breath, where it is the one that chooses.
        chooses = judge if judge and judge.name == names["controller"] else self.named[0]
        self.vlm, self.judge, self.executor = vlm or chooses, judge or self.named[1], run.executor or Graph()
        left = None if reviewer else LEFT.next_call(run, self.vlm, self.judge, self.executor)
        if left:
            self.session, self.call = left
            return
        folder = RunFolder.open(run.folder)
        if len(folder.lines) < run.position:
            raise BadInput(
                f"{run.folder.name} in the output folder under clvr is not the run that it was; run the graph anew"
            )
        if trajectory_from(folder.lines[:1]).brief.budget != self.brief.budget:
            folder = self._elsewhere(folder, run.position, run.folder.name.rpartition("-")[0])
        self._open(folder, run.position)

    def _open(self, folder: RunFolder, position: int) -> None:
        self.session = Session(self.brief, self.vlm, self.executor, folder, judge=self.judge, reviewer=self.reviewer)
        self.call = self.session.advance(upto=position)
        LEFT.take(self.session, self.call)

    def _elsewhere(self, folder: RunFolder, position: int, key: str) -> RunFolder:
        """The folder of this key under the budget of this run, begun with what stands so far."""
        path = folder_for(key, self.brief.budget)
        other = RunFolder.reopen(path)
        if not other.lines:
            return folder.fork(path, position, self.brief.budget)
        go_on(other, self.named[0], self.executor, self.brief.budget, judge=self.named[1]).advance()
        return other

    def recorded(self, by: str) -> object | None:
        """The next call's result, if the same has made it before. What another made stays: from here on this is a run of its own."""
        session = self.session
        result = session.on_record(self.call, by)
        if result is None and session.position < len(session.folder.lines):
            key = key_of([session.folder.path.name.rpartition("-")[0], session.position, by])
            self._open(self._elsewhere(session.folder, session.position, key), session.position)
            result = self.session.on_record(self.call, by)
        return result

    def settle(self, by: str, perform: Callable[[Session, Any], object]) -> None:
        result = self.recorded(by)
        self.session.folder.texts = self.texts
        if result is None:
            result = perform(self.session, self.call)
        LEFT.drop()
        self.session.note(self.call, result, by)
        self.call = self.session.advance(result, upto=self.session.position)
        LEFT.take(self.session, self.call)
        tell(self.session.folder.path)

    def reached(self) -> Run:
        return replace(
            self.run,
            trajectory=self.session.trajectory,
            folder=self.session.folder.path,
            position=self.session.position,
        )


def run_at(planned: Run, folder: Path, position: int) -> Run:
    """The run as it stood in that folder after so many lines of its journal."""
    if left := LEFT.at(folder, position, planned.trajectory.brief):
        return Run(left.trajectory, folder, position, planned.executor)
    opened = RunFolder.open(folder)
    if position not in range(1, len(opened.lines) + 1):
        raise BadInput(f"{folder.name} in the output folder under clvr is not the run that it was; run the graph anew")
    return Run(trajectory_from(opened.lines[:position]), folder, position, planned.executor)


def best_of(run: Run) -> Picture | None:
    best, left = run.trajectory.best, LEFT.at(run.folder, run.position, run.trajectory.brief)
    return None if best is None else (left or RunFolder(run.folder, [])).picture(best)


def drawn_by_the_body(session: Session, pictures: Sequence[Picture], call: Draw):
    """At the size of the brief, whatever the body made of it: the canvas of one round is what the next begins from."""
    if len(call.seeds) == 1 and len(pictures) == max(
        (len(step.candidates) for step in call.trajectory.steps), default=0
    ):
        pictures = pictures[
            :1
        ]  # the one shot to compare with, from a sampler that goes on to draw as many as in every round
    if len(pictures) != len(call.seeds):
        raise BadInput(
            f"candidates has {len(pictures)} pictures, and this round judges {len(call.seeds)}: give the sampler a batch of that many, or "
            "set candidates of Brief to what it draws"
        )
    requests, brief = session.requests(call), call.trajectory.brief
    sizes = [crop_to_size(picture, brief.width, brief.height) for picture in pictures]
    return session.drawn(
        call, [Drawing(picture, session.executor.nfe(request)) for picture, request in zip(sizes, requests)], 0.0
    )


def awaits_review(dynprompt, node: str) -> bool:
    """Whether a Review stands behind this node, linked to its first output."""
    return any(
        at["class_type"] == REVIEW and at["inputs"].get("trajectory") == [node, 0]
        for at in map(dynprompt.get_node, dynprompt.all_node_ids())
    )


def unasked(told: Trajectory):
    raise BadInput("the artist is asked by the Review node; link it between Verify and Loop End")


def provenance(dynprompt, node: str, name: str) -> str:
    """A digest of all nodes and widgets that this input of the node hangs on, within the body and beside it, and of what a node says of
    a file that it reads."""
    known: dict[str, str] = {}
    source = dynprompt.get_node(node)["inputs"].get(name)
    if not is_link(source):
        return ""
    todo = [source[0]]
    while todo:
        at = dynprompt.get_node(todo[-1])
        bounds = at["class_type"] in BOUNDARIES
        inputs = {} if bounds else at["inputs"]
        missing = [value[0] for value in inputs.values() if is_link(value) and value[0] not in known]
        if missing:
            todo += missing
            continue
        told = {key: [known[value[0]], value[1]] if is_link(value) else value for key, value in sorted(inputs.items())}
        changed = [at["is_changed"]] if "is_changed" in at and not bounds else []
        known[todo.pop()] = hashlib.sha256(
            json.dumps([at["class_type"], told, *changed], default=str).encode()
        ).hexdigest()
    return f"{known[source[0]][:32]}:{source[1]}"


def is_link(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], (int, float))
    )
