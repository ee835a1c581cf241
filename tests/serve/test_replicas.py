"""Replicas of the service by a real Ray Serve on this machine."""

from __future__ import annotations

import argparse
import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="the extra `scale` (Ray) is not installed")
serve = pytest.importorskip("ray.serve", reason="the extra `scale` (Ray Serve) is not installed")
pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from clvr_core.serve.on_ray import deploy  # noqa: E402
from clvr_core.serve.service import Limits  # noqa: E402
from tests.fleet.crews import Oracle  # noqa: E402
from tests.waiting import HUNG  # noqa: E402

ROOT = Path(__file__).parents[2]
PROMPT = "three green triangles. a purple cross"


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("CLVR_TEST_KEYS", "secret")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "240")
    ray.init("local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = argparse.Namespace(address=None, replicas=2, gpus=0.0, host="127.0.0.1", port=port, out=tmp_path)
    deploy(Oracle(), options, Limits(), "CLVR_TEST_KEYS")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def ask(url: str, body: object = None, key: str = "secret"):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=HUNG) as answer:
        return answer.read()


def test_any_replica_makes_a_picture_and_answers_for_the_runs_of_all(url):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(f"{url}/v1/models", key="other")
    made = [json.loads(ask(f"{url}/v1/images/generations", {"prompt": PROMPT, "seed": 7})) for _ in range(4)]
    assert all(answer["clvr"][0]["met"] for answer in made)
    assert len({answer["data"][0]["b64_json"] for answer in made}) == 1, "same seed, same picture, whoever draws it"
    for answer in made:
        for _ in range(3):  # whichever is asked
            run = json.loads(ask(f"{url}/v1/runs/{answer['clvr'][0]['id']}"))
            assert run["brief"]["prompt"] == PROMPT
    said = ask(f"{url}/v1/images/generations", {"prompt": PROMPT, "seed": 7, "stream": True}).decode()
    assert said.count("event: image_generation.completed") == 1 and "event: clvr.step" in said
