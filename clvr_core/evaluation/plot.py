"""Plots of measurements."""

from __future__ import annotations

from pathlib import Path

from ..policy import POLICIES

STYLE = {
    "rewrite": ("#5b4bb5", "--", "prompt rewrite"),
    "plan-best-of-n": ("#7a5230", "--", "plan, best of N"),
    "replan-best-of-n": ("#4a9c9c", "--", "new plans, best of N"),
    **{name: (policy.colour, "-" if policy.loops else "--", policy.label) for name, policy in POLICIES.items()},
}
"""Arm -> colour, line style and label of its curve."""


def style_of(arm: str) -> tuple[str, str, str]:
    """Return colour, line style and label of an arm's curve. A variant of a loop has its colour and a line of its own."""
    base, plus, options = arm.partition("+")
    colour, line, label = STYLE[base]
    return (colour, ":", f"{label}, {options.replace('+', ', ')}") if plus else (colour, line, label)


def plot_probe(summary: dict, path: Path, title: str) -> None:
    """Plot the pass rate over description length, one line for each arm, with the area under it in the legend."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.6), dpi=140, layout="constrained")
    for arm, values in summary["arms"].items():
        color, line, name = style_of(arm)
        axes.plot(
            summary["tier_medians"],
            values["pass"],
            line,
            color=color,
            marker="o",
            markersize=4,
            label=f"{name}: AUC {values['auc']:.1f}",
        )
    axes.set(
        xlabel="description length of the brief, bits (median of the tier)",
        ylabel="briefs met exactly",
        ylim=(-0.02, 1.02),
    )
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


def plot_training(measures: list[dict], path: Path, arm: str) -> None:
    """Plot what a run of PPRL was rewarded for, and measures that it was not rewarded for."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 4.6), dpi=140, layout="constrained")
    drawn = [measure for measure in measures if "reward" in measure]
    for edits, kind, color in ((0, "scenes", "#1f6fd6"), (1, "edits", "#1d8f5a")):
        points = [(measure["step"], measure["reward"]) for measure in drawn if measure["edits"] == edits]
        if points:
            axes.plot(*zip(*points), ".", color=color, alpha=0.25, markersize=4)
            axes.plot(*_running(points), color=color, label=f"reward of {kind}, optimised")
    for name, color, label, scale in (
        ("zero_variance", "#c98a1b", "groups without variance", 1),
        ("diversity", "#b1417c", "difference within a group, x 10", 10),
    ):
        points = [(measure["step"], scale * measure[name]) for measure in drawn if name in measure]
        if points:
            axes.plot(*_running(points), ":", color=color, label=label)
    for name, color, label in (
        ("held_scenes", "#1f6fd6", "held-out scenes exactly right"),
        ("held_edits", "#1d8f5a", "held-out edits exactly right"),
    ):
        points = [(measure["step"], measure[name]) for measure in measures if name in measure]
        if points:
            axes.plot(*zip(*points), "--", color=color, marker="o", markersize=4, label=label)
    axes.set(xlabel="step of the optimiser", ylim=(-0.02, 1.02), title=f"PPRL, arm {arm}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path)
    pyplot.close(figure)


def _running(points: list[tuple[float, float]], width: int = 15) -> tuple[list[float], list[float]]:
    """Return the running mean over `width` values: a single drawing depends as much on its briefs as on the weights."""
    steps, values = zip(*points)
    spans = (values[max(0, place - width // 2) : place + width // 2 + 1] for place in range(len(values)))
    return list(steps), [sum(span) / len(span) for span in spans]
