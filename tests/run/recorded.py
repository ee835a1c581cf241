"""Models that say and draw what a finished run has on record: to go on with a run of it that was cut, without the models of its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clvr_core.protocols import Picture
from clvr_core.run.run_folder import JOURNAL, RunFolder
from clvr_core.run.session import RunModels
from tests.fakes import FakeExecutor, FakeVlm


def models_of(whole: Path, done: int = 0) -> RunModels:
    """Return them by the journal and the pictures of `whole`. done: how many lines of it are done already."""
    lines = RunFolder.open(whole).lines
    names = lines[0]["models"]
    drawn = [each for line in lines if line["event"] == "drawn" for each in line["result"]["candidates"]]
    pictures = {each["canvas"]: np.array(Image.open(whole / each["file"]).convert("RGB")) for each in drawn}
    judged = [line["result"] for line in lines if line["event"] == "judged"]
    winner = next((line["result"]["winner"] for line in lines if line["event"] == "compared"), None)

    def canvas_of(picture: Picture) -> int:
        return next(canvas for canvas, known in pictures.items() if np.array_equal(known, picture))

    def yes(images: Any, data: Any) -> float:
        if data["task"] == "compare":
            return 0.95 if (canvas_of(images[0]) < canvas_of(images[1])) == (winner == 0) else 0.05
        told = judged[canvas_of(images[-1])]
        if data["task"] == "goal":
            return (
                0.95
                if {"goal": data["goal"]["id"], "state": "met", "confidence": 0.95} in told["verdicts"][0]
                else 0.05
            )
        right = told["edits"][0]["success"] if data["task"] == "edit-done" else told["edits"][0]["over_edit"] < 0.5
        return 0.95 if right else 0.05

    left = lines[done:]
    said = [json.dumps(line["result"]["action"]) for line in left if line["event"] == "action"]
    coming = [
        pictures[each["canvas"]] for line in left if line["event"] == "drawn" for each in line["result"]["candidates"]
    ]
    vlm = FakeVlm(said, lambda images, questions: [yes(images, each.data) for each in questions], names["controller"])
    return RunModels(vlm, FakeExecutor(coming, name=names["executor"]))


def whole_lines(folder: Path) -> int:
    """How many lines of a journal are whole."""
    return (folder / JOURNAL).read_bytes().count(b"\n")
