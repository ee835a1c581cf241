"""Names that a form lists before anything is scored. Importing them imports no benchmark."""

from __future__ import annotations

import re
from pathlib import Path

KEPT = "clvr-eval"
"""Folder of what is kept beside the pictures."""
NAME = re.compile(r"[\w][\w.+-]{0,63}")
"""What pictures may be called."""
BENCHMARK_NAMES = (
    "geneval",
    "embedded-geneval",
    "geneval++",
    "geneval2",
    "wise",
    "wise-verified",
    "imagine",
    "imgedit",
    "r3bench",
    "embedded-lgbench",
    "lgbench",
    "prompts",
    "prism",
)
"""The keys of `benchmarks.BENCHMARKS`, in their order."""
DATA_FOLDERS = ("", "Basic", "Benchmark/Basic", "WISE_legacy/data", "data", "data_verified", "prompts", "test_scripts")
"""Where a benchmark's own files lie in its folder."""
DATA_ENDINGS = (".json", ".jsonl", ".tsv", ".txt")
EMBEDDED_GENEVAL = "embedded_geneval.jsonl"
EMBEDDED_LGBENCH = "embedded_lgbench.jsonl"
"""Files of the benchmarks in the sticker world's words."""
PROTOCOL_NAMES = ("decisions", "reply")
"""The keys of `judging.PROTOCOLS`, in their order."""


def may_hold_benchmark(folder: Path) -> bool:
    """Say whether a folder has any file where a benchmark has its own, by which alone most folders are told to hold none."""
    return any(path.suffix in DATA_ENDINGS for inner in DATA_FOLDERS for path in (folder / inner).glob("*"))
