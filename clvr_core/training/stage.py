"""What the stages share: a folder that holds one run with its settings, weights that are whole or not there, and how far they moved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from ..errors import BadInput
from ..executor.klein import SamplingRecipe
from ..records import from_json, to_json
from ..shapes.model import save_pipeline
from ..storage.atomic import write_bytes, writing
from ..weights.manifest import digests, write_manifest

T = TypeVar("T")
NOTE = "config.json"
RECORD = "training.json"


def processes() -> Accelerator:
    """All that `torchrun` or `accelerate launch` started, or this one alone. On CPUs accelerate by itself takes each for the only one: they
    would do the same work twice and write over each other's files."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerator(cpu=several and not torch.cuda.is_available())


def settle(out: Path, cls: type[T], config: Path | None, run: Mapping[str, Any]) -> T:
    """The settings in `config`, JSON of what differs from the defaults of `cls`, noted in `out` with `run`, what else the result depends
    on.

    Raises BadInput for a config that cannot be read, and if the run in `out` had other settings.
    """
    try:
        settings = from_json(cls, json.loads(config.read_text())) if config else cls()
        out.mkdir(parents=True, exist_ok=True)
        note, wanted = out / NOTE, json.dumps({**run, "config": to_json(settings)}, indent=1)
        if note.exists() and note.read_text() != wanted:
            raise BadInput(
                f"{out} holds a training run with other settings, another seed or another start; choose another folder with --out"
            )
        note.write_text(wanted)
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"training cannot start: {error}; see --config and --out") from error
    return settings


def save_weights(pipe, folder: Path, recipe: SamplingRecipe, record: Mapping[str, Any]) -> None:
    """A folder of weights with the record of how they were made. Whole when it appears; an earlier one of that name goes."""
    fresh = folder.with_name(folder.name + "-new")
    shutil.rmtree(fresh, ignore_errors=True)
    with writing(folder):
        save_pipeline(pipe, fresh, recipe)
        (fresh / RECORD).write_text(json.dumps(record, indent=1))
        write_manifest(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)


def save_record(path: Path, record: Mapping[str, Any]) -> None:
    with writing(path.parent):
        write_bytes(path, json.dumps(record, indent=1).encode())


def curve_of(folder: Path, name: str = "curve.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def lineage(start: Path) -> dict[str, Any]:
    """What the weights gone on from are: their checksums, and their own record if they have one."""
    record = start / RECORD
    return {"files": digests(start), "training": json.loads(record.read_text()) if record.exists() else None}


def moved(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> float:
    """Frobenius norm of the change over that of `before`, all tensors taken as one vector."""
    zero = torch.zeros((), dtype=torch.float64)
    change = sum(((after[name].double() - value.double()).square().sum() for name, value in before.items()), zero)
    return float((change / sum((value.double().square().sum() for value in before.values()), zero)).sqrt())
