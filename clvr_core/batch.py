"""Many briefs side by side, each a run in a folder of its own; after a kill the same command goes on where they were."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from .brief import Brief, Goal
from .errors import BadInput, JudgeFailure
from .models.device_sharing import Turns, with_device_lock
from .models.registry import Models
from .protocols import Concurrent, Interruptible
from .records import from_json, to_json
from .run.loop import Call
from .run.run_folder import BEST, RunFolder
from .run.session import Session
from .storage.atomic import write_bytes
from .trajectory import Trajectory

SUMMARY = "summary.json"
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
MOST = 1024
"""Runs side by side."""


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    brief: Brief


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the file; what it leaves out is as the command says."""

    prompt: str
    id: str = ""
    seed: int | None = None
    strategy: str | None = None
    candidates: int | None = None
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended: met, unmet, failed (reason says why) or stopped, to be gone on with. best: its picture, beside the summary."""

    id: str
    state: Literal["met", "unmet", "failed", "stopped"]
    reason: str = ""
    goals: int = 0
    goals_met: int = 0
    steps: int = 0
    images: int = 0
    evaluations: int = 0
    vlm_tokens: int = 0
    best: str = ""


Told = Callable[[str, "Result | dict[str, Any] | None"], None]


def _nobody(job: str, what: Result | dict[str, Any] | None) -> None:
    pass


def read_jobs(path: Path, usual: Brief) -> list[Job]:
    """A brief a line: a JSON string, or an object with prompt and, if they differ from `usual`, id, seed, strategy, candidates, goals.

    A brief without an id is named by its line and its content. Raises BadInput naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8: {error}") from error
    jobs: dict[str, Job] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            job = _job(json.loads(line), number, usual)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path} line {number}: {error}") from error
        if job.id.casefold() in jobs:
            raise BadInput(
                f"{path} line {number}: the id {job.id!r} is taken by an earlier line (case does not count); each needs its own"
            )
        jobs[job.id.casefold()] = job
    if not jobs:
        raise BadInput(
            f"{path} holds no briefs; write one JSON object a line, such as {json.dumps({'prompt': 'a red circle'})}"
        )
    return list(jobs.values())


def _job(data: Any, number: int, usual: Brief) -> Job:
    data = {"prompt": data} if isinstance(data, str) else data
    if isinstance(data, dict) and (unknown := sorted(data.keys() - {field.name for field in fields(_Line)})):
        raise BadInput(f"{unknown[0]} is not known; choose from {', '.join(field.name for field in fields(_Line))}")
    said = from_json(_Line, data, "brief")
    given = {
        name: getattr(said, name) for name in ("seed", "strategy", "candidates") if getattr(said, name) is not None
    }
    brief = replace(usual, prompt=said.prompt, goals=said.goals, **given)
    if said.id and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", said.id):
        raise BadInput(
            f"the id {said.id!r:.80} cannot name a folder; use letters, digits, dots, underscores and hyphens"
        )
    if said.id.casefold() == SUMMARY or said.id.endswith(".") or DEVICES.fullmatch(said.id):
        raise BadInput(f"the id {said.id!r} cannot name a folder here or on Windows; choose another")
    # The budget may grow from one call to the next.
    content = json.dumps(to_json(replace(brief, budget=Brief("x").budget)), sort_keys=True)
    return Job(said.id or f"{number:04}-{hashlib.sha256(content.encode()).hexdigest()[:8]}", brief)


def run_batch(
    jobs: Sequence[Job],
    models: Models,
    out: Path,
    concurrency: int,
    told: Told = _nobody,
    tick: Callable[[], object] | None = None,
) -> list[Result]:
    """As `paint`, for whoever has no event loop; `tick` is called every second. Ctrl-C raises KeyboardInterrupt once every run has left
    its call."""

    async def ticking() -> None:
        while tick:
            tick()
            await asyncio.sleep(1)

    async def painting() -> list[Result]:
        clock = asyncio.create_task(ticking())
        try:
            return await paint(jobs, models, out, concurrency, told)
        finally:
            clock.cancel()

    return asyncio.run(painting())


