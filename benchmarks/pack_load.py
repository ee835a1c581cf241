"""What the pack costs those who have it installed: processor seconds until ComfyUI has loaded it, in a new process.

As it is packed for the registry, by tests/comfy/loading.py, which starts no server. A busy machine changes the time of
the processor, that of all threads, less than that of the clock.

COMFYUI_DIR=... COMFYUI_PYTHON=... python benchmarks/pack_load.py [--repeat 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.comfy.server import PYTHON, ROOT
from tests.comfy.test_loading import copied

BAR = 0.5
"""Seconds, of the slowest."""


def load(pack: Path) -> float:
    command = [PYTHON, ROOT / "tests" / "comfy" / "loading.py", pack]
    done = subprocess.run(command, cwd=os.environ["COMFYUI_DIR"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["loaded"], done.stderr[-4000:]
    return result["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pack = copied(Path(folder))
        seconds = [load(pack) for _ in range(options.repeat)]
    result = {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds)}
    print("| " + " | ".join(result) + " |", "|" + "---|" * len(result), sep="\n")
    print("| " + " | ".join(f"{value:.3f}" for value in result.values()) + " |")
    print(f"processor seconds of a load, bar {BAR:g}: {'met' if result['max'] <= BAR else 'NOT MET'}")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds} | result, indent=1))


if __name__ == "__main__":
    main()
