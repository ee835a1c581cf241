"""Drives many runs whose pictures are drawn in one batch a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..protocols import Drawing, Executor, SomeDrawn
from ..run.compose import Composition
from ..run.loop import Call, Draw
from ..run.session import Session
from ..trajectory import Trajectory
from .engine import Engine, stopping, threads_for


def drive_all(
    sessions: Sequence[Session],
    executor: Executor,
    progress: Callable[[int], None] = lambda done: None,
    engine: Engine | None = None,
) -> list[Trajectory]:
    """Run many sessions side by side, with all drawing of a round in one batch of the executor. Where controller and
    judge are `Concurrent`, as servers are, the sessions ask them at the same time.

    progress: called after each round with the number of sessions that are done.
    engine: does the calls of a round up to the next drawing; None for threads where the models are `Concurrent`.

    Raises what the executor raises; what it drew for the other sessions is kept. Raises what a model raises, as Away,
    once the other sessions have finished their calls.
    """
    models = {id(model): model for session in sessions for model in (session.models.vlm, session.models.verifier)}
    threads = threads_for(*models.values())
    try:
        with stopping(models.values(), threads.stop):
            return _side_by_side(sessions, executor, progress, engine or threads)
    finally:
        for session in sessions:
            session.folder.close()


def _side_by_side(
    sessions: Sequence[Session], executor: Executor, progress: Callable[[int], None], engine: Engine
) -> list[Trajectory]:
    calls: dict[int, Call | None] = {index: session.advance() for index, session in enumerate(sessions)}
    while any(calls.values()):
        live = [(index, sessions[index], call) for index, call in calls.items() if call is not None]
        waiting: list[tuple[int, Composition]] = []
        for call, (index, session, _) in zip(engine.each(_until_it_draws, live), live):
            calls[index] = call
            if call is not None:
                waiting.append((index, session.compose(call)))
        if waiting:
            started = time.perf_counter()
            failed: SomeDrawn | None = None
            try:
                drawings: list[Drawing | None] = list(
                    executor.draw([request for _, composed in waiting for request in composed.requests])
                )
            except SomeDrawn as error:
                drawings, failed = list(error.drawings), error
            seconds, none_drawn = (time.perf_counter() - started) / len(drawings), False
            for index, composed in waiting:
                count = len(composed.requests)
                mine, drawings = drawings[:count], drawings[count:]
                if not any(mine):
                    none_drawn = True
                    continue
                result = sessions[index].drawn(composed, mine, seconds * count, str(failed or ""))
                sessions[index].note(composed.call, result)
                calls[index] = sessions[index].advance(result)
            if failed and none_drawn:
                raise failed
        progress(sum(call is None for call in calls.values()))
    return [session.trajectory for session in sessions]


def _until_it_draws(one: tuple[int, Session, Call]) -> Draw | None:
    """Perform a session's calls up to the next drawing, and return that; None if the run has ended."""
    _, session, call = one
    following: Call | None = call
    while following is not None and not isinstance(following, Draw):
        result = session.perform(following)
        session.note(following, result)
        following = session.advance(result)
    return following
