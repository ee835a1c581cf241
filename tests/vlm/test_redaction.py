"""A key stands in the environment and in the header of a request, and nowhere else, whatever a server says back."""

from __future__ import annotations

import json
import logging

import pytest

from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput
from clvr_core.executor.remote import ImageServer, RemoteExecutor
from clvr_core.http_json import Limits
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.storage.png import read_png
from clvr_core.vlm.server import Endpoint, ServerVlm
from tests.fakes import FakeExecutor
from tests.vlm.servers import Asked, Said, completion, said_in, serving

KEY = "sk-p/Lain+secret_quokka"
QUICK = Limits(timeout=5, retries=1, backoff=0, wait=0)


def echoing(asked: Asked) -> Said:
    """Answers well, with the key in every field that a person may read."""
    body = asked.body
    if body.get("logprobs"):
        return completion(KEY, logprobs=[("Yes", 0.1), ("No", 0.9)])
    if "Take the brief below apart" in said_in(body):
        goal = {"text": f"a red circle {KEY}", "check": f"Is there {KEY}?"}
        return Said(json.dumps(completion(json.dumps({"goals": [goal]})).body).replace("/", "\\/").encode())
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    action = {"kind": "GENERATE", "scene_prompt": f"a red circle {KEY}", "summary": f"I use {KEY}."}
    return Said(json.dumps(completion(json.dumps(action)).body).replace(KEY, spelled).encode())


def refusing(asked: Asked) -> Said:
    return Said({"error": f"Bearer {KEY} is not known"}, status=400)


@pytest.mark.parametrize("key", ["sk-secret\nX: y", "sk-secret\r", "sk-secret\x07", "sk-secret\u20ac"])
@pytest.mark.parametrize(
    "make",
    [
        lambda url, variable: ServerVlm(Endpoint(url, "eye", variable)),
        lambda url, variable: ServerVlm(Endpoint(url, "", variable)),
        lambda url, variable: RemoteExecutor(ImageServer(url, "painter", variable)),
    ],
    ids=["model", "first listed model", "image model"],
)
def test_a_key_that_no_header_can_carry_is_refused_without_being_said(make, key, monkeypatch):
    monkeypatch.setenv("SOME_KEY", f" {key}1 \n")
    with pytest.raises(BadInput, match="SOME_KEY holds a line break or another character") as refused:
        make("http://127.0.0.1:9/v1", "SOME_KEY")
    assert "secret" not in repr(refused.value)


@pytest.mark.parametrize("answer", [echoing, refusing])
def test_the_key_is_in_nothing_that_a_run_leaves(answer, tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setenv("SOME_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with serving(answer) as server:
        vlm = ServerVlm(Endpoint(server.url, "eye", "SOME_KEY", limits=QUICK))
        brief = Brief("a red circle", width=8, height=8, budget=Budget(rounds=2, patience=1), evidence=True)
        run = drive(Session(brief, RunModels(vlm, FakeExecutor()), RunFolder.create(tmp_path / "run")))
    assert server.asked and all(asked.headers["Authorization"] == f"Bearer {KEY}" for asked in server.asked)
    assert run.best is not None and (run.goals[0].text == "a red circle ***" if answer is echoing else run.warnings)
    left = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert {"trajectory.jsonl", "best.png", "report.html"} <= left.keys()
    _, texts = read_png(tmp_path / "run" / "best.png")
    left["metadata"] = json.dumps(texts).encode()
    shown = capsys.readouterr()
    for name, data in {**left, "log": caplog.text.encode(), "screen": (shown.out + shown.err).encode()}.items():
        assert KEY.encode() not in data and b"_quokka" not in data, name
    assert KEY not in repr(vlm.endpoint) and KEY not in vlm.name
