"""Two plots for each group: the pass rate over complexity, and the headline measure over its cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..plot import STYLE, style_of
from ..variants import base_of
from .gather import Entry, Group

COLORS = ("#0f8a9d", "#a3402e", "#4d7c0f", "#7a5230", "#c2388a", "#37475a")
"""Colours of names that are not arms; no arm has one of them."""


def plot(groups: Sequence[Group], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(
        len(groups), 2, figsize=(11, 4.3 * len(groups)), dpi=130, layout="constrained", squeeze=False
    )
    for group, (left, right) in zip(groups, rows):
        _tiers(group, left)
        _spent(group, right)
        for axes in (left, right):
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        left.set_title(
            f"{group.baseline.result['title']}\n{_shortened(group.baseline.result['judge'])}", fontsize=9, loc="left"
        )
    figure.savefig(path)
    pyplot.close(figure)


def _shortened(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:69]}..."


def _look(entry: Entry, place: int) -> tuple[str, str]:
    """Return colour and line style: those in STYLE for the name of an arm, else the next of COLORS."""
    known = base_of(entry.name) in STYLE
    color, line, _ = style_of(entry.name) if known else (COLORS[place % len(COLORS)], "-", "")
    return color, line


def _tiers(group: Group, axes) -> None:
    axes.set(
        xlabel="complexity (median of the tier)",
        ylabel="share of pictures that are all that was asked for",
        ylim=(-0.03, 1.03),
    )
    drawn = 0
    for place, entry in enumerate(group.entries):
        if curve := entry.result.get("curve"):
            color, line = _look(entry, place)
            low, high = curve["auc_ci95"]
            label = f"{entry.name}: AUC {curve['auc']:.1f} ({low:.1f} to {high:.1f})"
            axes.plot(curve["medians"], curve["pass"], line, color=color, marker="o", markersize=4, label=label)
            drawn += 1
    if drawn:
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.text(
            0.5,
            0.5,
            "no complexity is known for enough of these prompts",
            ha="center",
            va="center",
            transform=axes.transAxes,
        )


def _spent(group: Group, axes) -> None:
    name = next(iter(group.baseline.result["measures"]))
    axes.set(xlabel="transformer evaluations a picture (mean)", ylabel=name)
    drawn = 0
    for place, entry in enumerate(group.entries):
        value, evaluations = entry.headline["value"], entry.evaluations
        if value is None or evaluations is None:
            continue
        color, _ = _look(entry, place)
        low, high = entry.headline["ci95"] or (value, value)
        axes.errorbar(
            [evaluations],
            [value],
            [[max(0, value - low)], [max(0, high - value)]],
            fmt="o",
            color=color,
            capsize=3,
            label=entry.name,
        )
        drawn += 1
    if drawn:
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.text(0.5, 0.5, "what the pictures cost is not known", ha="center", va="center", transform=axes.transAxes)
