"""What the merge found out about its deltas, as JSON, as a plot and in a few lines of text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import __version__
from .measures import DELTAS, EXPECTED, Findings, Measures, outliers, summed
from .plan import Plan
from .recipe import FORMULA


def report(
    plan: Plan, found: Findings, seconds: float | None = None, read: int | None = None, written: int | None = None
) -> dict[str, Any]:
    """`seconds`, and the bytes read for the arithmetic and written, are None where nothing was merged."""
    recipe = plan.recipe
    return {
        "version": __version__,
        "formula": FORMULA,
        "alpha": recipe.alpha,
        "beta": recipe.beta,
        "inputs": [{"role": role, "name": checkpoint.path.name, "bytes": checkpoint.nbytes} for role, checkpoint in plan.checkpoints],
        "layout": plan.layout,
        "tensors": len(plan.outputs),
        "sampled": found.sampled,
        "seconds": seconds,
        "bytes_read": read,
        "bytes_written": written,
        "expected": EXPECTED,
        "model": summed(found.blocks.values()).figures(),
        "blocks": {name: measures.figures() for name, measures in found.blocks.items()},
        "survival": {name: _survivals(measures) for name, measures in found.tensors.items()},
        "outliers": outliers(found.tensors),
        "warnings": list(found.warnings),
    }


def _survivals(measures: Measures) -> dict[str, float]:
    return {role: float(f"{kept:.4g}") for role in DELTAS if (kept := measures.survival(role)) is not None}


def save_report(values: dict[str, Any], path: Path) -> Path:
    """Writes the JSON to `path` and the plot beside it, as .png, whose path it gives. Raises OSError."""
    from ..report.atomic import write_bytes  # whose package brings Pillow

    write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())
    picture = path.with_suffix(".png")
    plot(values, picture)
    return picture


def summary(values: dict[str, Any]) -> str:
    """Lines for the terminal, the paper's expectation beside what was found."""
    model = values["model"]
    lines = []
    for role in DELTAS:
        if role in model:
            norm, kept = model[role]["relative_norm"], model[role]["survival"]
            lines.append(f"{role:<10} {_percent(norm)} of the base's norm, {_percent(kept)} of it survives rounding")
    if model["cosine"] is not None:
        lines.append(
            f"cosine     {model['cosine']:+.3f}, signs differ in {_percent(model['sign_conflicts'])} of the weights that both move"
        )
    lines.append(f"expected   {EXPECTED['relative_norm']}; cosine {EXPECTED['cosine']}")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.3g} %"


def plot(values: dict[str, Any], path: Path) -> None:
    """Relative norms, cosine and survival by block, one above the other, the paper's 2 to 3 % as a band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colors = {"aligned": "#1f6fd6", "lora": "#b1417c", "distilled": "#1d8f5a"}
    blocks = values["blocks"]
    places = range(len(blocks))
    figure, (norms, cosines, kept) = pyplot.subplots(
        3, 1, figsize=(max(7.0, 0.28 * len(blocks)), 7.5), dpi=140, sharex=True, layout="constrained"
    )
    norms.axhspan(2, 3, color="#8a8f98", alpha=0.2, label="the paper's 2 to 3 %")
    for role in DELTAS:
        if not any(role in figures for figures in blocks.values()):
            continue
        of_role = [figures.get(role, {}) for figures in blocks.values()]
        line = {"color": colors[role], "marker": "o", "markersize": 3, "label": role}
        norms.plot(places, [100 * (each.get("relative_norm") or float("nan")) for each in of_role], **line)
        kept.plot(places, [100 * _or_nan(each.get("survival")) for each in of_role], **line)
    cosines.axhline(0, color="#8a8f98", linewidth=0.8)
    cosines.plot(
        places, [_or_nan(figures["cosine"]) for figures in blocks.values()], color="#c98a1b", marker="o", markersize=3, label="cosine"
    )
    cosines.plot(
        places, [_or_nan(figures["sign_conflicts"]) for figures in blocks.values()], "--", color="#8a8f98", label="share of sign conflicts"
    )
    norms.set(ylabel="norm of the delta,\n% of the base's", yscale="log")
    cosines.set(ylabel="aligned against distilled", ylim=(-1.05, 1.05))
    kept.axhline(90, color="#8a8f98", linewidth=0.8, linestyle=":")
    kept.set(ylabel="left after rounding, %")
    kept.set_xticks(list(places), list(blocks), rotation=90, fontsize=6)
    norms.set_title("estimates from a sample" if values["sampled"] else "every weight measured", fontsize=9)
    for axes in (norms, cosines, kept):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
    figure.savefig(path)
    pyplot.close(figure)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
