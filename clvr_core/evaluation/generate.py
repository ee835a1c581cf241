"""Drawing the pictures of a benchmark by one arm, in the benchmark's own layout. A stopped run is continued."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import BadInput
from ..fleet.crew import Crew, Lost, Tell
from ..fleet.engine import stopping
from ..fleet.output import Output
from ..fleet.shard import WHOLE, Shard, alone
from ..models.registry import Models
from ..models.source import Facts, Source
from ..policy import LOOPS
from ..run.start_image import fit_to_canvas
from .arms import ARMS, PLAN, Job, Made, NotMade, Way
from .benchmarks import Benchmark, data_hash
from .benchmarks.base import Item
from .store import Arm, file_hash, read_picture, seed_of
from .variants import base_of, options_of

STEP = 16
"""Pixels. The sides of a picture to edit are cut to a multiple of this."""
SILENT = 3
"""After this many pictures in a row without an answer the vision-language model is taken to be down."""
Progress = Callable[[int, int, str], None]
"""Called with the pictures that exist, the pictures wanted, and a remark."""


@dataclass(frozen=True)
class Order:
    """What to draw.

    arm: name of the arm.
    pictures: of each item, at most as many as the benchmark has; None for all.
    limit: items in all, spread over the tags; None for all.
    evaluations: transformer evaluations for each picture, at most.
    match: another arm whose evaluations for each picture are the limit for the same picture here.
    shard: the part of the pictures that is drawn here; other processes may draw the others at the same time.
    """

    arm: str
    seed: int = 0
    pictures: int | None = None
    limit: int | None = None
    evaluations: int | None = None
    match: Arm | None = None
    rounds: int = 8
    patience: int = 3
    parallel: int = 4
    keep_runs: bool = True
    shard: Shard = WHOLE

    def __post_init__(self) -> None:
        options_of(self.arm)
        if base_of(self.arm) not in ARMS:
            raise BadInput(f"unknown arm {self.arm!r:.40}; choose one of {', '.join(ARMS)}")
        for name in ("pictures", "limit", "evaluations", "rounds", "patience", "parallel"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} is {value}; it must be at least 1")
        if self.evaluations is not None and self.match is not None:
            raise BadInput("evaluations and match both set the limit; give one of them")


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost, estimated before anything is drawn.

    evaluations: at most.
    seconds: from the pictures that exist already; None without any.
    """

    pictures: int
    left: int
    evaluations: int
    seconds: float | None

    def __str__(self) -> str:
        time = "" if self.seconds is None else f", about {self.seconds / 60:.0f} minutes by the pictures made so far"
        return f"{self.left} of {self.pictures} pictures to draw, at most {self.evaluations:,} evaluations{time}"


@dataclass
class Generated:
    """The result of a run.

    made, there: pictures drawn now, and pictures that existed.
    failed: (picture, why) of those that could not be made.
    """

    made: int = 0
    there: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


