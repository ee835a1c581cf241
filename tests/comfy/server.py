"""A real ComfyUI with this pack in it, on a free port of the loopback, and the few requests that a client makes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STUBS = Path(__file__).parent / "stubs"
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
STARTS_WITHIN = 600.0
ENDS_WITHIN = 300.0


class Refused(Exception):
    """The server did not take the prompt; the message is its answer."""


class Comfy:
    def __init__(self, base: Path, *flags: str, **environment: str) -> None:
        self.base, self.log = base, base / "comfy.log"
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (base / name).mkdir(exist_ok=True)
        for name, pack in (("clvr", ROOT), ("clvr_stubs", STUBS)):
            if not (link := base / "custom_nodes" / name).exists():
                link.symlink_to(pack, target_is_directory=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        folder = Path(os.environ["COMFYUI_DIR"])
        command = [PYTHON, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--base-directory", str(base), *flags]
        environment = os.environ | environment
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        self.client = uuid.uuid4().hex

    def __enter__(self) -> Comfy:
        end = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                self.get("/system_stats")
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.__exit__()
                    raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-4000:]}") from None
                time.sleep(0.2)

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
        end = time.monotonic() + ENDS_WITHIN
        while time.monotonic() < end:
            if entry := self.get(f"/history/{prompt}").get(prompt):
                return entry
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            time.sleep(0.1)
        raise AssertionError(f"the prompt did not end:\n{self.log.read_text()[-4000:]}")

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        return self.wait(self.queue(prompt))

    def interrupt(self) -> None:
        self.post("/interrupt", {})

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
                end = time.monotonic() + ENDS_WITHIN
                while _count(heard, "execution_start") != _count(heard, *ENDINGS) and time.monotonic() < end:
                    time.sleep(0.05)
            finally:
                ear.terminate()
                reader.join()


ENDINGS = ("execution_success", "execution_error", "execution_interrupted")


def _count(heard: list[dict[str, Any]], *kinds: str) -> int:
    return sum(line.get("said", {}).get("type") in kinds for line in list(heard))


def error_of(entry: dict[str, Any]) -> str:
    """What the failed prompt says to the person."""
    return "".join(body.get("exception_message", "") for kind, body in entry["status"]["messages"] if kind == "execution_error").strip()
