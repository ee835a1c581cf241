"""Supervised fine-tuning of a controller and judge on verified runs: goals, actions and verdicts in the words of the loop.

What is learnt from is what the model itself would have written; requests, pictures and verdicts between are read and
not learnt, nor is what was rolled back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from ..errors import BadInput
from ..protocols import Vlm
from ..records import to_json
from ..synthesis.critique import Critique, read_critiques
from ..synthesis.engine import SETTINGS
from ..synthesis.lessons import TASKS, Form, Lesson, Task, kept_runs, lessons_of, lessons_of_critique
from ..synthesis.overlap import refuse_overlaps
from ..synthesis.reasons import Reasons
from ..vlm.local import Local, LocalVlm
from ..weights.manifest import digests
from .adapter import Lora
from .fit import Schedule, fit
from .measures import MEASURES, Measures
from .stage import curve_of, processes, settle, stage
from .vlm_rollouts import Row, Said, log_probabilities_of, rows_of
from .vlm_tuning import load_trainable, save_tuned

RUNS_AT_HAND = 64
"""Runs whose rows are kept in memory."""


@dataclass(frozen=True)
class VlmSftConfig:
    """Settings of the training.

    form: whether actions are asked for in one conversation a run, each of which is one row, or by single prompts.
    goals, action, verdict, critique: how often a row is of each task, in parts of their sum; a task with 0 is left out.
        critique counts where a data set of critiques is given, and is of it.
    checks: whether lists of goals are learnt with a question for each goal; a small model reads those off the goals.
    batch: rows of a step of the optimiser; one after another goes through the model.
    longest: tokens of a row; longer ones are left out and counted.
    held_out: runs, and as many critiques, that are not trained on; what is told of them is measured every `measure_every`
        steps.
    lora: rank 0 trains all weights.
    dtype, image_side: of the model, as in `Local`.
    """

    form: Form = "conversation"
    goals: float = 0.2
    action: float = 0.5
    verdict: float = 0.3
    critique: float = 0.3
    checks: bool = True
    batch: int = 8
    longest: int = 8192
    held_out: int = 0
    measure_every: int = 100
    lora: Lora = field(default_factory=lambda: Lora(0, 0))
    dtype: Literal["bfloat16", "float16", "float32"] = "float32"
    image_side: int = 1024
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=1000, lr=1e-5, warmup=100, floor=0.0, weight_decay=0.0, ema=0.0, log_every=10, save_every=100
        )
    )

    def __post_init__(self) -> None:
        shares = [getattr(self, task) for task in TASKS]
        if min(*shares, self.critique) < 0 or not sum(shares):
            raise BadInput(
                f"the shares of {', '.join(TASKS)} and critique are {[*shares, self.critique]}; none may be below 0, and one of the "
                "first three must be above"
            )
        if self.batch < 1:
            raise BadInput(f"batch is {self.batch}; it must be at least 1")


class Learning(torch.nn.Module):
    """The loss of one row."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, row: Row) -> Tensor:
        """Return the mean over the row's learnt tokens of -log probability, a scalar. So a verdict, which is one token,
        counts as much as a reply of hundreds."""
        return -log_probabilities_of(self.model, row).mean()


