"""Numbers printed in papers, to show with those measured here. Other judges measured them: none is comparable."""

from __future__ import annotations

from dataclasses import dataclass

CLVR = "CLVR, arXiv 2605.14876"
DIRECTOR = "VisionDirector, arXiv 2512.19243"
STROKES = "Think in Strokes, arXiv 2604.04746"


@dataclass(frozen=True, slots=True)
class Row:
    """A printed number.

    measure: the measure of the benchmark that it belongs to.
    """

    bench: str
    measure: str
    name: str
    value: float
    source: str
    judge: str


def _clvr(bench: str, measure: str, judge: str, rows: dict[str, float]) -> list[Row]:
    return [Row(bench, measure, name, value, CLVR, judge) for name, value in rows.items()]


ROWS: tuple[Row, ...] = (
    *_clvr(
        "geneval",
        "overall",
        "Mask2Former and CLIP",
        {
            "CLVR 4B": 0.87,
            "CLVR 9B": 0.88,
            "FLUX.2 klein 4B base": 0.74,
            "FLUX.2 klein 9B base": 0.80,
            "FLUX.2 klein 4B distilled": 0.81,
            "FLUX.2 klein 4B distilled, prompt rewrite": 0.78,
            "FLUX.2 klein 4B distilled, CLVR's controller": 0.86,
        },
    ),
    *_clvr(
        "geneval++",
        "overall",
        "GPT-4.1",
        {"CLVR 4B": 0.616, "CLVR 9B": 0.689, "FLUX.2 klein 4B base": 0.375, "FLUX.2 klein 9B base": 0.307},
    ),
    *_clvr(
        "wise",
        "WiScore",
        "GPT-4o-2024-05-13",
        {
            "CLVR 4B": 0.74,
            "CLVR 9B": 0.76,
            "FLUX.2 klein 4B base": 0.44,
            "FLUX.2 klein 9B base": 0.52,
            "FLUX.2 klein 4B distilled": 0.48,
            "FLUX.2 klein 4B distilled, prompt rewrite": 0.64,
            "FLUX.2 klein 4B distilled, CLVR's controller": 0.65,
        },
    ),
    Row("wise", "WiScore", "Think in Strokes, before its process", 0.70, STROKES, "GPT-4o"),
    Row("wise", "WiScore", "Think in Strokes", 0.76, STROKES, "GPT-4o"),
    Row("wise-verified", "overall", "FLUX.2 klein 9B", 0.44, "WISE's own board", "Qwen3.5-35B-A3B"),
    *_clvr(
        "prism",
        "overall",
        "GPT-4.1",
        {"CLVR 4B": 76.3, "CLVR 9B": 82.1, "FLUX.2 klein 4B base": 65.7, "FLUX.2 klein 9B base": 72.7},
    ),
    *_clvr(
        "imagine",
        "overall, as the official script computes it",
        "GPT-4.1",
        {"CLVR 4B": 8.435, "CLVR 9B": 8.830, "FLUX.2 klein 4B base": 6.267, "FLUX.2 klein 9B base": 7.274},
    ),
    Row("lgbench", "goal success", "FLUX.1 Krea", 0.668, DIRECTOR, "Qwen3-VL-32B"),
    Row("lgbench", "goal success", "FLUX.1 Krea, VisionDirector", 0.749, DIRECTOR, "Qwen3-VL-32B"),
    Row("lgbench", "goal success", "FLUX.1 dev", 0.400, DIRECTOR, "Qwen3-VL-32B"),
    Row("lgbench", "goal success", "FLUX.1 dev, VisionDirector", 0.624, DIRECTOR, "Qwen3-VL-32B"),
)


def rows_for(bench: str) -> tuple[Row, ...]:
    return tuple(row for row in ROWS if row.bench == bench)
