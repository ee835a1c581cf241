"""A real ComfyUI with this pack in it, on a free port of the loopback, and the few requests that a client makes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.waiting import until

ROOT = Path(__file__).parents[2]
STUBS = Path(__file__).parent / "stubs"
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
STARTS_WITHIN = 600.0
ENDS_WITHIN = 300.0


class Refused(Exception):
    """The server did not take the prompt; the message is its answer."""


class Comfy:
    def __init__(self, base: Path, *flags: str, **environment: str) -> None:
        self.base = base
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (base / name).mkdir(exist_ok=True)
        for name, pack in (("clvr", ROOT), ("clvr_stubs", STUBS)):
            if not (link := base / "custom_nodes" / name).exists():
                link.symlink_to(pack, target_is_directory=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = base / f"comfy-{self.port}.log"
        folder = Path(os.environ["COMFYUI_DIR"])
        command = [PYTHON, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += [
            "--disable-api-nodes",
            "--database-url",
            "sqlite:///:memory:",
            "--base-directory",
            str(base),
            *flags,
        ]
        environment = os.environ | environment
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT
        )
        self.client = uuid.uuid4().hex

    def __enter__(self) -> Comfy:
        try:
            until(self.answers, lambda: f"ComfyUI's start:\n{self.said}", STARTS_WITHIN, 0.2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def answers(self) -> bool:
        try:
            self.get("/system_stats")
            return True
        except OSError:
            assert self.process.poll() is None, f"ComfyUI did not start:\n{self.said}"
            return False

    @property
    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:]

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            data = answer.read()
        return json.loads(data) if answer.headers.get_content_type() == "application/json" else data

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                data = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.read().decode()) from error
        return json.loads(data) if data else None

    def queue(self, prompt: dict[str, Any]) -> str:
        return self.post("/prompt", {"prompt": prompt, "client_id": self.client})["prompt_id"]

    def wait(self, prompt: str) -> dict[str, Any]:
        """The history entry of a prompt that has ended, well or not."""

        def entry() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.said
            return self.get(f"/history/{prompt}").get(prompt)

        return until(entry, lambda: f"the end of the prompt:\n{self.said}", ENDS_WITHIN, 0.1)

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        return self.wait(self.queue(prompt))

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def forget(self) -> None:
        """Unloads the models, and drops what was cached before the next prompt is served.

        The server does so between two prompts, yet perhaps not before the next one: so that is one of no account.
        """
        self.post("/free", {"unload_models": True, "free_memory": True})
        value = {"class_type": "Stub_Anything", "inputs": {"value": json.dumps(uuid.uuid4().hex)}}
        self.run({"1": value, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}})

    @contextmanager
    def listening(self) -> Iterator[list[dict[str, Any]]]:
        """What the server tells the client meanwhile, as tests/comfy/listen.py writes it, up to the end of the last prompt."""
        heard: list[dict[str, Any]] = []
        words = [PYTHON, Path(__file__).with_name("listen.py"), str(self.port), self.client]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as ear:
            heard.append(json.loads(ear.stdout.readline()))
            reader = threading.Thread(target=lambda: heard.extend(map(json.loads, ear.stdout)))
            reader.start()
            try:
                yield heard
                over = lambda: _count(heard, "execution_start") == _count(heard, *ENDINGS)  # noqa: E731
                until(over, lambda: f"the end of what was begun:\n{self.said}", ENDS_WITHIN, 0.05)
            finally:
                ear.terminate()
                reader.join()


ENDINGS = ("execution_success", "execution_error", "execution_interrupted")


def _count(heard: list[dict[str, Any]], *kinds: str) -> int:
    return sum(line.get("said", {}).get("type") in kinds for line in list(heard))


def error_of(entry: dict[str, Any]) -> str:
    """What the failed prompt says to the person."""
    return "".join(
        body.get("exception_message", "") for kind, body in entry["status"]["messages"] if kind == "execution_error"
    ).strip()
