"""Pictures and the share of them that was repainted, for Python and the browser: tests/data/changes.json.

python -m tests.verifier.changed_pictures    writes the file anew
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from clvr_core.verifier.changes import measure

FILE = Path(__file__).parents[1] / "data" / "changes.json"


def cases() -> list[dict[str, Any]]:
    """Pictures as six hexadecimal digits a pixel, row by row, with boxes whose edges fall between and on pixels."""
    rng = np.random.default_rng(20)
    sizes = [(8, 8, [[0.25, 0.25, 0.75, 0.75]]), (9, 7, [[0.1, 0.0, 0.5, 0.5], [0.4, 0.3, 1.0, 0.62]]), (5, 3, [])]
    return [_case(rng, width, height, meant) for width, height, meant in sizes]


def _case(rng: np.random.Generator, width: int, height: int, meant: list[list[float]]) -> dict[str, Any]:
    before = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    after = np.clip(before + rng.normal(0, 14, before.shape), 0, 255).astype(np.uint8)
    outside = measure(before, after, tuple(map(tuple, meant))).outside
    pictures = {"before": before.tobytes().hex(), "after": after.tobytes().hex()}
    return {"width": width, "height": height, **pictures, "meant": meant, "outside": outside}


if __name__ == "__main__":
    FILE.write_text(json.dumps(cases(), indent=1) + "\n", "utf-8")