async def paint(jobs: Sequence[Job], models: Models, out: Path, concurrency: int, told: Told = _nobody) -> list[Result]:
    """Results in the order of the jobs, also written to SUMMARY in `out`. Each run is a coroutine, `concurrency` of them under way.

    `told` is called, from any thread, with a job's id and None when it begins, each line of its journal, and its result. Once cancelled,
    waiting for a server ends at once, other calls come to their end, and every run can be gone on with.

    Raises BadInput for a concurrency out of range and for a folder that cannot be written.
    """
    if not 1 <= concurrency <= MOST:
        raise BadInput(f"--concurrency is {concurrency}; it must be between 1 and {MOST}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"output folder {out} cannot be written: {error.strerror}; choose another with --out") from error
    stop, gate = threading.Event(), asyncio.Semaphore(concurrency)

    async def run(job: Job) -> Result:
        async with gate:
            told(job.id, None)
            try:
                result = await _run(job, shared, out, pool, lambda line: told(job.id, line))
            except asyncio.CancelledError:
                stop.set()
                told(job.id, Result(job.id, "stopped", "to be gone on with by the same command"))
                raise
            told(job.id, result)
            return result

    # A pool of its own: the loop's has as many threads as a machine has cores, and a run that waits for a server holds one.
    with _side_by_side(models, stop) as shared, ThreadPoolExecutor(min(concurrency, len(jobs))) as pool:
        try:
            results = await asyncio.gather(*map(run, jobs))
        except BaseException:
            stop.set()
            raise
    write_bytes(out / SUMMARY, (json.dumps(summary(results), indent=1) + "\n").encode())
    return results


def summary(results: Iterable[Result]) -> dict[str, Any]:
    """Counts by state, totals, and every result."""
    results = list(results)
    counts = {
        state: sum(result.state == state for result in results) for state in ("met", "unmet", "failed", "stopped")
    }
    totals = {
        name: sum(getattr(result, name) for result in results)
        for name in ("steps", "images", "evaluations", "vlm_tokens")
    }
    return {"runs": len(results), **counts, **totals, "results": [to_json(result) for result in results]}


class _Stopped(Exception):
    """The batch was cancelled while a model was at work."""


@contextmanager
def _side_by_side(models: Models, stop: threading.Event) -> Iterator[Models]:
    """Servers are asked by many at once; what runs in this process works for one at a time. Where a model can be told to leave its work,
    it does so once `stop` is set."""
    turns = Turns()

    def mine(model: Any, name: str) -> Any:
        return model if model is None or isinstance(model, Concurrent) else with_device_lock(model, turns, name)

    def check() -> None:
        if stop.is_set():
            raise _Stopped

    used = (models.vlm, models.executor, models.judge)
    before = [(model, model.check) for model in used if isinstance(model, Interruptible)]
    for model, _ in before:
        model.check = check
    try:
        yield replace(
            models,
            vlm=mine(models.vlm, "controller"),
            executor=mine(models.executor, "executor"),
            judge=mine(models.judge, "verifier"),
        )
    finally:
        for model, own in before:
            model.check = own


async def _run(
    job: Job, models: Models, out: Path, pool: ThreadPoolExecutor, told: Callable[[dict[str, Any]], None]
) -> Result:
    """One call after the other, each in a thread, because models and files are waited for there."""
    loop = asyncio.get_running_loop()
    try:
        session, call = await loop.run_in_executor(pool, _begin, job, models, out, told)
        while call is not None:
            call = await loop.run_in_executor(pool, _turn, session, call)
    except (BadInput, JudgeFailure, OSError) as error:
        return Result(job.id, "failed", str(error))
    return _result(job, session.trajectory, out)


def _begin(job: Job, models: Models, out: Path, told: Callable[[dict[str, Any]], None]) -> tuple[Session, Call | None]:
    if models.check:
        models.check(job.brief.prompt)
    folder = RunFolder.reopen(out / job.id)
    if folder.lines and folder.lines[0].get("brief") != to_json(job.brief):
        raise BadInput(
            f"{folder.path} is a run of another brief or budget; choose another --out, or give this one another id"
        )
    session = Session(job.brief, models, folder, listener=lambda event, line: told(line))
    if folder.lines[0].get("models") != models.names:
        raise BadInput(f"{folder.path} was made by other models; go on with those or choose another --out")
    return session, session.advance()


def _turn(session: Session, call: Call) -> Call | None:
    """Performs the call, writes it down, and returns the next."""
    result = session.perform(call)
    session.note(call, result)
    return session.advance(result)


def _result(job: Job, trajectory: Trajectory, out: Path) -> Result:
    step, cost = trajectory.best_step, trajectory.cost
    met = sum(verdict.state == "met" for verdict in step.verdicts) if step else 0
    return Result(
        job.id,
        "met" if trajectory.outcome.met else "unmet",
        trajectory.outcome.reason,
        len(trajectory.goals),
        met,
        len(trajectory.steps),
        cost.images,
        cost.evaluations,
        cost.vlm_tokens,
        f"{job.id}/{BEST}" if (out / job.id / BEST).exists() else "",
    )


class Table:
    """What every run does, drawn anew at each event on a terminal; elsewhere a line for each run that ends."""

    ROWS = 24

    def __init__(self, runs: int, file: Any = sys.stderr) -> None:
        self.file, self.runs = file, runs
        self.live = file.isatty()
        self._lock, self._drawn = threading.Lock(), 0
        self._rows: dict[str, tuple[float, str]] = {}
        self._ended: dict[str, int] = {}

    def __call__(self, job: str, what: Result | dict[str, Any] | None) -> None:
        with self._lock:
            if isinstance(what, Result):
                started, _ = self._rows.pop(job)
                self._ended[what.state] = self._ended.get(what.state, 0) + 1
                goals = (
                    f"{what.goals_met} of {what.goals} goals in {what.steps} steps, {time.monotonic() - started:.1f} s"
                )
                self._line(
                    f"{job}  {what.state}  {goals if what.state in ('met', 'unmet') else what.reason.partition(chr(10))[0]}"
                )
            else:
                started, row = self._rows.get(job, (time.monotonic(), "begins"))
                self._rows[job] = started, _row(what) or row
            if self.live:
                self._draw()

    def tick(self) -> None:
        """The seconds go on while nothing happens."""
        with self._lock:
            if self.live and self._rows:
                self._draw()

    def _line(self, text: str) -> None:
        self._clear()
        print(text, file=self.file, flush=True)

    def _draw(self) -> None:
        self._clear()
        ended = sum(self._ended.values())
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self._ended.items()))
        rows = [f"{ended} of {self.runs} runs{': ' if counts else ''}{counts}"]
        width = max(map(len, self._rows), default=0)
        for job, (started, row) in list(self._rows.items())[: self.ROWS]:
            rows.append(f"  {job:<{width}}  {time.monotonic() - started:6.1f} s  {row}")
        if len(self._rows) > self.ROWS:
            rows.append(f"  and {len(self._rows) - self.ROWS} more")
        print("\n".join(row[:120] for row in rows), file=self.file, flush=True)
        self._drawn = len(rows)

    def _clear(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}F\x1b[J", end="", file=self.file)
            self._drawn = 0


def _row(line: dict[str, Any] | None) -> str:
    event = (line or {}).get("event")
    if event == "step":
        step = line["steps"][-1]
        verdicts = step.get("verdicts", ())
        met = sum(verdict["state"] == "met" for verdict in verdicts)
        kept = "kept" if step.get("accepted") else "rolled back"
        return f"step {step['index']}: {met} of {len(verdicts)} goals met, {kept}"
    return {"planned": "goals are set", "action": "draws", "drawn": "is judged"}.get(event, "")
