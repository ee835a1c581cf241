"""Numbers printed in papers, to show with those measured here. Other judges measured them: none is comparable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CLVR = "CLVR, arXiv 2605.14876"
DIRECTOR = "VisionDirector, arXiv 2512.19243"
STROKES = "Think in Strokes, arXiv 2604.04746"
ANY = "*"
"""In place of a benchmark: numbers of no benchmark, shown beside every one."""
EMBEDDED = "embedded-"
PLACED = "the page prints fewer figures than columns for it; the column follows from their order"


@dataclass(frozen=True, slots=True)
class Row:
    """A printed number.

    bench: the benchmark, or ANY.
    measure: the measure of the benchmark that it belongs to, or what else it is a number of.
    tag: the part of the benchmark, "" for all of it.
    bound: "more than" or "less than" where the paper prints no number itself.
    note: what to know about it.
    """

    bench: str
    measure: str
    name: str
    value: float
    source: str
    judge: str
    tag: str = ""
    bound: str = ""
    note: str = ""


HEADLINES = (
    ("geneval", "overall", "Mask2Former and CLIP"),
    ("geneval++", "overall", "GPT-4.1"),
    ("wise", "WiScore", "GPT-4o-2024-05-13"),
    ("prism", "overall", "GPT-4.1"),
    ("imagine", "overall, as the official script computes it", "GPT-4.1"),
)
MODELS: dict[str, tuple[float | None, ...]] = {
    "CLVR 4B": (0.87, 0.616, 0.74, 76.3, 8.435),
    "CLVR 9B": (0.88, 0.689, 0.76, 82.1, 8.830),
    "FLUX.2 klein 4B base": (0.74, 0.375, 0.44, 65.7, 6.267),
    "FLUX.2 klein 9B base": (0.80, 0.307, 0.52, 72.7, 7.274),
    "GPT-4o": (0.84, 0.739, 0.80, 86.3, 8.560),
    "FLUX.1 dev": (0.82, 0.314, 0.50, 73.9, 6.060),
    "SD3.5-Large": (0.71, None, 0.46, 73.9, None),
    "Qwen-Image": (0.87, None, 0.62, 79.9, None),
    "Uni-CoT": (0.83, 0.635, 0.65, 66.1, 7.747),
    "BAGEL-7B": (0.77, 0.371, 0.52, 65.1, 6.200),
    "T2I-R1": (None, 0.311, 0.54, None, 6.780),
    "Janus-Pro": (0.80, 0.246, None, 60.7, 6.220),
}
"""CLVR's main table: of each model the values of HEADLINES, None where none is printed."""
RECIPES = {
    "distilled": (0.81, 0.48),
    "distilled, prompt rewrite": (0.78, 0.64),
    "distilled, CLVR's controller": (0.86, 0.65),
    "distilled, CLVR and diffusion SFT": (0.85, 0.62),
    "distilled, CLVR, diffusion SFT and simple RL": (0.84, 0.64),
    "distilled, CLVR, diffusion SFT and PPRL": (0.87, 0.74),
}
"""CLVR's training recipes on 4B: GenEval, WISE."""
STAGES = {
    "base": (0.62, 0.52, 0.59, 0.74),
    "base, CLVR without PPRL": (0.76, 0.71, 0.57, 0.78),
    "base, CLVR with PPRL": (0.75, 0.74, 0.72, 0.83),
    "base, CLVR, PPRL and DSWM": (0.85, 0.85, 0.71, 0.87),
}
"""CLVR's stages on 4B, and VisionDirector's table below: counting, position, colour attribution, overall of GenEval."""
DIRECTED = {
    "FLUX.1 dev, as VisionDirector prints it": (0.74, 0.22, 0.45, 0.66),
    "Qwen-Image, as VisionDirector prints it": (0.89, 0.76, 0.77, 0.87),
    "VisionDirector": (0.96, 0.88, 0.95, 0.94),
}
PROBE = {
    "SD3.5-Medium, 2.5B": (604.11, 0.244, 28.46, 42.53),
    "SD3.5-Large, 8.0B": (977.86, 0.288, 34.65, 53.79),
    "CogView4, 6.0B": (1411.05, 0.352, 50.54, 70.83),
    "FLUX.2 base, 4.0B": (1586.36, 0.372, 50.32, 73.89),
    "CLVR on FLUX.2, 4.0B": (1586.36, 0.451, 53.76, 98.79),
}
PROBED = ("I_eff", "mean pass", "median C_task", "area under the pass rate")
SECONDS = {1: (192.4, 12.6, 15.3), 2: (287.0, 25.5, 11.3), 3: (471.7, 38.2, 12.3), 4: (707.7, 52.3, 13.5)}
"""Iterations -> seconds with base weights at 28 steps, with merged ones at 4, and their ratio as printed."""
EDITS = {
    "FLUX.1 Kontext Pro": (4.56, 3.57, 3.68, 4.00),
    "Qwen-Image-Edit": (4.66, 4.14, 3.82, 4.27),
    "VisionDirector": (4.83, 4.41, 4.05, 4.35),
}
"""ImgEdit: replace, remove, hybrid, overall."""
STRATEGIES = {
    "FLUX.1 Krea, one shot": (0.668, 0.186),
    "FLUX.1 Krea, reprompting": (0.690, 0.227),
    "FLUX.1 Krea, best of 4": (0.705, 0.231),
    "FLUX.1 Krea, refinement": (0.712, 0.295),
    "FLUX.1 Krea, all three": (0.742, 0.352),
}
"""LGBench: share of goals met, and tasks with at least 80 % of their goals."""
PLANNERS = {
    "VisionDirector's planner without RL": (4.2, 0.74, 3.3),
    "VisionDirector's planner with GRPO": (3.1, 0.78, 2.5),
}
ITERATIONS = {
    "geneval": {"base": (2, 368, 158, 24, 1, 0), "merged": (2, 376, 154, 17, 4, 0)},
    "prism": {"base": (4, 222, 363, 78, 25, 8), "merged": (3, 282, 351, 52, 10, 2)},
}
"""Runs that ended after 1, 2, ... 6 iterations, before and after the merge."""


