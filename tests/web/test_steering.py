"""The checklist, the forecast and the review in a real ComfyUI in a real browser."""

from __future__ import annotations

import json

import pytest

from tests.comfy.server import Comfy
from tests.comfy.test_review import reviewed

pytestmark = pytest.mark.weights


def test_the_artist_is_asked_and_heard(run_node, chromium, comfy_folder, tmp_path) -> None:
    with Comfy(tmp_path) as server:
        told = run_node(
            *("--test", "--test-reporter=tap", "e2e/steering.test.js"),
            CHROMIUM=chromium,
            URL=f"http://127.0.0.1:{server.port}",
            OUT=tmp_path,
            GRAPH=json.dumps(reviewed(seed=91, strategy="clvr")),
        )
    assert "# fail 0" in told
