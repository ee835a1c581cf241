"""Names that a form lists before anything is scored. Importing them imports no benchmark."""

from __future__ import annotations

import re

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
    "embedded-lgbench",
    "lgbench",
    "prompts",
    "prism",
)
"""The keys of `benchmarks.BENCHMARKS`, in their order."""
PROTOCOL_NAMES = ("decisions", "reply")
"""The keys of `judging.PROTOCOLS`, in their order."""
