"""Trajectories as training samples: an n-step trajectory gives n of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..brief import Brief, Conditioning
from ..errors import BadInput
from ..protocols import PromptWindow
from ..run.conditioning import shorten_to_window, words_of
from ..storage.pictures import DECODING_ERRORS, opened, pixels
from ..synthesis.data import Row, Turn, read_rows
from ..trajectory import Action, Step, Trajectory

if TYPE_CHECKING:
    from ..executor.klein import KleinExecutor

SHARE = 8
"""One row in this many is held out."""


@dataclass(frozen=True)
class Sample:
    """One step of a trajectory.

    brief: the prompt of the run.
    past, last: the earlier actions and the one of this step.
    scene_prompt, edit_prompt: its proxy prompts.
    references: the given canvases, the one to edit first.
    target: the picture that the step drew.
    number: 1 for the first step.
    """

    brief: str
    past: tuple[Action, ...]
    last: Action
    scene_prompt: str
    edit_prompt: str
    references: tuple[Path, ...]
    target: Path | None
    number: int = 1

    @property
    def words(self) -> str:
        return words_of(self.last)

    def text(self, mode: Conditioning, window: PromptWindow) -> str:
        """Return the prompt of the executor: the accumulated trace, shortened as the loop does it, or in mode `proxy`
        the words of this step alone."""
        steps = tuple(Step(index, action, accepted=True) for index, action in enumerate(self.past))
        return shorten_to_window(Trajectory(Brief(self.brief, conditioning=mode), steps=steps), self.last, window)[0]

    def target_picture(self) -> np.ndarray:
        """Read the picture that the step drew, uint8 H x W x 3. Raises ValueError for a sample without one."""
        if self.target is None:
            raise ValueError(f"the sample of {self.brief!r:.60} has no target picture")
        return read_picture(self.target)

    @cached_property
    def pictures(self) -> tuple[np.ndarray, ...]:
        """uint8 H x W x 3 each."""
        return tuple(map(read_picture, self.references))


@dataclass(frozen=True)
class Window:
    """The prompt window of an executor, or a smaller one: a shorter text is cheaper to train on."""

    executor: KleinExecutor
    limit: int | None = None

    @property
    def window(self) -> int:
        return min(self.executor.window, self.limit or self.executor.window)

    def tokens(self, prompt: str) -> int:
        return self.executor.tokens(prompt)

    def fits(self, prompt: str) -> bool:
        return self.tokens(prompt) <= self.window


def read_picture(path: Path) -> np.ndarray:
    """Read a picture as uint8 H x W x 3."""
    with opened(path.read_bytes()) as image:
        return pixels(image)


def one_shot(brief: str, target: Path | None = None) -> Sample:
    """Return the sample of a brief drawn in one shot: its own words draw and judge."""
    return Sample(brief, (), Action("GENERATE", scene_prompt=brief), brief, "", (), target)


def samples_of(folder: Path, row: Row) -> list[Sample]:
    """Return the steps of a row. Raises OSError if one of its pictures is missing or unreadable."""
    paths = [folder / turn.image for turn in row.turns]
    for path in paths:
        data = path.read_bytes()
        try:
            with opened(data) as picture:
                picture.verify()
        except DECODING_ERRORS as error:
            raise OSError(f"{path} is no picture") from error
    actions = tuple(map(_action, row.turns))
    return [
        Sample(
            row.prompt,
            actions[:place],
            actions[place],
            turn.scene_prompt,
            turn.edit_prompt,
            tuple(paths[reference] for reference in turn.references),
            paths[place],
            place + 1,
        )
        for place, turn in enumerate(row.turns)
    ]


def _action(turn: Turn) -> Action:
    if turn.kind == "EDIT":
        return Action(turn.kind, turn.summary, edit_prompt=turn.words)
    return Action(turn.kind, turn.summary, scene_prompt=turn.words)


@dataclass(frozen=True)
class Samples:
    """The samples of a data set.

    train, held: of the rows to train on, and of every SHARE-th row, which is held out.
    skipped: rows left out because a picture was missing.
    wholes: of each row to train on, the brief alone with the last canvas.
    """

    train: tuple[Sample, ...]
    held: tuple[Sample, ...]
    skipped: int
    wholes: tuple[Sample, ...] = ()

    @classmethod
    def read(cls, folder: Path, report: Callable[[str], None] = print) -> Samples:
        """Read a data set. Raises BadInput if it has no rows, or none with all its pictures."""
        train: list[Sample] = []
        held: list[Sample] = []
        wholes: list[Sample] = []
        skipped, rows = 0, read_rows(folder)
        for place, row in enumerate(rows):
            try:
                found = samples_of(folder, row)
            except OSError as error:
                skipped += 1
                report(f"row {row.id} is left out: {error}")
                continue
            if place % SHARE == SHARE - 1:
                held += found
                continue
            train += found
            wholes.append(one_shot(row.prompt, found[-1].target))
        if not train:
            raise BadInput(
                f"{folder} holds no trajectory with all its pictures ({skipped} of {len(rows)} left out); make more of them"
            )
        return cls(tuple(train), tuple(held or train), skipped, tuple(wholes))


def alike(samples: Sequence[Sample], rng: random.Random, batch: int) -> list[Sample]:
    """Return a batch of samples with the same number of references. Each number is drawn as often as the samples have
    it."""
    count = len(rng.choice(samples).references)
    fitting = [sample for sample in samples if len(sample.references) == count]
    return [rng.choice(fitting) for _ in range(batch)]
