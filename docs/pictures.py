"""Makes every picture of the docs that the embedded weights draw.

    COMFYUI_DIR=... COMFYUI_PYTHON=... python docs/pictures.py [PART ...]

Run it again when the weights change. Without a PART it makes all:

first-light  docs/first-light.png: the first command of the README, its canvases in their order
stickers     docs/stickers.png: eight prompts, drawn by the merged weights, one shot
drift        docs/drift-curve.png: `clvr doctor --drift` of the merged weights; it prints depth and tolerance, which docs/steering.md names
workflows    workflows/*.jpg, by tests/comfy/shots.py
viewer       docs/viewer-*.png: the node, the sidebar, report.html, two canvases with the slider between them, and a review

The last two need ComfyUI (COMFYUI_DIR, a checkout; COMFYUI_PYTHON, its Python), node, `npm ci --ignore-scripts` in tests/web, and Chromium.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from clvr_core.evaluation.drift_command import measure  # noqa: E402
from clvr_core.models.registry import load_models  # noqa: E402
from clvr_core.protocols import DrawRequest  # noqa: E402
from clvr_core.report.sheet import contact_sheet  # noqa: E402
from clvr_core.run.run_folder import RunFolder, read_trajectory  # noqa: E402
from clvr_core.storage.png import read_png  # noqa: E402
from tests.comfy.server import Comfy  # noqa: E402
from tests.web.conftest import BROWSERS  # noqa: E402

DOCS = ROOT / "docs"
PROMPTS = (
    "a red cat",
    "two blue dogs at night",
    'a sign that says "CAT" at the top left',
    "a large green elephant on a meadow",
    "a banana and a car. the banana is left of the car",
    'a red apple and a sign that says "OPEN"',
    "three pizzas at sea",
    "a yellow umbrella and a pink horse in the snow",
)


def first_command() -> list[str]:
    """Return the README's first command of `clvr`, in its parts; the last is the folder of the run."""
    return shlex.split(re.search(r"clvr generate .*", (ROOT / "README.md").read_text("utf-8"))[0])


def save(image: Image.Image, name: str) -> None:
    image.convert("RGB").save(DOCS / name, optimize=True)
    print(DOCS / name)


def first_light() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "clvr_core.cli", *first_command()[1:-1], str(out)]
        subprocess.run(command, cwd=ROOT, check=False)
        run, pictures = read_trajectory(out), RunFolder(out, [])
        tiles = []
        for step in run.steps:
            met = sum(verdict.state == "met" for verdict in step.verdicts)
            what = "kept" if step.accepted else "one shot, for comparison" if step is run.steps[-1] else "rolled back"
            label = f"step {step.index + 1}: {step.action.kind.lower()}, {what}. {met} of {len(run.goals)} goals"
            if step.chosen is not None:
                tiles.append((pictures.picture(step.chosen), label))
    save(Image.fromarray(contact_sheet(tiles, 6, 1)), "first-light.png")


def stickers() -> None:
    executor = load_models("stickers").executor
    drawings = executor.draw([DrawRequest(prompt, 1, (), 192, 192) for prompt in PROMPTS])
    sheet = contact_sheet([(each.picture, prompt) for each, prompt in zip(drawings, PROMPTS)], 4, 1)
    save(Image.fromarray(sheet), "stickers.png")


def drift() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLVR_CACHE"] = folder
        print(measure(load_models("stickers"), Path(folder) / "out", False))
        picture, _ = read_png(Path(folder) / "out" / "drift.png")
        save(Image.fromarray(picture), "drift-curve.png")


def workflows() -> None:
    environment = os.environ | {"CHROMIUM": browser()}
    subprocess.run([os.environ["COMFYUI_PYTHON"], "-m", "tests.comfy.shots"], cwd=ROOT, env=environment, check=True)


def viewer() -> None:
    command = first_command()
    flags = ["--front-end-root", os.environ["COMFYUI_FRONTEND"]] if "COMFYUI_FRONTEND" in os.environ else []
    with tempfile.TemporaryDirectory() as folder, Comfy(Path(folder), *flags) as server:
        environment = os.environ | {
            "CHROMIUM": browser(),
            "URL": f"http://127.0.0.1:{server.port}",
            "WORKFLOW": (ROOT / "workflows" / "1-quick-try.json").read_text("utf-8"),
            "PROMPT": command[2],
            "SEED": command[command.index("--seed") + 1],
            "RUNS": str(Path(folder) / "output" / "clvr"),
            "OUT": folder,
        }
        subprocess.run(["node", "e2e/pictures.js"], cwd=ROOT / "tests" / "web", env=environment, check=True)
        for shot in sorted(Path(folder).glob("viewer-*.png")):
            with Image.open(shot) as image:
                save(image, shot.name)


def browser() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found or not {"COMFYUI_DIR", "COMFYUI_PYTHON"} <= os.environ.keys():
        sys.exit("this needs Chromium (or CHROMIUM, its path), COMFYUI_DIR, a checkout of ComfyUI, and COMFYUI_PYTHON")
    return found


PARTS = {"first-light": first_light, "stickers": stickers, "drift": drift, "workflows": workflows, "viewer": viewer}


def main(names: list[str]) -> None:
    if unknown := set(names) - PARTS.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
