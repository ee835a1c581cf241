"""The pack in a real ComfyUI in a real browser, with the front end that comes with it and with the newest one.

What does not depend on both, front end and renderer, is tested with the one in LiteGraph and with the other in Nodes 2.0, and what
depends on neither with the newest alone; with CLVR_NIGHTLY set, as each night, all of it with both in both.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.comfy.graphs import SCRIPTED, graph, loop, stubbed
from tests.comfy.server import Comfy
from tests.comfy.test_review import reviewed
from tests.web.pictures import check

pytestmark = pytest.mark.weights

BOTH = "litegraph nodes2"
RENDERERS = {"bundled": "litegraph", "newest": "nodes2"}
"""Front end -> the renderer that it is tested with, beside what a run looks like, which is tested with both in both."""


@pytest.fixture(scope="module", params=["bundled", "newest"])
def front(request, comfy_folder, chromium, node, tmp_path_factory):
    """A ComfyUI with this front end, and its name."""
    flags = []
    if request.param == "newest":
        folder = os.environ.get("COMFYUI_FRONTEND")
        if not folder:
            pytest.skip(
                "COMFYUI_FRONTEND names no folder: the `static` folder of a newer comfyui-frontend-package is tested where it does"
            )
        assert (Path(folder) / "index.html").is_file(), (
            f"COMFYUI_FRONTEND is {folder}, and there is no index.html in it"
        )
        flags = ["--front-end-root", folder]
    base = tmp_path_factory.mktemp(request.param)
    many_runs(base / "output" / "clvr")
    with Comfy(base, *flags) as server:
        yield request.param, server


def many_runs(folder: Path, count: int = 500) -> None:
    """So many old runs, as a studio has them, and one that stands where its first picture is drawn."""
    journal = (Path(__file__).parents[1] / "data" / "trajectories" / "rolled-back" / "trajectory.jsonl").read_text(
        "utf-8"
    )
    first, rest = journal.split("\n", 1)
    drawing = folder / "d0d0d0d0d0d0d0d0-1"
    drawing.mkdir(parents=True)
    upto = journal.index("\n", journal.index('"event":"action"')) + 1
    (drawing / "trajectory.jsonl").write_text(journal[:upto], "utf-8")
    os.utime(drawing / "trajectory.jsonl", (10**9,) * 2)
    for number in range(count):
        run = folder / f"{number:016x}-1"
        run.mkdir(parents=True)
        start = json.loads(first)
        start["brief"] |= {"prompt": f"an old brief, number {number}", "seed": number}
        (run / "trajectory.jsonl").write_text(json.dumps(start) + "\n" + rest, "utf-8")
        os.utime(run / "trajectory.jsonl", (10**9 + number,) * 2)
        os.utime(run, (10**9 + number,) * 2)


def viewed(node: str) -> dict:
    """View Trajectory behind the second output of this node."""
    return {"30": {"class_type": "CLVR_ViewTrajectory", "inputs": {"trajectory": [node, 1], "columns": 4}}}


def test_the_pack_in_comfyui(run_node, chromium, front, tmp_path) -> None:
    name, server = front
    nightly = bool(os.environ.get("CLVR_NIGHTLY"))
    renderers = BOTH if nightly else RENDERERS[name]
    output = run_node(
        *("--test", "--test-reporter=tap", "e2e/comfy.test.js"),
        CHROMIUM=chromium,
        URL=f"http://127.0.0.1:{server.port}",
        OUT=tmp_path,
        FRONT=name,
        RENDERERS=renderers,
        EVERYTHING="yes" if nightly or name == "newest" or not os.environ.get("COMFYUI_FRONTEND") else "",
        GRAPH=json.dumps(graph(rounds=3) | viewed("2")),
        LOOP=json.dumps(loop() | viewed("7")),
        REVIEWED=json.dumps(
            [json.dumps(stubbed(reviewed(prompt=SCRIPTED, seed=seed, rounds=12, candidates=1))) for seed in (91, 92)]
        ),
    )
    assert "# fail 0" in output
    steered = [f"{part}-{renderer}" for part in ("brief", "review") for renderer in renderers.split()]
    for shot in (f"{name}-litegraph", f"{name}-nodes2", *steered):
        check(tmp_path / f"{shot}.png")
