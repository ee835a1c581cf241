"""The drawing of PPRL by a crew of workers, each with the weights: a piece is a group of pictures, drawn with the old
policy's trained weights, which travel with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from safetensors.torch import load, save

from ..errors import BadInput
from ..executor.klein import KleinExecutor, Sampling
from ..fleet.crew import Crew, Engine, Lost, Tell
from .adapter import Lora, attach, trained
from .sampler import Condition, TrainingSampler


@dataclass(frozen=True, slots=True)
class Group:
    """What one worker draws.

    tensors: as safetensors: text, noise, reference-K of the condition, and trained-K, all trained weights in their order.
    grid: rows and columns of tokens.
    references: how many there are.
    """

    tensors: bytes
    grid: tuple[int, int]
    references: int


@dataclass(frozen=True, slots=True)
class GroupDrawing:
    """A `Task` for a crew: a piece is a `Group`, and its result the clean tokens, N x tokens x C, as safetensors.

    weights: loads the executor, on the CPU. It can be pickled.
    device: of the worker, as torch names it.
    lora: the adapter that is trained.
    """

    weights: Callable[[], KleinExecutor]
    device: str
    lora: Lora
    sampling: Sampling

    @contextmanager
    def open(self, stop: threading.Event) -> Iterator[Callable[[Group, Tell], bytes]]:
        sampler = TrainingSampler(self.weights(), self.device)
        transformer = sampler.pipe.transformer.to(sampler.device)
        attach(transformer, self.lora)
        # Workers of several threads take turns: the weights are one piece's at a time.
        turn = threading.Lock()

        def do(group: Group, tell: Tell) -> bytes:
            tensors = {name: tensor.to(sampler.device) for name, tensor in load(group.tensors).items()}
            references = tuple(tensors[f"reference-{place}"] for place in range(group.references))
            with turn:
                for place, parameter in enumerate(trained(transformer)):
                    parameter.data = tensors[f"trained-{place}"]
                condition = Condition(tensors["text"], references, group.grid)
                clean = sampler.sample(transformer, condition, tensors["noise"], self.sampling)
            return save({"clean": clean.cpu().contiguous()})

        yield do


Draw = Callable[[Condition, torch.Tensor], torch.Tensor]
"""Condition and noise -> clean tokens, N x tokens x C."""


@contextmanager
def drawing(
    engine: Engine | None, task: GroupDrawing, weights: Sequence[torch.Tensor], size: int
) -> Iterator[Draw | None]:
    """Yield how the engine's workers draw, groups of `size` rows each; None without an engine. weights: the trained ones
    to draw with, as they are at each call."""
    if engine is None:
        yield None
        return
    with engine.crew(task) as crew:
        yield lambda condition, noise: _drawn(crew, weights, condition, noise, size)


def _drawn(
    crew: Crew[Group, bytes], weights: Sequence[torch.Tensor], condition: Condition, noise: torch.Tensor, size: int
) -> torch.Tensor:
    """Return the clean tokens of all rows, in their order.

    Raises BadInput if a group kills its workers again and again.
    """
    held = {f"trained-{place}": tensor.cpu().contiguous() for place, tensor in enumerate(weights)}

    def groups() -> Iterator[Group]:
        for start in range(0, len(noise), size):
            part = condition[start : start + size]
            rows = {"text": part.text, "noise": noise[start : start + size]}
            rows |= {f"reference-{place}": tokens for place, tokens in enumerate(part.references)}
            given = {name: tensor.cpu().contiguous() for name, tensor in rows.items()}
            yield Group(save(given | held), condition.grid, len(part.references))

    found: dict[int, torch.Tensor] = {}
    for number, clean in crew.run(groups()):
        if isinstance(clean, Lost):
            raise BadInput(f"the pictures to learn from cannot be drawn: {clean.why}; mend that and go on")
        found[number] = load(clean)["clean"]
    return torch.cat([found[number] for number in sorted(found)]).to(noise.device)
