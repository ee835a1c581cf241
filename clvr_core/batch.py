"""Many briefs at the same time, each a run in its own folder. After a kill, the same command continues every run."""

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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from .brief import Brief, Goal, Reference
from .brief_list import rows_of
from .checklist import Tally
from .errors import Away, BadInput, CannotWrite, JudgeFailure
from .fleet.crew import Engine, Lost, Tell
from .fleet.engine import Stopped
from .fleet.output import Output, output_of
from .fleet.shard import WHOLE, Shard
from .fleet.sharing import shared
from .models.registry import Models
from .models.source import Facts, Source, facts_of
from .reading import json_of
from .records import from_json, to_json
from .run.earlier import as_begun
from .run.loop import Call
from .run.references import ReferenceFile, parse_reference, with_references
from .run.run_folder import BEST
from .run.run_models import same_models
from .run.session import Session
from .storage.lock import FolderHeld
from .storage.names import is_portable
from .trajectory import Trajectory

SUMMARY = "summary.json"
"""Name of the file with the results, in the output folder."""
SUMMARIES = re.compile(r"summary(-\d+-of-\d+)?\.json")
"""The names of such files, those of shards too."""
BETWEEN = "|"
"""What stands between the references in a cell of a CSV."""
LISTS = (".txt", ".csv")
"""Endings of the files that are read as `brief_list` reads them; any other is JSON, one value a line."""
MOST = 1024
"""The largest number of runs at the same time."""
HELD = 60
"""Seconds that a worker waits for the folder of a run that another holds: a worker of a killed process may still be at it."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to make.

    id: unique in the batch; name of the run's folder.
    brief: what to draw.
    references: files of the brief's references, in their order.
    """

    id: str
    brief: Brief
    references: tuple[ReferenceFile, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the file. A field that is absent has the value of the command line."""

    prompt: str
    id: str = ""
    seed: int | None = None
    strategy: str | None = None
    candidates: int | None = None
    goals: tuple[Goal, ...] = ()
    references: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    id: of the job.
    state: met or unmet (goals), failed (`reason` says why), or stopped (the same command continues it).
    reason: why the run ended, in words.
    goals, goals_met: how many goals the run had, and how many its best picture meets.
    steps, images, evaluations, vlm_tokens: what the run spent.
    best: path of its best picture, relative to the output folder; "" if there is none.
    """

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


Event = Result | dict[str, Any] | None
"""None: the run begins. A dict: the line of the journal that was just written. A Result: the run ended."""
OnEvent = Callable[[str, Event], None]
"""Called with the id of a job and what happened to its run."""


def _ignore(job: str, event: Event) -> None:
    pass


def read_jobs(path: Path, usual: Brief, references: Sequence[str] = ()) -> list[Job]:
    """Read one brief a line: a JSON string (the prompt), or a JSON object with `prompt` and optionally id, seed,
    strategy, candidates, goals, references (a list of texts as `parse_reference` parses them).

    path: a UTF-8 file; empty lines are skipped. A .txt has a prompt a line, a .csv a header with the same names but
        goals, and BETWEEN between references. Files of references are searched in the folder of this file.
    usual: the values of what a line leaves out.
    references: of each line that leaves them out, with files in the working directory.

    A brief without an id gets one made of its line number and a hash of its content. Raises BadInput naming the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8: {error}") from error
    listed = path.suffix.lower() in LISTS
    try:
        lines = rows_of(text) if listed else [each for each in enumerate(text.split("\n"), 1) if each[1].strip()]
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    jobs: dict[str, Job] = {}
    usually = tuple(map(parse_reference, references))
    known: dict[ReferenceFile, Reference] = {}
    for number, line in lines:
        try:
            data = _from_texts(line) if listed else json_of(line)
            job = _job(data, number, usual, path.parent, usually, known)
        except ValueError as error:
            raise BadInput(f"{path} line {number}: {error}") from error
        if job.id.casefold() in jobs:
            raise BadInput(
                f"{path} line {number}: the id {job.id!r} is taken by an earlier line (case does not count); each needs its own"
            )
        jobs[job.id.casefold()] = job
    if not jobs:
        raise BadInput(
            f"{path} holds no briefs; write one JSON object a line, such as {json.dumps({'prompt': 'a red cat'})}"
        )
    return list(jobs.values())


def _from_texts(row: Any) -> Any:
    """Return a row of a CSV, which has texts alone, with its whole numbers and its references as such."""
    if not isinstance(row, dict):
        return row
    whole = {name: int(row[name]) for name in ("seed", "candidates") if str(row.get(name, "")).isdecimal()}
    named = {"references": [each.strip() for each in row["references"].split(BETWEEN)]} if "references" in row else {}
    return row | whole | named


def _job(
    data: Any,
    number: int,
    usual: Brief,
    folder: Path,
    usually: tuple[ReferenceFile, ...],
    known: dict[ReferenceFile, Reference],
) -> Job:
    """Return the job of a line. known: references that earlier lines have read, to which this one adds."""
    data = {"prompt": data} if isinstance(data, str) else data
    if isinstance(data, dict) and (unknown := sorted(data.keys() - {field.name for field in fields(_Line)})):
        raise BadInput(f"{unknown[0]} is not known; choose from {', '.join(field.name for field in fields(_Line))}")
    line = from_json(_Line, data, "brief")
    given = {
        name: getattr(line, name) for name in ("seed", "strategy", "candidates") if getattr(line, name) is not None
    }
    files = usually if line.references is None else tuple(parse_reference(each, folder) for each in line.references)
    for each in files:
        if each not in known:
            known[each] = with_references(usual, [each.read()])[0].references[0]
    references = tuple(known[each] for each in files)
    brief = replace(usual, prompt=line.prompt, goals=line.goals, references=references, **given)
    if line.id and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", line.id):
        raise BadInput(
            f"the id {line.id!r:.80} cannot name a folder; use letters, digits, dots, underscores and hyphens"
        )
    if line.id and (SUMMARIES.fullmatch(line.id.casefold()) or not is_portable(line.id)):
        raise BadInput(f"the id {line.id!r} cannot name a folder here or on Windows; choose another")
    # Without the budget, so that a larger one continues the same run, and without `guided`, which was off before.
    content = json.dumps(to_json(replace(brief, budget=Brief("x").budget, guided=False)), sort_keys=True)
    return Job(line.id or f"{number:04}-{hashlib.sha256(content.encode()).hexdigest()[:8]}", brief, files)


def run_batch(
    jobs: Sequence[Job],
    models: Models,
    out: Path | str,
    concurrency: int,
    on_event: OnEvent = _ignore,
    tick: Callable[[], object] | None = None,
    shard: Shard = WHOLE,
) -> list[Result]:
    """Do as `paint` does, in an event loop of its own.

    tick: called every second.

    Ctrl-C raises KeyboardInterrupt after every run has left the call that it was in.
    """

    async def ticking() -> None:
        while tick:
            tick()
            await asyncio.sleep(1)

    async def running() -> list[Result]:
        clock = asyncio.create_task(ticking())
        try:
            return await paint(jobs, models, out, concurrency, on_event, shard)
        finally:
            clock.cancel()

    return asyncio.run(running())


async def paint(
    jobs: Sequence[Job],
    models: Models,
    out: Path | str,
    concurrency: int,
    on_event: OnEvent = _ignore,
    shard: Shard = WHOLE,
) -> list[Result]:
    """Run all jobs of the shard, and return their results in the order of the jobs. The results are also written to
    SUMMARY, or to the file of the shard.

    models: shared by all runs.
    out: folder for the folders of the runs, or a url of an object store (s3://bucket/folder); a run that is there already is
        continued.
    concurrency: runs at the same time, 1 to MOST.
    on_event: called from any thread when a run begins, writes a line of its journal, and ends.
    shard: the part of the jobs that is run here. Other processes may run others in the same folder at the same time.

    When the coroutine is cancelled, waiting for a server ends at once, other calls are finished, and every run can be
    continued later. A run that fails gives a Result with state `failed`. When a server is away for longer than it is
    waited for, its runs end as `stopped`, and none is begun after them. Raises BadInput for a concurrency out of range,
    for a folder that another process holds or that cannot be written, and once the disk takes no file any more.
    """
    if not 1 <= concurrency <= MOST:
        raise BadInput(f"--concurrency is {concurrency}; it must be between 1 and {MOST}")
    jobs, stop, gate = shard.of(jobs), threading.Event(), asyncio.Semaphore(concurrency)
    away: list[str] = []

    async def run(job: Job) -> Result:
        async with gate:
            if away:  # each of the others would wait for the same server in vain
                result = Result(job.id, "stopped", away[0])
                on_event(job.id, None)
                on_event(job.id, result)
                return result
            on_event(job.id, None)
            try:
                tell = partial(on_event, job.id)
                result = await loop.run_in_executor(pool, _run, job, used, place, tell, stop)
            except asyncio.CancelledError:
                stop.set()
                on_event(job.id, Result(job.id, "stopped", "to be gone on with by the same command"))
                raise
            except Away as error:
                away.append(str(error))
                result = Result(job.id, "stopped", away[-1])
            on_event(job.id, result)
            return result

    # Not the pool of the event loop, which has about one thread a core: a run that waits for a server occupies a
    # thread.
    workers, loop = max(1, min(concurrency, len(jobs))), asyncio.get_running_loop()
    place = output_of(out)
    with place.alone(shard), shared(models, stop) as used, ThreadPoolExecutor(workers) as pool:
        try:
            results = await asyncio.gather(*map(run, jobs))
        except BaseException:
            stop.set()
            raise
        place.write(summary_name(shard), (json.dumps(batch_summary(results), indent=1) + "\n").encode())
    return results


def paint_on(
    engine: Engine,
    source: Source,
    plan: Callable[[Models], Sequence[Job]],
    out: Path | str,
    on_event: OnEvent = _ignore,
    tick: Callable[[], object] | None = None,
    shard: Shard = WHOLE,
) -> list[Result]:
    """Do as `run_batch` does, by workers that load the models from their source. All write in `out`, which each machine
    must see under the same path.

    plan: makes the jobs, given stand-ins for the workers' models.

    A run whose worker dies is gone on with by another one; if that happens again and again it gives a Result with state
    `failed`.
    """
    place = output_of(out)
    with place.alone(shard), engine.crew(Painting(source, place)) as crew:
        jobs = shard.of(plan(facts_of(crew).models()))
        results: dict[int, Result] = {}
        away: list[str] = []

        def pieces() -> Iterator[Job]:
            for job in jobs:
                if away:
                    return
                yield job

        def told(number: int, line: dict[str, Any] | None) -> None:
            on_event(jobs[number].id, line)

        for number, result in crew.run(pieces(), told, tick or (lambda: None)):
            if isinstance(result, Lost):
                result = Result(jobs[number].id, "failed", f"{result.why}; the others were gone on with")
            assert isinstance(result, Result)
            if result.state == "stopped":
                away.append(result.reason)
            results[number] = result
            on_event(result.id, result)
        for number, job in enumerate(jobs):
            if number not in results:
                results[number] = Result(job.id, "stopped", away[0])
                on_event(job.id, None)
                on_event(job.id, results[number])
        ordered = [results[number] for number in range(len(jobs))]
        place.write(summary_name(shard), (json.dumps(batch_summary(ordered), indent=1) + "\n").encode())
    return ordered


@dataclass(frozen=True, slots=True)
class Painting:
    """A `Task` for a crew: a piece is a job, and what is told of it are the lines of its journal, after None as it
    begins. The piece None gives the `Facts` of the models."""

    source: Source
    out: Output

    @contextmanager
    def open(self, stop: threading.Event) -> Iterator[Callable[[Job | None, Tell], Result | Facts]]:
        with shared(self.source.load(), stop) as models:

            def do(job: Job | None, tell: Tell) -> Result | Facts:
                if job is None:
                    return Facts.of(models)
                tell(None)
                try:
                    session, call = _begin_patiently(job, models, self.out, tell, stop)
                    return _to_its_end(job, session, call, self.out, stop)
                except Away as error:
                    return Result(job.id, "stopped", str(error))
                except (BadInput, JudgeFailure, OSError) as error:
                    return _failed(job, error)

            yield do


def _begin_patiently(
    job: Job, models: Models, out: Output, on_line: Callable[[dict[str, Any]], None], stop: threading.Event
) -> tuple[Session, Call | None]:
    """Do as `_begin` does, and wait for a folder that another process holds."""
    for _ in range(HELD):
        with suppress(FolderHeld):
            return _begin(job, models, out, on_line)
        if stop.wait(1):
            raise Stopped
    return _begin(job, models, out, on_line)


def summary_name(shard: Shard) -> str:
    """Return the name of the file with the results, in the output folder."""
    return SUMMARY.replace(".", f"{shard.suffix}.")


def batch_summary(results: Iterable[Result]) -> dict[str, Any]:
    """Return the content of SUMMARY: counts by state, totals, and every result."""
    results = list(results)
    counts = {
        state: sum(result.state == state for result in results) for state in ("met", "unmet", "failed", "stopped")
    }
    totals = {
        name: sum(getattr(result, name) for result in results)
        for name in ("steps", "images", "evaluations", "vlm_tokens")
    }
    return {"runs": len(results), **counts, **totals, "results": [to_json(result) for result in results]}


def _run(
    job: Job, models: Models, out: Output, on_line: Callable[[dict[str, Any]], None], stop: threading.Event
) -> Result:
    """Run a job, in a thread of its own, because it waits for models and files."""
    try:
        return _to_its_end(job, *_begin(job, models, out, on_line), out, stop)
    except (BadInput, JudgeFailure, OSError) as error:
        return _failed(job, error)


def _to_its_end(job: Job, session: Session, call: Call | None, out: Output, stop: threading.Event) -> Result:
    """Go on with a run from this call. Raises Stopped between two calls once `stop` is set."""
    while call is not None:
        if stop.is_set():
            session.folder.close()
            raise Stopped
        call = _turn(session, call)
    return _result_in(job, session.trajectory, out)


def _failed(job: Job, error: Exception) -> Result:
    """Return the result of a run that cannot go on. Raises what ails the whole disk: the others would draw for nothing."""
    if isinstance(error, CannotWrite) and error.of_disk:
        raise error
    return Result(job.id, "failed", str(error))


def _begin(
    job: Job, models: Models, out: Output, on_line: Callable[[dict[str, Any]], None]
) -> tuple[Session, Call | None]:
    """Create or continue the run of a job, and return its session and its first call (None if the run has ended)."""
    if models.check:
        models.check(job.brief.prompt)
    folder = out.run(job.id)
    brief = as_begun(job.brief, folder.lines)
    if folder.lines and folder.lines[0].get("brief") != to_json(brief):
        raise BadInput(
            f"{folder.where} is a run of another brief or budget; choose another --out, or give this one another id"
        )
    references = {} if folder.lines else with_references(brief, [each.read() for each in job.references])[1]
    session = Session(brief, models, folder, listener=lambda event, line: on_line(line), references=references)
    if not same_models(folder.lines[0].get("models"), models.names):
        raise BadInput(f"{folder.where} was made by other models; go on with those or choose another --out")
    return session, session.advance()


def _turn(session: Session, call: Call) -> Call | None:
    """Perform a call, record its result, and return the next call (None if the run has ended)."""
    result = session.perform(call)
    session.note(call, result)
    return session.advance(result)


def result_of(job: Job, trajectory: Trajectory, out: Path | str) -> Result:
    """Return how a run that has ended ended. out: the folder or url for the folders of the runs."""
    return _result_in(job, trajectory, output_of(out))


def _result_in(job: Job, trajectory: Trajectory, out: Output) -> Result:
    step, cost = trajectory.best_step, trajectory.cost
    met = sum(verdict.state == "met" for verdict in step.verdicts) if step else 0
    outcome = trajectory.outcome
    assert outcome is not None, "a run without a next call has ended"
    return Result(
        job.id,
        "met" if outcome.met else "unmet",
        outcome.reason,
        len(trajectory.goals),
        met,
        len(trajectory.steps),
        cost.images,
        cost.evaluations,
        cost.vlm_tokens,
        f"{job.id}/{BEST}" if out.has(f"{job.id}/{BEST}") else "",
    )


class Table:
    """The state of every run, redrawn at each event on a terminal; elsewhere one line for each run that ends.

    An `OnEvent`.
    """

    ROWS = 24

    def __init__(self, runs: int, file: Any = sys.stderr) -> None:
        self.file, self.runs = file, runs
        self.live = file.isatty()
        self._lock, self._drawn = threading.Lock(), 0
        self._rows: dict[str, tuple[float, str]] = {}
        self._tallies: dict[str, Tally] = {}
        self._ended: dict[str, int] = {}

    def __call__(self, job: str, event: Event) -> None:
        with self._lock:
            if isinstance(event, Result):
                started, _ = self._rows.pop(job)
                self._ended[event.state] = self._ended.get(event.state, 0) + 1
                seconds = time.monotonic() - started
                goals = f"{event.goals_met} of {event.goals} goals in {event.steps} steps, {seconds:.1f} s"
                words = goals if event.state in ("met", "unmet") else event.reason.partition("\n")[0]
                self._line(f"{job}  {event.state}  {words}")
            else:
                started, row = self._rows.get(job, (time.monotonic(), "begins"))
                self._rows[job] = started, self._row(job, event) or row
            if self.live:
                self._draw()

    def tick(self) -> None:
        """Redraw, so that the seconds count on while nothing happens."""
        with self._lock:
            if self.live and self._rows:
                self._draw()

    def _row(self, job: str, line: dict[str, Any] | None) -> str:
        """Return what a run is doing by the last line of its journal, "" if the line does not say."""
        if line is None:
            return ""
        tally = self._tallies.setdefault(job, Tally())
        tally.read(line)
        if line.get("event") == "step":
            return f"step {line['steps'][-1]['index']}: {tally.words(line['steps'][-1])}"
        return {"planned": "goals are set", "action": "draws", "drawn": "is judged"}.get(line.get("event", ""), "")

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
