"""Settings of the embedded model's training, and the batches that worker processes make of them."""

from __future__ import annotations

import multiprocessing
import os
import queue
import random
import threading
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .compile import has_compiler
from .vlm_batches import Batch, Load, hold_out, work
from .vlm_canvases import Canvases, labels
from .vlm_questions import CHECKS

PACKED = 64
"""Pictures or pairs whose questions are read at once in a measurement."""
HELD_OUT = 990_001
"""Seed of the held-out pictures."""


@dataclass(frozen=True)
class Settings:
    """seconds: of wall time, everything included. warm: share of them for the vision part alone.
    pictures: of a batch; first: of one in the first stage. rate: of AdamW, for vectors and tables; muon: of Muon, for
    the matrices within. workers: processes that make questions. held_out: pictures of the accuracy that is noted `every`
    so many seconds. requests: to the controller in a batch; conversations: its runs as one conversation each in a batch.
    words, replies, marks, points, order: weights of the losses on answers in words, on the controller's replies, on what
    stands at each place, on the places that names point at, and on which token stood before; decisions have 1. symbols:
    share of what comes after the vision part in which the text part is given what the places show without a picture. low:
    share of the rates that is left at the end.
    drawn: share of the single pictures that are canvases of weights, where there are some.
    questions, kinds, briefs: for each single picture, to be answered with Yes or No, in words, and by a list of goals.
    repeats: rows of words by chance in a packed batch, parts of which come again. critiques: instructions in a packed batch
    that are criticised, beside those of the requests. checks: share of the goals that are asked
    as a question as well. worn: share of the pictures that are worn, which costs time. still: share of the second stage in
    which the vision part stays as the first left it, which saves time; let go at full rates it forgets some.
    pack: 1 to read what the questions about a picture share once (vlm_packing); 0 for a row for each, of which a batch has
    always as many, and in which names do not point. quick: 1 to compile what is between the matrices of packed questions, which
    takes a quarter of a minute and a C++ compiler.
    """

    seconds: float = 380
    warm: float = 0.2
    pictures: int = 128
    first: int = 192
    rate: float = 3e-3
    muon: float = 8e-3
    requests: int = 24
    conversations: int = 4
    drawn: float = 0.5
    words: float = 1.0
    replies: float = 0.7
    marks: float = 0.2
    points: float = 1.0
    order: float = 0.1
    symbols: float = 0.5
    low: float = 0.02
    decay: float = 0.05
    questions: int = 8
    kinds: int = 2
    briefs: int = 1
    repeats: int = 0
    critiques: int = 0
    checks: float = CHECKS
    worn: float = 1.0
    still: float = 0.0
    pack: int = 1
    quick: int = 0
    workers: int = 6
    held_out: int = 3000
    every: float = 60
    seed: int = 1


ON_CPU = {
    "pictures": 16,
    "questions": 10,
    "kinds": 1,
    "checks": 0.2,
    "worn": 0.5,
    "requests": 3,
    "conversations": 0,
    "held_out": 300,
    "every": 600.0,
}
"""Settings where each token costs time."""


def suited(settings: Settings, device: torch.device) -> Settings:
    """Return the settings for that device: ON_CPU on a CPU, compiled if there is a C++ compiler."""
    if device.type != "cpu":
        return settings
    return replace(settings, **ON_CPU, quick=int(has_compiler()))


class Feed:
    """Batches of the worker processes; an earlier one again where none is ready."""

    def __init__(self, settings: Settings, tokenizer: Path, canvases: Canvases | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.queue: Any = context.Queue(16)
        self.kept: deque[Batch] = deque(maxlen=400)
        self.again = 0
        share = settings.pictures / 256
        counts = round(1280 * share), round(544 * share), settings.requests, settings.conversations
        load = Load(
            settings.pictures,
            settings.requests,
            settings.conversations,
            counts,
            settings.questions,
            settings.kinds,
            settings.briefs,
            settings.checks,
            settings.pictures if settings.pack else 0,
            settings.drawn,
            settings.repeats,
            settings.critiques,
        )
        seen, unseen = (canvases and labels(canvases, held_out) for held_out in (False, True))
        given = load, seen
        self.workers = [
            context.Process(target=work, args=(self.queue, tokenizer, settings.seed * 1000 + n, *given), daemon=True)
            for n in range(settings.workers)
        ]
        threads = os.environ.get("OMP_NUM_THREADS"), os.environ.get("TOKENIZERS_PARALLELISM")
        os.environ["OMP_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"] = "1", "false"
        for worker in self.workers:
            worker.start()
        for name, value in zip(("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM"), threads):
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        self.unseen: Any = context.Queue(1)
        number = settings.held_out
        load = replace(
            load,
            pictures=number,
            asked_for=number // 2 if settings.requests else 0,
            talks=number // 8 if settings.conversations else 0,
            questions=12,
            kinds=1,
            packed=PACKED if settings.pack else 0,
            repeats=0,
            critiques=number if settings.critiques else 0,
        )
        held_out = self.unseen, tokenizer, HELD_OUT, load, unseen
        self.workers.append(context.Process(target=hold_out, args=held_out, daemon=True))
        self.workers[-1].start()
        self.held_out: tuple[Batch, Batch | None] | None = None
        self.ready: queue.Queue[Batch] = queue.Queue(48)
        threading.Thread(target=self._fetch, daemon=True).start()

    def _fetch(self) -> None:
        while True:
            self.ready.put(self.queue.get())

    def __call__(self) -> Batch:
        """Raises RuntimeError if no worker is left before the first batch."""
        while True:
            try:
                batch = self.ready.get(timeout=0.01 if len(self.kept) > 50 else 60)
                break
            except queue.Empty:
                if self.kept:
                    self.again += 1
                    return random.choice(self.kept)
                # On a busy machine a worker takes its time to begin.
                if not any(worker.is_alive() for worker in self.workers):
                    raise RuntimeError(
                        "the processes that make questions ended before their first batch; what they printed above says why"
                    ) from None
        self.kept.append(batch)
        return batch

    def unseen_batches(self) -> tuple[Batch, Batch | None]:
        """The held-out pictures, and the held-out canvases that weights drew, if there are some; waits for them the first
        time."""
        held_out = self.held_out or self.unseen.get()
        self.held_out = held_out
        return held_out

    def end(self) -> None:
        for worker in self.workers:
            worker.terminate()