class Rows:
    """The rows of a data set, run by run, and of critiques.

    critiques: with the folder of their data set; each is asked for its lessons when it is drawn.
    too_long: rows that were left out.
    """

    def __init__(
        self,
        vlm: LocalVlm,
        data: Path,
        names: Sequence[str],
        config: VlmSftConfig,
        reasons: Reasons | None,
        critiques: tuple[Path, Sequence[Critique]] | None = None,
    ) -> None:
        self.vlm, self.data, self.names, self.config, self.reasons = vlm, data, list(names), config, reasons
        self.critiques = critiques
        self.tasks: tuple[Task, ...] = (*TASKS, "critique") if critiques and critiques[1] else TASKS
        self.too_long = 0
        self._of = lru_cache(RUNS_AT_HAND)(self._read)

    def draw(self, chance: random.Random) -> Row:
        """Return one row. Raises BadInput if 1,000 runs, or critiques, in a row have none of the task."""
        tasks, shares = zip(*((task, getattr(self.config, task)) for task in self.tasks))
        (task,) = chance.choices(tasks, shares)
        for _ in range(1000):
            if task == "critique" and self.critiques:
                if rows := self._of_critique(chance.choice(self.critiques[1])):
                    return chance.choice(rows)
                continue
            rows = self._of(chance.choice(self.names))[task]
            if task == "verdict" and rows:
                # Half of the verdicts that are learnt are Yes, so that No is no safe guess, nor is Yes.
                wanted = self.yes if chance.random() < 0.5 else self.no
                rows = [row for row in rows if row.tail == [wanted]]
            if rows:
                return chance.choice(rows)
        data = self.critiques[0] if task == "critique" and self.critiques else self.data
        raise BadInput(f"the data set {data} has no lessons of {task}; set its share to 0 in --config")

    def every(self) -> Iterator[tuple[Task, Row]]:
        """Yield each row of each task that is learnt."""
        for name in self.names:
            for task in TASKS:
                for row in self._of(name)[task] if getattr(self.config, task) else ():
                    yield task, row
        if self.critiques and self.config.critique:
            for critique in self.critiques[1]:
                for row in self._of_critique(critique):
                    yield "critique", row

    @property
    def yes(self) -> int:
        return self._tokens("Yes")[0]

    @property
    def no(self) -> int:
        return self._tokens("No")[0]

    def _read(self, name: str) -> dict[Task, list[Row]]:
        lessons = lessons_of(self.data, name, self.config.form, reason=self.reasons, checks=self.config.checks)
        found: dict[Task, list[Row]] = {}
        for task in TASKS:
            rows = rows_of(self._said(lesson) for lesson in lessons if lesson.task == task)
            fits = [row for row in rows if row.chosen and len(row.keys) <= self.config.longest]
            self.too_long += sum(bool(row.chosen) for row in rows) - len(fits)
            found[task] = fits
        return found

    def _of_critique(self, critique: Critique) -> list[Row]:
        assert self.critiques is not None
        rows = [row for each in lessons_of_critique(self.critiques[0], critique) for row in rows_of([self._said(each)])]
        return [row for row in rows if len(row.keys) <= self.config.longest]

    def _said(self, lesson: Lesson) -> Said:
        if lesson.question:
            return Said(self.vlm.question(lesson.images, lesson.question), self._tokens(lesson.reply)[:1], [0], [None])
        # With the mark that ends the reply, or the model would never learn to end.
        tokens = [*self._tokens(lesson.reply), self.vlm.processor.tokenizer.eos_token_id]
        learnt = list(range(len(tokens))) if lesson.learnt else []
        return Said(self.vlm.request(lesson.messages, lesson.schema), tokens, learnt, [None] * len(learnt))

    def _tokens(self, text: str) -> list[int]:
        return self.vlm.processor.tokenizer(text, add_special_tokens=False)["input_ids"]


