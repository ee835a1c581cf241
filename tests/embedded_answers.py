"""Runs benchmarks/vlm_accuracy.py on the embedded vision-language model with random weights, by two backends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "vlm_accuracy.py"


def save_random(folder: Path) -> Path:
    subprocess.run([sys.executable, str(BENCHMARK), "--untrained", str(folder)], check=True, capture_output=True)
    return folder


def measured(*options: object, python: str = sys.executable) -> str:
    """Run the benchmark, whose bars weights of chance miss, and return the line that lists what it missed."""
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARK.parents[1])}
    command = [python, str(BENCHMARK), "--count", "2", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode in (0, 1) and "missed bars" in done.stdout, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def answers_here(folder: Path, file: Path) -> Path:
    """Write the answers of the weights in this process, which differ from question to question."""
    measured("--model", folder, "--answers", file)
    told = [yes for kind in json.loads(file.read_text()).values() for yes in kind]
    assert len(set(told)) > 20 and 0.5 not in told
    return file
