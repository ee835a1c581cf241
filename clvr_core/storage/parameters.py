"""The text `parameters` of a PNG, by which image sites show prompt and seed: one form that all of them read, that of
stable-diffusion-webui (`modules/infotext_utils.py` there)."""

from __future__ import annotations

import json

from .. import __version__
from ..trajectory import Trajectory

PARAMETERS_KEY = "parameters"


def parameters(trajectory: Trajectory, seed: int, nfe: int) -> str:
    """Return the prompt, and in a last line `Steps: ..., Seed: ..., Size: ..., Model: ..., Version: ...`.

    The prompt is that of the brief, which the whole run was to fulfil; the trajectory beside it has those of each step.

    seed: of the picture.
    nfe: transformer evaluations of the picture, given as its steps.
    """
    brief = trajectory.brief
    fields = {
        "Steps": str(nfe),
        "Seed": str(seed),
        "Size": f"{brief.width}x{brief.height}",
        "Model": trajectory.models.get("executor", ""),
        "Version": f"clvr {__version__}",
    }
    text = f"{brief.prompt}\n" + ", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items() if value)
    return text.replace("\0", "").encode(errors="replace").decode()


def parameters_of_best(trajectory: Trajectory) -> dict[str, str]:
    """Return the text of the best picture under its key; nothing if there is none, or if it is the picture that the run
    was given.
    """
    step = trajectory.best_step
    if trajectory.best is None or step is None or step.action.kind == "GIVEN":
        return {}
    best = trajectory.candidate(trajectory.best)
    return {PARAMETERS_KEY: parameters(trajectory, best.seed, best.nfe)}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ",:\n") else value
