"""The report of a merge: figures about its deltas as JSON, as a plot, and as a few lines of text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from .. import __version__
from .measures import EXPECTED, Findings, Measures, outliers, roles_of, summed
from .plan import MergePlan


def merge_report(
    plan: MergePlan,
    found: Findings,
    seconds: float | None = None,
    read: int | None = None,
    written: int | None = None,
    engine: str | None = None,
) -> dict[str, Any]:
    """Return the report as a JSON object.

    seconds: time of the merge; None if nothing was merged.
    read: bytes of weights read for the arithmetic; None if nothing was merged.
    written: bytes of the merged file; None if nothing was merged.
    engine: what merged, in words; None if nothing was merged.
    """
    recipe = plan.recipe
    model = summed(found.blocks.values()).figures()
    for role, floor in found.noise.items():
        model[role]["noise_floor"] = float(f"{floor:.4g}")
    return {
        "version": __version__,
        "formula": recipe.formula,
        "alpha": recipe.alpha,
        "beta": recipe.beta,
        "inputs": [
            {"role": role, "name": checkpoint.path.name, "bytes": checkpoint.nbytes}
            for role, checkpoint in plan.checkpoints
        ],
        "layout": plan.layout,
        "tensors": len(plan.outputs),
        "sampled": found.sampled,
        "seconds": seconds,
        "bytes_read": read,
        "bytes_written": written,
        "engine": engine,
        "expected": EXPECTED,
        "model": model,
        "blocks": {name: found.blocks[name].figures() for name in _in_order(found.blocks)},
        "survival": {name: _survivals(measures) for name, measures in found.tensors.items()},
        "conflicts": {
            name: {f"{one}, {two}": measures.conflict(one, two) for one, two in measures.pairs}
            for name, measures in found.tensors.items()
            if measures.pairs
        },
        "outliers": outliers(found.tensors),
        "warnings": list(found.warnings),
    }


def _in_order(blocks: Iterable[str]) -> list[str]:
    """Return the blocks of each kind in the order of their numbers, the kinds in the order of their first blocks.

    A file has single_blocks.10 before single_blocks.2.
    """
    names = list(blocks)
    kinds = [name.rstrip("0123456789") for name in names]
    return sorted(names, key=lambda name: (kinds.index(kind := name.rstrip("0123456789")), int(name[len(kind) :] or 0)))


def _survivals(measures: Measures) -> dict[str, float]:
    return {role: float(f"{kept:.4g}") for role in roles_of(measures) if (kept := measures.survival(role)) is not None}


def save_report(values: dict[str, Any], path: Path) -> Path:
    """Write the report as JSON to `path` and its plot beside it.

    Returns the path of the plot, a .png. Raises OSError.
    """
    from PIL import Image

    from ..storage.atomic import write_bytes
    from .picture import picture

    write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())
    plot, data = path.with_suffix(".png"), BytesIO()
    Image.fromarray(picture(values)).save(data, "PNG")
    write_bytes(plot, data.getvalue())
    return plot


def merge_summary(values: dict[str, Any]) -> str:
    """Return the report in a few lines for the terminal, with the figures that the paper expects."""
    model = values["model"]
    lines = []
    for role, figures in model.items():
        if isinstance(figures, dict):
            norm, kept = model[role]["relative_norm"], model[role]["survival"]
            noise = f" (noise of 8 bits alone {_percent(floor)})" if (floor := model[role].get("noise_floor")) else ""
            lines.append(
                f"{role:<10} {_percent(norm)} of the base's norm{noise}, {_percent(kept)} of it survives rounding"
            )
    if model["cosine"] is not None:
        lines.append(
            f"cosine     {model['cosine']:+.3f}, signs differ in {_percent(model['sign_conflicts'])} of the weights that both move"
        )
    if values["engine"]:
        lines.append(f"engine     {values['engine']}")
    lines.append(f"expected   {EXPECTED['relative_norm']}; cosine {EXPECTED['cosine']}")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.3g} %"
