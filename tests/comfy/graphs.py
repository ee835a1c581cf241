"""The graphs of the tests, and what came of them. Their models are the embedded ones, or scripted ones that answer at once."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from clvr_core.run.run_folder import JOURNAL, RunFolder, trajectory_from
from clvr_core.storage.png import read_png
from clvr_core.trajectory import Trajectory
from tests.comfy.server import Comfy, error_of
from tests.waiting import until

PROMPT = "a large red cat at the top left and a small blue car at the bottom right"
BRIEF = (
    "a large yellow umbrella, two small green trees, a small red cat, two blue cars and a purple cake at night. the red cat is left "
    "of the yellow umbrella. the purple cake is above the red cat. the purple cake is right of the yellow umbrella"
)
"""One picture of it fails, and the loop takes several rounds."""
SCRIPTED = "three things"


def graph(**inputs) -> dict:
    settings = {
        "prompt": PROMPT,
        "strategy": "clvr",
        "seed": 1,
        "rounds": 3,
        "patience": 4,
        "candidates": 0,
        "evaluations": 0,
        "guided": False,
    } | inputs
    return {
        "1": {"class_type": "CLVR_ShapesModels", "inputs": {"judge_error": 0.0}},
        "2": {"class_type": "CLVR_Generate", "inputs": {"vlm": ["1", 0], "executor": ["1", 1], **settings}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "best"}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["2", 2]}},
    }


def loop(first: int = 1, **inputs) -> dict:
    """A whole loop; its node ids begin at `first`."""
    models, brief, start, reason, execute, verify, end, save, say = (str(first + place) for place in range(9))
    settings = {
        "prompt": BRIEF,
        "strategy": "strokes",
        "seed": 1,
        "rounds": 3,
        "patience": 50,
        "candidates": 0,
        "evaluations": 0,
        "guided": False,
    } | inputs
    vlm, executor = [models, 0], [models, 1]
    return {
        models: {"class_type": "CLVR_ShapesModels", "inputs": {"judge_error": 0.0}},
        brief: {"class_type": "CLVR_Brief", "inputs": {"vlm": vlm, "executor": executor, **settings}},
        start: {"class_type": "CLVR_LoopStart", "inputs": {"trajectory": [brief, 0]}},
        reason: {"class_type": "CLVR_Reason", "inputs": {"trajectory": [start, 1], "vlm": vlm}},
        execute: {"class_type": "CLVR_ExecuteStep", "inputs": {"trajectory": [reason, 0], "executor": executor}},
        verify: {
            "class_type": "CLVR_Verify",
            "inputs": {"trajectory": [reason, 0], "vlm": vlm, "candidates": [execute, 0]},
        },
        end: {"class_type": "CLVR_LoopEnd", "inputs": {"flow": [start, 0], "trajectory": [verify, 0]}},
        save: {"class_type": "SaveImage", "inputs": {"images": [end, 0], "filename_prefix": f"loop-{first}"}},
        say: {"class_type": "PreviewAny", "inputs": {"source": [end, 2]}},
    }


def stubbed(prompt: dict, **script) -> dict:
    """The graph with models by a script in place of the embedded ones."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] == "CLVR_ShapesModels":
            node |= {"class_type": "Stub_Models", "inputs": {"script": json.dumps(script)}}
    return prompt


def looped(seed: int, first: int = 1, script: dict | None = None, **inputs) -> dict:
    """A loop drawn by hand that needs a round for each of three goals. Its node ids begin at `first`.

    No edit is repaired, since those of the stub change the whole picture, and each starts from the newest canvas."""
    settings = {"prompt": SCRIPTED, "strategy": "strokes", "candidates": 1, "rounds": 12, "patience": 4}
    settings |= {"tolerance": 0.0, "depth": 0} | inputs
    return stubbed(loop(first, seed=seed, **settings), **script or {})


def in_one(seed: int, script: dict | None = None, **inputs) -> dict:
    """The same in one node."""
    settings = {"prompt": SCRIPTED, "strategy": "strokes", "candidates": 1, "rounds": 12, "tolerance": 0.0, "depth": 0}
    settings |= inputs
    return stubbed(graph(seed=seed, **settings), **script or {})


def begun(comfy: Comfy, prompt: dict) -> tuple[dict, list[Trajectory]]:
    """The history of the prompt, and the runs that it began, by their seeds."""
    before = runs(comfy)
    entry = go(comfy, prompt)
    return entry, sorted((told(path) for path in runs(comfy) if path not in before), key=lambda run: run.brief.seed)


def cancelled(comfy: Comfy, prompt: dict, when: str, times: int) -> tuple[dict, list[Path]]:
    """The history of a prompt that is cancelled as soon as the models have said this so often more, and its new runs."""
    before, folders = over(comfy, when), runs(comfy)
    queued = comfy.queue(prompt)
    until(lambda: over(comfy, when) >= before + times, lambda: f"{when}\n{comfy.said}")
    comfy.interrupt()
    entry = comfy.wait(queued)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"]), entry["status"]
    return entry, [path for path in runs(comfy) if path not in folders]


def over(comfy: Comfy, line: str) -> int:
    """How often the models have said this so far."""
    return comfy.log.read_text().splitlines().count(line)


def runs(comfy: Comfy) -> list[Path]:
    """Oldest first."""
    return sorted((comfy.base / "output" / "clvr").glob("*-[0-9]*"), key=lambda path: path.stat().st_ctime_ns)


def planned(comfy: Comfy, before: list[Path]) -> Path | None:
    """The run that is new since then, once it has its plan."""
    fresh = [path / JOURNAL for path in runs(comfy) if path not in before]
    return next((path.parent for path in fresh if path.exists() and "planned" in path.read_text()), None)


def go(comfy: Comfy, prompt: dict) -> dict:
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return entry


def told(folder: Path) -> Trajectory:
    return trajectory_from(RunFolder.open(folder).lines)


def left_by(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def drawn(folder: Path) -> dict[str, int]:
    """Each canvas with the moment at which it was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("canvas-*.png")}


def begun_by(comfy: Comfy, prompt: dict) -> Path:
    before = runs(comfy)
    go(comfy, prompt)
    (folder,) = (path for path in runs(comfy) if path not in before)
    return folder


def saved(comfy: Comfy, entry: dict, node: str):
    (image,) = entry["outputs"][node]["images"]
    return read_png(comfy.base / "output" / image["filename"])[0]
