"""Makes the pictures of docs/viewer.md and docs/steering.md from real runs of a shared workflow in ComfyUI.

    COMFYUI_DIR=... python docs/pictures.py

The prompt is that of the first command of the README. Needs node, `npm ci --ignore-scripts` in tests/web, and Chromium. Writes
docs/viewer-*.png: the node, the sidebar, report.html, two canvases with the slider between them, and a review.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.comfy.graphs import BRIEF  # noqa: E402
from tests.comfy.server import Comfy  # noqa: E402
from tests.web.conftest import BROWSERS  # noqa: E402

DOCS = ROOT / "docs"
COLORS = 200


def main() -> None:
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser or "COMFYUI_DIR" not in os.environ:
        sys.exit("this needs Chromium (or CHROMIUM, its path) and COMFYUI_DIR, a checkout of ComfyUI")
    flags = ["--front-end-root", os.environ["COMFYUI_FRONTEND"]] if "COMFYUI_FRONTEND" in os.environ else []
    with tempfile.TemporaryDirectory() as folder, Comfy(Path(folder), *flags) as server:
        environment = os.environ | {
            "CHROMIUM": browser,
            "URL": f"http://127.0.0.1:{server.port}",
            "WORKFLOW": (ROOT / "workflows" / "1-quick-try.json").read_text("utf-8"),
            "PROMPT": BRIEF,
            "RUNS": str(Path(folder) / "output" / "clvr"),
            "OUT": folder,
        }
        subprocess.run(["node", "e2e/pictures.js"], cwd=ROOT / "tests" / "web", env=environment, check=True)
        for shot in sorted(Path(folder).glob("viewer-*.png")):
            with Image.open(shot) as image:
                image.convert("RGB").quantize(COLORS).save(DOCS / shot.name, optimize=True)
            print(DOCS / shot.name)


if __name__ == "__main__":
    main()
