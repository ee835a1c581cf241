"""What an executor does to a picture by itself, as the drift test measured it (`clvr_core/evaluation/drift.py`): the
budget's defaults for it, kept in one small file."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..brief import Brief, Budget
from ..errors import BadInput
from ..protocols import Executor
from ..records import from_json
from ..storage.atomic import write_bytes, writing
from ..storage.cache import cache_folder

FILE = "drift.json"
DEPTH = 3
"""Edits in a row that are safe with an executor that was not measured: Qwen-Image-Edit-2511 and FLUX.2 Klein base keep
all turns right in .98 and .92 of sessions of three edits, and in .43 and .52 of five (arXiv 2609.35611)."""
MOST = 100.0
"""Of a tolerance."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """
    tolerance: damage above which an edit by this executor is repaired, as `policy.damage` counts it.
    depth: edits in a row after which the next one starts from a clean picture, at least 1.
    """

    tolerance: float = 1.0
    depth: int = DEPTH

    def budget(self, budget: Budget, tolerance: float, depth: int | None) -> Budget:
        """Return the budget with the limits for this executor.

        tolerance: multiple of the own tolerance; 0 for any damage.
        depth: None for the executor's own; 0 for any number of edits.

        Raises BadInput for a number below 0.
        """
        if tolerance < 0 or (depth or 0) < 0:
            raise BadInput(f"tolerance is {tolerance:g} and depth is {depth}; neither can be below 0")
        own = self.depth if depth is None else depth
        scaled = min(MOST, round(tolerance * self.tolerance, 3))
        return replace(budget, tolerance=scaled or None, depth=own or None)


def calibration_file() -> Path:
    """The file of the command line; the nodes keep their own in ComfyUI's user folder."""
    return cache_folder() / FILE


def read_calibration(file: Path, executor: str) -> Calibration:
    """Return what was measured of the executor of this name, and the usual limits if nothing was.

    Raises BadInput for a file that cannot be read.
    """
    found = _read(file).get(executor)
    try:
        return Calibration() if found is None else from_json(Calibration, found)
    except ValueError as error:
        raise _damaged(file, error) from error


def write_calibration(file: Path, executor: str, calibration: Calibration) -> None:
    """Keep it beside those of other executors. Raises BadInput if the file cannot be read, CannotWrite if not
    written."""
    kept = _read(file) | {executor: {"tolerance": calibration.tolerance, "depth": calibration.depth}}
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, (json.dumps(kept, indent=1) + "\n").encode())


class Sized(Protocol):
    """What `fitted` reads of the models."""

    @property
    def executor(self) -> Executor: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


def fitted(brief: Brief, models: Sized, tolerance: float, depth: int | None) -> Brief:
    """Return the brief with the size and the limits of the models' executor, as the command line knows them."""
    calibration = read_calibration(calibration_file(), models.executor.name)
    budget = calibration.budget(brief.budget, tolerance, depth)
    return replace(brief, width=models.width, height=models.height, budget=budget)


def add_drift_arguments(doctor: argparse.ArgumentParser) -> None:
    """Add the arguments of what is measured by `clvr doctor`, of the executor and of witnesses, to its parser."""
    text = "measure what ten edits in a row do to a picture, and keep the limits that follow for this executor"
    doctor.add_argument("--drift", action="store_true", help=text)
    text = (
        "measure how often witnesses are right, on the runs in DIR that were corrected and on its labels.jsonl; keep it"
    )
    doctor.add_argument("--calibrate", type=Path, metavar="DIR", help=text)
    text = "where the curve of --drift goes (default drift)"
    doctor.add_argument("--out", type=Path, default=Path("drift"), metavar="DIR", help=text)


def _read(file: Path) -> dict:
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error
    try:
        kept = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, error) from error
    if not isinstance(kept, dict):
        raise _damaged(file, "it is no object of executors")
    return kept


def _damaged(file: Path, why: object) -> BadInput:
    return BadInput(f"{file} cannot be read ({why}); delete it, and measure the executors again")
