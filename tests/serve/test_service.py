"""The loop behind HTTP: its answers, its limits, its keys, and what becomes of runs whose client is gone."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from clvr_core import cli  # noqa: E402
from clvr_core.brief import Brief, Budget  # noqa: E402
from clvr_core.errors import Away, BadInput  # noqa: E402
from clvr_core.models.registry import Models  # noqa: E402
from clvr_core.run.reading import read_trajectory  # noqa: E402
from clvr_core.serve.app import app_of  # noqa: E402
from clvr_core.serve.command import keys_of  # noqa: E402
from clvr_core.serve.service import BODY, Limits, Service  # noqa: E402
from clvr_core.stickers import CANVAS  # noqa: E402
from tests.stickers.eyes import perceive  # noqa: E402
from tests.stickers.oracle import OracleExecutor, load_vlm  # noqa: E402
from tests.waiting import HUNG, until  # noqa: E402

PROMPT = "three green birds. a purple cup"
PATH = "/v1/images/generations"


class Executor(OracleExecutor):
    """Draws what it is told. hold: set from the start; cleared, drawings wait for it. fails: raised by the next drawings."""

    def __init__(self) -> None:
        super().__init__()
        self.hold, self.drawing, self.fails = threading.Event(), threading.Event(), None
        self.hold.set()

    def draw(self, requests):
        self.drawing.set()
        if self.fails:
            raise self.fails
        assert self.hold.wait(HUNG)
        return super().draw(requests)


class Client:
    def __init__(self, port: int, executor: Executor, out: Path) -> None:
        self.port, self.executor, self.out = port, executor, out

    def open(self, method: str, path: str, body: Any = None, key: str = "") -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Authorization": f"Bearer {key}"} if key else {})
        return connection

    def ask(self, path: str, body: Any = None, key: str = "") -> tuple[int, Any, Any]:
        """Return the status, the answer (read as JSON if it is), and the headers."""
        connection = self.open("GET" if body is None else "POST", path, body, key)
        answer = connection.getresponse()
        data, headers = answer.read(), answer.headers
        connection.close()
        return answer.status, json.loads(data) if "json" in headers["Content-Type"] else data, headers

    def metric(self, name: str) -> float:
        lines = self.ask("/metrics")[1].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextmanager
def serving(out: Path, keys: tuple[str, ...] = (), **limits: int) -> Iterator[Client]:
    executor, vlm = Executor(), load_vlm()
    usual = Brief("any", budget=Budget(rounds=6))
    service = Service(Models(vlm, executor, CANVAS, CANVAS, vlm.require_readable), out, usual, Limits(**limits), keys)
    server = uvicorn.Server(uvicorn.Config(app_of(service), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the server starts")
        yield Client(server.servers[0].sockets[0].getsockname()[1], executor, out)
    finally:
        executor.hold.set()
        server.should_exit = True
        thread.join(HUNG)
    assert service.stopped


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    with serving(tmp_path, concurrency=1, queue=1, pictures=2) as made:
        yield made


def shown(data: str | bytes) -> np.ndarray:
    raw = base64.b64decode(data) if isinstance(data, str) else data
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))


def test_a_brief_comes_back_as_a_verified_picture_with_its_records(client):
    status, answer, _ = client.ask(
        PATH, {"prompt": PROMPT, "seed": 7, "n": 2, "model": "clvr", "size": f"{CANVAS}x{CANVAS}"}
    )
    assert status == 200 and len(answer["data"]) == 2
    for place, told in enumerate(answer["clvr"]):
        assert told["met"] and told["seed"] == 7 + place and {goal["state"] for goal in told["goals"]} == {"met"}
        assert perceive(shown(answer["data"][place]["b64_json"])).clean
        path = told["trajectory"].partition(str(client.port))[2]
        status, trajectory, _ = client.ask(path)
        assert status == 200 and trajectory["brief"]["prompt"] == PROMPT
        assert read_trajectory(client.out / told["id"]).outcome.met
        assert client.ask(f"{path}/report.html")[0] == 200
    status, again, _ = client.ask(PATH, {"prompt": PROMPT, "seed": 7, "response_format": "url"})
    url = again["data"][0]["url"].partition(str(client.port))[2]
    assert (shown(client.ask(url)[1]) == shown(answer["data"][0]["b64_json"])).all(), "same seed, same picture"


def test_a_stream_tells_each_picture_and_each_step_before_the_end(client):
    connection = client.open("POST", PATH, {"prompt": PROMPT, "seed": 7, "stream": True})
    events = []
    for block in connection.getresponse().read().decode().split("\n\n")[:-1]:
        kind, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {events[-1]['type']}"
    kinds = [event["type"] for event in events]
    assert kinds[0] == "image_generation.partial_image" and kinds[-1] == "image_generation.completed"
    assert kinds.count("clvr.step") >= 1 and "goals met" in next(e for e in events if e["type"] == "clvr.step")["words"]
    assert events[-1]["clvr"]["met"] and (shown(events[0]["b64_json"]).shape == (CANVAS, CANVAS, 3))


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "the body is no JSON"),
        ([1], 400, "the body is no JSON object"),
        ({"prompt": "a", "sead": 1}, 400, "sead is not known; the fields are prompt, n, size"),
        ({"n": 1}, 400, "prompt is None; say what the picture should show"),
        ({"prompt": "a", "n": 3}, 400, "n is 3; it must be between 1 and 2"),
        ({"prompt": "a", "n": True}, 400, "n is True"),
        ({"prompt": "a", "size": "9x9"}, 400, "size is '9x9'; write WIDTHxHEIGHT with sides from 16 to 2048"),
        ({"prompt": "a", "rounds": 99}, 400, "rounds is 99; it must be between 1 and 12"),
        ({"prompt": "a", "seed": -1}, 400, "seed is -1"),
        ({"prompt": "a", "stream": True, "n": 2}, 400, "with true n must be 1"),
        ({"prompt": "a", "response_format": "gif"}, 400, "response_format is 'gif'; choose b64_json or url"),
        ({"prompt": "a red cat", "strategy": "best"}, 400, "unknown strategy 'best'"),
        ({"prompt": "a red cat", "guided": "no"}, 400, "guided is 'no'; it must be true or false"),
        ({"prompt": "a red cat", "candidates": 65}, 400, "candidates a number from 1 to 64"),
        ({"prompt": "a llama"}, 400, "the word 'llama' in the brief is not part of the sticker world"),
        (b"x" * (BODY + 1), 413, "the body has more than 65,536 bytes"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_a_sentence(client, body, status, says):
    code, answer, _ = client.ask(PATH, body)
    assert code == status and says in answer["error"]["message"]
    assert client.executor.requests == [] and not any(client.out.iterdir())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", PATH, 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/runs/nothing", 404),
        ("GET", "/v1/runs/..%2f..%2fetc", 404),
        ("GET", "/v1/runs/0000000000-0000000000000000/best.png", 404),
        ("GET", "/v1/models", 200),
        ("GET", "/health", 200),
    ],
)
def test_other_paths(client, method, path, status):
    assert client.open(method, path).getresponse().status == status


def test_who_comes_when_all_places_are_taken_is_told_when_to_come_again(client):
    client.executor.hold.clear()
    waiting = [client.open("POST", PATH, {"prompt": PROMPT}) for _ in range(2)]
    until(lambda: client.metric("clvr_waiting ") == 2, "both wait")
    status, answer, headers = client.ask(PATH, {"prompt": PROMPT})
    assert status == 429 and headers["Retry-After"] == "30" and "come again later" in answer["error"]["message"]
    assert client.metric("clvr_under_way ") == 1
    client.executor.hold.set()
    assert [each.getresponse().status for each in waiting] == [200, 200]
    assert client.metric("clvr_runs_total") == 2 and client.metric("clvr_images_total ") >= 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_whose_client_is_gone_is_left_where_it_can_be_gone_on_with(client, stream):
    client.executor.hold.clear()
    connection = client.open("POST", PATH, {"prompt": PROMPT, "stream": stream})
    assert client.executor.drawing.wait(HUNG)
    if stream:
        connection.sock.shutdown(2)
    connection.close()
    until(lambda: client.metric("clvr_waiting ") == 0, "the run is given up")
    client.executor.hold.set()
    until(lambda: client.metric('clvr_runs_total{state="stopped"}') == 1, "the run has left its work")
    (folder,) = client.out.iterdir()
    assert not (folder / "best.png").exists() and read_trajectory(folder).brief.prompt == PROMPT
    assert client.ask(PATH, {"prompt": PROMPT})[0] == 200, "its place is free"


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (Away("the image server is away"), 503, "a model is away: the image server is away"),
        (BadInput("it cannot be drawn"), 422, "it cannot be drawn"),
    ],
)
def test_a_run_that_comes_to_nothing_says_why(client, error, status, says):
    client.executor.fails = error
    code, answer, _ = client.ask(PATH, {"prompt": PROMPT})
    assert code == status and says in answer["error"]["message"]
    connection = client.open("POST", PATH, {"prompt": PROMPT, "stream": True})
    assert says in connection.getresponse().read().decode()


def test_only_who_has_a_key_is_let_in(tmp_path):
    with serving(tmp_path, keys=("one", "two")) as client:
        for key, status in (("", 401), ("three", 401), ("one", 200), ("two", 200)):
            assert client.ask("/v1/models", key=key)[0] == status
        assert client.ask(PATH, {"prompt": PROMPT})[0] == 401 and client.ask("/metrics")[0] == 401
        assert client.ask("/health")[0] == 200, "a balancer has no key"


def test_keys_come_from_the_environment_and_the_world_is_let_in_by_them_alone(monkeypatch):
    monkeypatch.setenv("KEYS", " a, b,")
    monkeypatch.delenv("NONE", raising=False)
    assert keys_of("KEYS", "0.0.0.0") == ["a", "b"] and keys_of("", "127.0.0.1") == keys_of("", "::1") == []
    with pytest.raises(BadInput, match=r"--host 0\.0\.0\.0 is open to others"):
        keys_of("", "0.0.0.0")
    with pytest.raises(BadInput, match="NONE, which is not set or empty"):
        keys_of("NONE", "127.0.0.1")


@pytest.mark.parametrize("flags", [["--concurrency", "0"], ["--queue", "-1"], ["--port", "70000"], ["--replicas", "0"]])
def test_flags_out_of_range_are_refused(tmp_path, flags, capsys):
    assert cli.main(["serve", "--out", str(tmp_path), *flags]) == cli.BAD_INPUT
    assert f"{flags[0]} is {flags[1]}; it must be between" in capsys.readouterr().err
