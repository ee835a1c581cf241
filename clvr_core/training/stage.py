"""Parts common to the training stages: a folder that holds one run with its settings, weights written whole or not at
all, and the size of the change."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from accelerate import Accelerator

from ..errors import BadInput
from ..executor.klein import SamplingRecipe
from ..executor.small_klein import save_pipeline
from ..reading import json_of
from ..records import from_json, to_json
from ..storage.atomic import OF_DISK, keep_note, write_bytes, writing
from ..storage.lock import locked
from ..weights.manifest import digests, write_manifest

P = ParamSpec("P")
T = TypeVar("T")
NOTE = "config.json"
RECORD = "training.json"


def processes() -> Accelerator:
    """Return the processes that `torchrun` or `accelerate launch` started, or this one alone.

    On CPUs accelerate by itself treats each process as the only one: all would do the same work and overwrite each
    other's files.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerator(cpu=several and not torch.cuda.is_available())


def stage(work: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
    """Decorate a stage, whose first argument is its output folder.

    The folder is locked while the stage runs, by the first of several processes. A disk that takes no file any more
    ends it with CannotWrite.
    """

    @wraps(work)
    def run(out: Path, /, *rest: P.args, **named: P.kwargs) -> T:
        first = int(os.environ.get("RANK", "0")) == 0
        try:
            with locked(out) if first else nullcontext():
                return work(out, *rest, **named)
        except OSError as error:
            if error.errno not in OF_DISK:
                raise
            with writing(out):
                raise

    return run


def settle(out: Path, cls: type[T], config: Path | None, run: Mapping[str, Any]) -> T:
    """Read the settings of a run and record them in its folder.

    cls: dataclass of the settings with their defaults.
    config: JSON of what differs from the defaults, None for nothing.
    run: everything else that the result depends on, recorded with the settings.

    Raises BadInput for a config that cannot be read, and if the run in `out` had other settings.
    """
    try:
        settings = from_json(cls, json_of(config.read_text())) if config else cls()
        out.mkdir(parents=True, exist_ok=True)
        if not keep_note(out / NOTE, json.dumps({**run, "config": to_json(settings)}, indent=1)):
            raise BadInput(
                f"{out} holds a training run with other settings, another seed or another start; choose another folder with --out"
            )
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"training cannot start: {error}; see --config and --out") from error
    return settings


def save_weights(pipe, folder: Path, recipe: SamplingRecipe, record: Mapping[str, Any]) -> None:
    """Write a folder of weights with the record of how they were made, whole or not at all; an earlier folder is
    replaced."""
    fresh = folder.with_name(folder.name + "-new")
    shutil.rmtree(fresh, ignore_errors=True)
    with writing(folder):
        save_pipeline(pipe, fresh, recipe)
        write_bytes(fresh / RECORD, json.dumps(record, indent=1).encode())
        write_manifest(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)


def save_record(path: Path, record: Mapping[str, Any]) -> None:
    with writing(path.parent):
        write_bytes(path, json.dumps(record, indent=1).encode())


def curve_of(folder: Path, name: str = "curve.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def lineage(start: Path) -> dict[str, Any]:
    """Return the checksums of the weights that training starts from, and their own training record if they have one."""
    record = start / RECORD
    return {"files": digests(start), "training": json.loads(record.read_text()) if record.exists() else None}


def moved(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> float:
    """Return the Frobenius norm of the change divided by that of `before`, all tensors taken as one vector."""
    zero = torch.zeros((), dtype=torch.float64)
    change = sum(((after[name].double() - value.double()).square().sum() for name, value in before.items()), zero)
    return float((change / sum((value.double().square().sum() for value in before.values()), zero)).sqrt())
