"""Many briefs side by side, each a run in a folder of its own; after a kill the same command goes on where they were."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from .brief import Brief, Goal
from .errors import BadInput, JudgeFailure
from .folder import BEST, RunFolder
from .models import Models
from .records import from_json, to_json
from .report.atomic import write_bytes
from .session import Session
from .trajectory import Trajectory
from .turns import Turns, taking

SUMMARY = "summary.json"
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
        if job.id in jobs:
            raise BadInput(f"{path} line {number}: the id {job.id!r} is taken by an earlier line; each needs its own")
        jobs[job.id] = job
    if not jobs:
        raise BadInput(f"{path} holds no briefs; write one JSON object a line, such as {json.dumps({'prompt': 'a red circle'})}")
    return list(jobs.values())


def _job(data: Any, number: int, usual: Brief) -> Job:
    data = {"prompt": data} if isinstance(data, str) else data
    if isinstance(data, dict) and (unknown := sorted(data.keys() - {field.name for field in fields(_Line)})):
        raise BadInput(f"{unknown[0]} is not known; choose from {', '.join(field.name for field in fields(_Line))}")
    said = from_json(_Line, data, "brief")
    given = {name: getattr(said, name) for name in ("seed", "strategy", "candidates") if getattr(said, name) is not None}
    brief = replace(usual, prompt=said.prompt, goals=said.goals, **given)
    if said.id and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", said.id):
        raise BadInput(f"the id {said.id!r:.80} cannot name a folder; use letters, digits, dots, underscores and hyphens")
    # The budget may grow from one call to the next.
    content = json.dumps(to_json(replace(brief, budget=Brief("x").budget)), sort_keys=True)
    return Job(said.id or f"{number:04}-{hashlib.sha256(content.encode()).hexdigest()[:8]}", brief)


def run_batch(
    jobs: Sequence[Job],
    models: Models,
    out: Path,
    concurrency: int,
    told: Callable[[str, Result | dict[str, Any] | None], None] = lambda job, what: None,
) -> list[Result]:
    """Results in the order of the jobs, also written to SUMMARY in `out`. `told` is called, from any thread, with a job's id and None when
    it begins, each line of its journal, and its result. Ctrl-C lets every run come to the end of the call it is in.

    Raises BadInput for a concurrency out of range and for a folder that cannot be written.
    """
    if not 1 <= concurrency <= MOST:
        raise BadInput(f"--concurrency is {concurrency}; it must be between 1 and {MOST}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"output folder {out} cannot be written: {error.strerror}; choose another with --out") from error
    models, stop = _shared(models), threading.Event()

    def run(job: Job) -> Result:
        told(job.id, None)
        result = Result(job.id, "stopped") if stop.is_set() else _run(job, models, out, stop, lambda line: told(job.id, line))
        told(job.id, result)
        return result

    with ThreadPoolExecutor(min(concurrency, len(jobs))) as pool:
        try:
            results = list(pool.map(run, jobs))
        except BaseException:
            stop.set()
            raise
    write_bytes(out / SUMMARY, (json.dumps(summary(results), indent=1) + "\n").encode())
    return results


def summary(results: Iterable[Result]) -> dict[str, Any]:
    """Counts by state, totals, and every result."""
    results = list(results)
    counts = {state: sum(result.state == state for result in results) for state in ("met", "unmet", "failed", "stopped")}
    totals = {name: sum(getattr(result, name) for result in results) for name in ("steps", "images", "evaluations", "vlm_tokens")}
    return {"runs": len(results), **counts, **totals, "results": [to_json(result) for result in results]}


def _shared(models: Models) -> Models:
    """Servers are asked by many at once; what runs in this process works for one at a time."""
    from .executor.remote import RemoteExecutor
    from .vlm.server import ServerVlm

    turns = Turns()

    def mine(model: Any, name: str) -> Any:
        return model if model is None or isinstance(model, (RemoteExecutor, ServerVlm)) else taking(model, turns, name)

    return replace(
        models, vlm=mine(models.vlm, "controller"), executor=mine(models.executor, "executor"), judge=mine(models.judge, "verifier")
    )


def _run(job: Job, models: Models, out: Path, stop: threading.Event, told: Callable[[dict[str, Any]], None]) -> Result:
    try:
        if models.check:
            models.check(job.brief.prompt)
        folder = RunFolder.reopen(out / job.id)
        if folder.lines and folder.lines[0].get("brief") != to_json(job.brief):
            raise BadInput(f"{folder.path} is a run of another brief or budget; choose another --out, or give this one another id")
        session = Session(job.brief, models.vlm, models.executor, folder, judge=models.judge, listener=lambda event, line: told(line))
        if folder.lines[0].get("models") != session.models:
            raise BadInput(f"{folder.path} was made by other models; go on with those or choose another --out")
        call = session.advance()
        while call is not None:
            if stop.is_set():
                return Result(job.id, "stopped", "to be gone on with by the same command")
            result = session.perform(call)
            session.note(call, result)
            call = session.advance(result)
    except (BadInput, JudgeFailure, OSError) as error:
        return Result(job.id, "failed", str(error))
    return _result(job, session.trajectory, out)


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
                goals = f"{what.goals_met} of {what.goals} goals in {what.steps} steps, {time.monotonic() - started:.1f} s"
                self._line(f"{job}  {what.state}  {goals if what.state in ('met', 'unmet') else what.reason.partition(chr(10))[0]}")
            else:
                started, row = self._rows.get(job, (time.monotonic(), "begins"))
                self._rows[job] = started, _row(what) or row
            if self.live:
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