class Generation:
    def __init__(
        self,
        bench: Benchmark,
        data: Path,
        arm: Arm,
        order: Order,
        models: Models,
        crew: Crew[Sequence[Job] | None, Sequence[Made | NotMade] | Facts] | None = None,
    ) -> None:
        """
        crew: draws the pictures, by `Drawing`; None draws them in this process. Then `models` are stand-ins.

        Raises BadInput if the pictures of that name were made with other settings.
        """
        self.crew = crew
        self.bench, self.data, self.arm, self.order, self.models = bench, data, arm, order, models
        self.items = sample(bench.read(data), order.limit)
        self.limits = _limits(order.match)
        arm.agree(self.settings())
        self.way = way_of(order, models, arm.runs, not _begun_unguided(arm))

    def settings(self) -> dict[str, Any]:
        """Return the settings that the pictures depend on. How many are drawn, and how many at once, does not belong to
        them."""
        named = {"executor": self.models.executor.name}
        if self.order.arm != "oneshot":
            named |= {"controller": self.models.vlm.name, "verifier": (self.models.judge or self.models.vlm).name}
        order = self.order
        said: dict[str, Any] = {
            "bench": self.bench.name,
            "data_sha256": data_hash(self.bench, self.data),
            "arm": order.arm,
            "models": named,
            "seed": order.seed,
            "size": [self.models.width, self.models.height],
            "evaluations": order.evaluations,
            "match": order.match.name if order.match else None,
            "clvr": __version__,
        }
        said |= (
            {"rounds": order.rounds, "patience": order.patience}
            if order.arm not in ("oneshot", "rewrite", PLAN)
            else {}
        )
        guided = options_of(order.arm).get("guided")
        return said if guided is None or _begun_unguided(self.arm) else said | {"guided": guided}

    def wanted(self) -> list[tuple[Item, int]]:
        """Return the pictures of this shard."""
        return self.order.shard.of(
            [(item, k) for item in self.items for k in range(min(item.pictures, self.order.pictures or item.pictures))]
        )

    def left(self) -> list[tuple[Item, int]]:
        """Return the pictures still to make: those without a file or without a line, as a kill may leave them."""
        known = {(line["item"], line["k"]): line for line in self.arm.made() if "file" in line}
        return [
            (item, k)
            for item, k in self.wanted()
            if (item.id, k) not in known or self.arm.find(self.bench, item, k) is None
        ]

    def estimate(self) -> Estimate:
        left = self.left()
        seconds = [line["seconds"] for line in self.arm.made() if "file" in line]
        evaluations = sum(self.way.cost(self._job(item, k, source=False))[0] for item, k in left)
        guess = sum(seconds) / len(seconds) * len(left) if seconds else None
        return Estimate(len(self.wanted()), len(left), evaluations, guess)

    def _job(self, item: Item, k: int, source: bool = True) -> Job:
        limit = self.limits.get((item.id, k)) if self.order.match else self.order.evaluations
        if self.order.match and limit is None:
            raise BadInput(
                f"{self.order.match.name} has no picture {k} of item {item.id}; draw that first, or give --evaluations"
            )
        picture = None
        if item.source and source:
            picture = fit_to_canvas(read_picture(self.data / item.source), self.models.width, self.models.height, STEP)
        # Names of runs are folders; an item's id may hold a slash.
        return Job(f"{item.id}-{k}", item.prompt, seed_of(f"{self.order.seed}", item.id, k), picture, limit)

    def run(self, progress: Progress = lambda done, total, remark: None) -> Generated:
        """Draw the pictures. Raises BadInput if the vision-language model is down, a file cannot be written, or another
        process draws these pictures; everything before is saved."""
        with alone(self.arm.kept, self.order.shard):
            self.journal = self.arm.pictures(self.order.shard.suffix)
            return self._run(progress)

    def _run(self, progress: Progress) -> Generated:
        report, left = Generated(), self.left()
        total = len(self.wanted())
        report.there, silent = total - len(left), 0
        self.arm.settle(self.settings())
        self._sidecars()
        progress(report.there, total, "")
        with closing(self._made(left, report)) as results:
            for item, k, job, made in results:
                if isinstance(made, NotMade):
                    report.failed.append((job.name, made.why))
                    self.journal.append({"item": item.id, "k": k, "failed": made.why})
                    silent = silent + 1 if made.judge else 0
                    if silent >= SILENT:
                        raise BadInput(
                            f"the vision model is down: {made.why}; {report.there + report.made} of {total} pictures are there; "
                            "mend it and run the same command again"
                        )
                    continue
                silent = 0
                self._keep(item, k, job, made)
                report.made += 1
                progress(report.there + report.made, total, f"{made.evaluations} evaluations")
        return report

    def _made(
        self, left: Sequence[tuple[Item, int]], report: Generated
    ) -> Generator[tuple[Item, int, Job, Made | NotMade], None, None]:
        """Yield each picture as it is made, here or by the crew."""
        starts = range(0, len(left), self.order.parallel)
        batches = (self._readable(left[start : start + self.order.parallel], report) for start in starts)
        if self.crew is None:
            for batch in batches:
                jobs = [self._job(item, k) for item, k in batch]
                for (item, k), job, made in zip(batch, jobs, self.way.make(jobs)):
                    yield item, k, job, made
            return
        under_way: dict[int, tuple[list[tuple[Item, int]], list[Job]]] = {}

        def pieces() -> Iterator[list[Job]]:
            for number, batch in enumerate(batches):
                under_way[number] = batch, [self._job(item, k) for item, k in batch]
                yield under_way[number][1]

        for number, results in self.crew.run(pieces()):
            batch, jobs = under_way.pop(number)
            assert not isinstance(results, Facts)
            every = [NotMade(results.why)] * len(jobs) if isinstance(results, Lost) else results
            for (item, k), job, made in zip(batch, jobs, every):
                yield item, k, job, made

    def _readable(self, batch: Sequence[tuple[Item, int]], report: Generated) -> list[tuple[Item, int]]:
        """Return the jobs whose prompt the models can read and whose source can be opened."""
        kept = []
        for item, k in batch:
            try:
                if self.models.check:
                    self.models.check(item.prompt)
                if item.source:
                    read_picture(self.data / item.source)
            except BadInput as error:
                report.failed.append((f"{item.id}-{k}", str(error)))
                self.journal.append({"item": item.id, "k": k, "failed": str(error)})
                continue
            kept.append((item, k))
        return kept

    def _keep(self, item: Item, k: int, job: Job, made: Made) -> None:
        path = self.arm.save(self.bench, item, k, made.picture)
        line: dict[str, Any] = {
            "item": item.id,
            "k": k,
            "file": path.relative_to(self.arm.images).as_posix(),
            "sha256": file_hash(path),
            "seed": job.seed,
            "evaluations": made.evaluations,
            "images": made.images,
            "vlm_tokens": made.tokens,
            "vlm_calls": made.calls,
            "seconds": round(made.seconds, 3),
        }
        self.journal.append(line | made.record)
        self.way.done(job)

    def _sidecars(self) -> None:
        for name, text in self.bench.sidecars(self.items, self.arm.name).items():
            self.arm.write(name, text.encode())