@stage
def vlm_sft(
    out: Path,
    start: Path,
    data: Path,
    config: Path | None = None,
    *,
    seed: int = 0,
    benchmarks: Sequence[Path] = (),
    teacher: Vlm | None = None,
    critiques: Path | None = None,
    accelerator: Accelerator | None = None,
) -> Path:
    """Train the model in the folder `start` on the kept runs of the data set `data`, or continue a run that was stopped in
    `out`. Returns the folder of the weights.

    benchmarks: files of prompts that the briefs of the data set must not be, nor be near to.
    teacher: rewrites the reasons of actions in the first person; what it wrote is kept in `out`.
    critiques: a data set of `clvr synthesize --critique`, whose inspections and better actions are learnt beside the runs.

    Raises BadInput for settings, weights or data that cannot be used, for a brief of a benchmark, and under several
    processes.
    """
    accelerator = accelerator or processes()
    if accelerator.num_processes > 1:
        raise BadInput(
            f"this stage runs in one process, and here are {accelerator.num_processes}; for several GPUs give trl.jsonl to "
            "TRL's SFTTrainer, see docs/stickers-vlm.md"
        )
    criticised = read_critiques(critiques) if critiques else []
    refuse_overlaps([*_briefs(data), *(each.brief for each in criticised)], benchmarks)
    run = {"stage": "vlm sft", "seed": seed, "start": digests(start), "data": data.name}
    if critiques:
        run["critiques"] = critiques.name
    settings = settle(out, VlmSftConfig, config, run | {"teacher": teacher.name if teacher else ""})
    names = kept_runs(data)
    if len(names) <= settings.held_out:
        raise BadInput(f"{data} keeps {len(names)} runs, and {settings.held_out} are held out; make more of them")
    local = Local(str(start), str(accelerator.device), settings.dtype, image_side=settings.image_side)
    vlm, around = load_trainable(local, settings.lora)
    reasons = Reasons(teacher, out, accelerator.print) if teacher else None
    shuffled = random.Random(f"{seed}/held out").sample(names, len(names))
    if critiques and len(criticised) <= settings.held_out:
        raise BadInput(
            f"{critiques} has {len(criticised)} critiques, and {settings.held_out} are held out; make more of them"
        )
    mixed = random.Random(f"{seed}/held out critiques").sample(criticised, len(criticised))
    unseen, train = (
        Rows(vlm, data, shuffled[part], settings, reasons, (critiques, mixed[part]) if critiques else None)
        for part in (slice(settings.held_out), slice(settings.held_out, None))
    )
    learning, log = Learning(vlm.model), Measures(out, accelerator)

    def loss_of(wrapped: torch.nn.Module, step: int) -> Tensor:
        if settings.held_out and step % settings.measure_every == 0:
            log.add(step, measured(learning, unseen))
        rows = [train.draw(random.Random(f"{seed}/step/{step}/{place}")) for place in range(settings.batch)]
        told = torch.zeros((), device=accelerator.device)
        for row in rows[:-1]:  # one after another, so that memory holds the passes of one
            loss = wrapped(row) / len(rows)
            accelerator.backward(loss)
            told += loss.detach()
        return wrapped(rows[-1]) / len(rows) + told

    schedule = settings.schedule
    fit(
        learning,
        loss_of,
        schedule,
        out / "sft",
        seed=seed,
        accelerator=accelerator,
        report=accelerator.print,
        resumed=log.resume,
    )
    if settings.held_out:
        log.add(schedule.steps, measured(learning, unseen))
    record: dict[str, Any] = {
        "stage": "vlm sft",
        "seed": seed,
        "config": to_json(settings),
        "runs": len(train.names),
        "critiques": len(train.critiques[1]) if train.critiques else 0,
        "too_long": train.too_long,
        "reasons": {"teacher": teacher.name, "kept": reasons.kept_as_they_were} if teacher and reasons else None,
        "curves": {"sft": curve_of(out / "sft")},
        "measures": curve_of(out, MEASURES) if settings.held_out else [],
        "start": {"files": digests(start)},
    }
    return save_tuned(out, start, vlm.model, around, record)


def _briefs(data: Path) -> list[str]:
    """Return the briefs of a data set. Raises BadInput for a folder that is none."""
    try:
        return json.loads((data / SETTINGS).read_text(encoding="utf-8"))["prompts"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{data / SETTINGS} cannot be read ({error}); make the data set with clvr synthesize") from error


def measured(learning: Learning, rows: Rows) -> dict[str, float]:
    """Return for each task the mean loss of all rows."""
    sums: dict[str, list[float]] = {}
    training = learning.training
    learning.eval()
    with torch.no_grad():
        for task, row in rows.every():
            told = sums.setdefault(task, [0.0, 0.0])
            told[0] += float(learning(row))
            told[1] += 1
    learning.train(training)
    return {f"held_{task}": loss / count for task, (loss, count) in sums.items()}
