"""Real servers of language models, each in a process of its own on a free port of the loopback."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.waiting import until

PYTHON = os.environ.get("SERVERS_PYTHON", sys.executable)
"""A Python that has the packages of the servers; see CONTRIBUTING.md."""
HERE = Path(__file__).parent
LLAMA = "llama.cpp", "xllamacpp", "gguf", "safetensors"
SERVE = "transformers serve", "transformers", "torch", "torchvision", "fastapi", "uvicorn", "openai"
LITELLM = "LiteLLM", "litellm", "fastapi", "uvicorn", "backoff", "orjson"
"""A server, and the packages that it needs."""
STARTS_WITHIN = 600.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*", "OMP_NUM_THREADS": "1"}


@cache
def missing(*packages: str) -> list[str]:
    """Return those that the servers' Python cannot import."""
    if sys.executable == PYTHON:
        return [name for name in packages if not importlib.util.find_spec(name)]
    code = "import importlib.util as u, json, sys; print(json.dumps([n for n in sys.argv[1:] if not u.find_spec(n)]))"
    return json.loads(subprocess.run([PYTHON, "-c", code, *packages], capture_output=True, check=True).stdout)


def need(server: str, *packages: str) -> None:
    """Skip the module where a package of the server cannot be imported."""
    if lacks := missing(*packages):
        why = f"{server}: {', '.join(lacks)} cannot be imported; SERVERS_PYTHON names a Python that can"
        pytest.skip(why, allow_module_level=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(command: Sequence[str | Path], **options: object) -> None:
    done = subprocess.run([PYTHON, *map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-2000:]


@contextmanager
def serving(command: Sequence[str | Path], port: int, log: Path, key: str = "") -> Iterator[str]:
    """Run a server with PYTHON until the end of the block; yields its url once it lists its models."""
    url = f"http://127.0.0.1:{port}/v1"
    with log.open("a") as file:
        process = subprocess.Popen(
            [PYTHON, *map(str, command)], env=os.environ | OFFLINE, stdout=file, stderr=subprocess.STDOUT
        )

    def said() -> str:
        return log.read_text(errors="replace")[-4000:]

    def answers() -> bool:
        assert process.poll() is None, f"it did not start:\n{said()}"
        try:
            request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"})
            with urllib.request.urlopen(request, timeout=60):
                return True
        except urllib.error.HTTPError:
            return True  # transformers serve cannot list what no cache of the hub holds
        except OSError:
            return False

    try:
        until(answers, lambda: f"{command} starts:\n{said()}", STARTS_WITHIN, 0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