def way_of(order: Order, models: Models, runs: Output, guided: bool) -> Way:
    return Way(order.arm, models, runs, order.rounds, order.patience, order.keep_runs, guided)


def _begun_unguided(arm: Arm) -> bool:
    """Whether its pictures were begun before loops were guided."""
    held = arm.settings
    return bool(held) and base_of(str(held.get("arm"))) in LOOPS and "guided" not in held


@dataclass(frozen=True)
class Drawing:
    """A `Task` for a crew: a piece is a batch of jobs. The piece None gives the `Facts` of the models. runs, guided: as for
    `Way`."""

    source: Source
    order: Order
    runs: Output
    guided: bool = True

    @classmethod
    def of(cls, source: Source, order: Order, arm: Arm) -> Drawing:
        # The jobs bring the evaluations of the arm to match.
        return cls(source, replace(order, match=None), arm.runs, not _begun_unguided(arm))

    @contextmanager
    def open(
        self, stop: threading.Event
    ) -> Iterator[Callable[[Sequence[Job] | None, Tell], Sequence[Made | NotMade] | Facts]]:
        models = self.source.load()
        way = way_of(self.order, models, self.runs, self.guided)

        def readable(job: Job) -> NotMade | None:
            try:
                if models.check:
                    models.check(job.prompt)
            except BadInput as error:
                return NotMade(str(error))
            return None

        def do(jobs: Sequence[Job] | None, tell: Tell) -> Sequence[Made | NotMade] | Facts:
            if jobs is None:
                return Facts.of(models)
            refused = [readable(job) for job in jobs]
            made = way.make([job for job, no in zip(jobs, refused) if no is None])
            return [next(made) if no is None else no for no in refused]

        with stopping((models.vlm, models.executor, models.judge), stop):
            yield do


def sample(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Return at most `limit` items, taken from the tags in turn, in the benchmark's order. A larger limit contains a
    smaller one."""
    if limit is None or limit >= len(items):
        return list(items)
    queues: dict[str, list[Item]] = {}
    for item in items:
        queues.setdefault(item.tag, []).append(item)
    chosen: set[str] = set()
    for turn in range(max(map(len, queues.values()))):
        for queue in queues.values():
            if turn < len(queue) and len(chosen) < limit:
                # From all over the tag, not its beginning alone: neighbours in these files are alike.
                chosen.add(queue[_spread(turn, len(queue))].id)
    return [item for item in items if item.id in chosen]


def _spread(turn: int, size: int) -> int:
    """Return the `turn`-th place of a fixed order that visits every place once, each far from the last."""
    step = max(1, round(size * 0.618))
    while math.gcd(step, size) != 1:
        step += 1
    return turn * step % size


def _limits(match: Arm | None) -> dict[tuple[str, int], int]:
    if match is None:
        return {}
    return {(line["item"], line["k"]): line["evaluations"] for line in match.made() if "file" in line}