def _parts(table: dict[str, tuple[float, ...]], source: str, prefix: str = "") -> Iterator[Row]:
    judge = HEADLINES[0][2]
    for name, (counting, position, color, overall) in table.items():
        yield Row("geneval", "overall", prefix + name, overall, source, judge)
        for tag, value in (("counting", counting), ("position", position), ("color_attr", color)):
            yield Row("geneval", "overall", prefix + name, value, source, judge, tag)


def _clvr() -> Iterator[Row]:
    for name, values in MODELS.items():
        note = PLACED if None in values else ""
        for (bench, measure, judge), value in zip(HEADLINES, values):
            if value is not None:
                yield Row(bench, measure, name, value, CLVR, judge, note=note)
    for name, values in RECIPES.items():
        for (bench, measure, judge), value in zip((HEADLINES[0], HEADLINES[2]), values):
            yield Row(bench, measure, f"FLUX.2 klein 4B {name}", value, CLVR, judge)
    # Overall of the base is in the main table already.
    yield from (
        row for row in _parts(STAGES, CLVR, "FLUX.2 klein 4B ") if row.tag or row.name != "FLUX.2 klein 4B base"
    )
    for name, values in PROBE.items():
        for measure, value in zip(PROBED, values):
            yield Row("prompts", measure, name, value, CLVR, "not told")
    for count, values in SECONDS.items():
        for name, value in zip(("base, 28 steps", "merged, 4 steps", "ratio"), values):
            yield Row(ANY, f"seconds end to end, {count} iterations", name, value, CLVR, "a clock")
    for bench, sides in ITERATIONS.items():
        for name, counts in sides.items():
            for count, value in enumerate(counts, 1):
                yield Row(bench, f"runs of {count} iterations", f"CLVR 4B, {name}", float(value), CLVR, "none")


def _director() -> Iterator[Row]:
    judge = "Qwen3-VL-32B"
    yield from _parts(DIRECTED, DIRECTOR)
    for name, (replaced, removed, hybrid, overall) in EDITS.items():
        yield Row("imgedit", "overall", name, overall, DIRECTOR, "GPT-4.1")
        for tag, value in (("replace", replaced), ("remove", removed), ("hybrid", hybrid)):
            yield Row("imgedit", "overall", name, value, DIRECTOR, "GPT-4.1", tag)
    for name, (goals, tasks) in STRATEGIES.items():
        yield Row("lgbench", "goal success", name, goals, DIRECTOR, judge)
        yield Row("lgbench", "tasks with 80 % of their goals", name, tasks, DIRECTOR, judge)
    for name, value in (
        ("FLUX.1 Krea, VisionDirector", 0.749),
        ("FLUX.1 dev", 0.400),
        ("FLUX.1 dev, VisionDirector", 0.624),
    ):
        yield Row("lgbench", "goal success", name, value, DIRECTOR, judge)
    for name, values in PLANNERS.items():
        for measure, value in zip(("steps of a plan", "goal coverage", "edits a task"), values):
            yield Row("lgbench", measure, name, value, DIRECTOR, judge)
    yield Row("lgbench", "goal coverage", "VisionDirector without rollback", 0.74, DIRECTOR, judge)
    yield Row(
        "lgbench",
        "failed changes of layout, more than with it",
        "VisionDirector without micro-grid",
        0.07,
        DIRECTOR,
        judge,
    )
    yield Row("lgbench", "met in one shot", "tasks of at most 15 goals", 0.85, DIRECTOR, judge, bound="more than")
    yield Row("lgbench", "met in one shot", "tasks of 30 goals", 0.10, DIRECTOR, judge, bound="less than")
    yield Row("lgbench", "text goals met", "FLUX.1 dev", 0.008, DIRECTOR, judge)


def _strokes() -> Iterator[Row]:
    yield Row("wise", "WiScore", "Think in Strokes, before its process", 0.70, STROKES, "GPT-4o")
    yield Row("wise", "WiScore", "Think in Strokes", 0.76, STROKES, "GPT-4o")
    yield Row("wise", "gain of WiScore", "Think in Strokes", 0.085, STROKES, "GPT-4o")
    yield Row("geneval", "gain of overall", "Think in Strokes over BAGEL-7B", 0.05, STROKES, HEADLINES[0][2])
    yield Row(ANY, "training samples", "Think in Strokes", 62_000.0, STROKES, "none")
    yield Row(ANY, "times as fast as comparable planners", "Think in Strokes", 8.0, STROKES, "a clock")


ROWS: tuple[Row, ...] = (
    *_clvr(),
    *_director(),
    *_strokes(),
    Row("wise-verified", "overall", "FLUX.2 klein 9B", 0.44, "WISE's own board", "Qwen3.5-35B-A3B"),
)


def rows_for(bench: str) -> tuple[Row, ...]:
    """Return the rows of a benchmark, and those of no benchmark; for one in words of the embedded world, the rows of the
    benchmark whose form it has."""
    return tuple(row for row in ROWS if row.bench in (bench.removeprefix(EMBEDDED), ANY))


def beside(rows: Sequence[Row], measures: Sequence[str]) -> dict[str, list[Row]]:
    """Return the rows of other measures than these, by measure."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.measure not in measures:
            found.setdefault(row.measure, []).append(row)
    return found
