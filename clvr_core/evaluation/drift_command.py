"""`clvr doctor --drift`: measures the executor, writes the curve, and keeps the limits that follow."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from ..errors import BadInput
from ..models.registry import Models
from ..progress import ProgressBar
from ..records import to_json
from ..run.calibration import calibration_file, write_calibration
from ..storage.atomic import write_bytes, writing
from .drift import in_words, measure_drift, trial_for
from .drift_plot import plot_drift


def measure(models: Models, out: Path, as_json: bool) -> str:
    """Write drift.png and drift.json into the folder, and return what to print. Raises CannotWrite, and what the
    executor raises."""
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with ProgressBar("picture") as bar:
        trial = trial_for(models.check, BadInput)
        report, _ = measure_drift(models.executor, models.width, models.height, trial, progress=bar.show)
    found, content = report.calibration, io.BytesIO()
    Image.fromarray(plot_drift(report)).save(content, "PNG")
    curves = {
        name: {"damage": report.damages(name), "measured": to_json(points)} for name, points in report.curves.items()
    }
    result = {"executor": report.executor, "depth": found.depth, "tolerance": found.tolerance, "curves": curves}
    with writing(out):
        write_bytes(out / "drift.png", content.getvalue())
        write_bytes(out / "drift.json", json.dumps(result, indent=1).encode())
    write_calibration(calibration_file(), report.executor, found)
    return json.dumps(result) if as_json else f"{in_words(report)}\ncurve       {out / 'drift.png'}"
