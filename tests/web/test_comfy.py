"""The pack in a real ComfyUI in a real browser, with the front end that comes with it and with the newest one."""

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
    with Comfy(tmp_path_factory.mktemp(request.param), *flags) as server:
        yield request.param, server


def viewed(node: str) -> dict:
    """View Trajectory behind the second output of this node."""
    return {"30": {"class_type": "CLVR_ViewTrajectory", "inputs": {"trajectory": [node, 1], "columns": 4}}}


def test_the_pack_in_comfyui(run_node, chromium, front, tmp_path) -> None:
    name, server = front
    output = run_node(
        *("--test", "--test-reporter=tap", "e2e/comfy.test.js"),
        CHROMIUM=chromium,
        URL=f"http://127.0.0.1:{server.port}",
        OUT=tmp_path,
        FRONT=name,
        GRAPH=json.dumps(graph(rounds=3) | viewed("2")),
        LOOP=json.dumps(loop() | viewed("7")),
        REVIEWED=json.dumps(
            [json.dumps(stubbed(reviewed(prompt=SCRIPTED, seed=seed, rounds=12, candidates=1))) for seed in (91, 92)]
        ),
    )
    assert "# fail 0" in output
    for shot in (f"{name}-litegraph", f"{name}-nodes2", "brief-litegraph", "brief-nodes2"):
        check(tmp_path / f"{shot}.png")
