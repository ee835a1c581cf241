"""`clvr doctor --models`: what is said of the servers of a clvr.toml."""

from __future__ import annotations

import json

import pytest

from clvr_core import cli
from tests.executor.images import drawing, serving_images
from tests.fakes import FakeExecutor, grey
from tests.vlm.servers import Asked, Said, completion, pictures_in, serving

FILE = """
[controller]
url = "{eyes}"
image_side = 64
retries = 0
wait = 0
[executor]
url = "{hand}"
width = 64
height = 64
retries = 0
wait = 0
"""


def eye(asked: Asked) -> Said:
    if asked.body is None:
        return Said({"data": [{"id": "eye"}]})
    if "logprobs" not in asked.body:
        return completion('{"color": "crimson", "count": 1}')
    yes = 0.9 if pictures_in(asked.body)[0][0, 0, 0] > 128 else 0.1
    return completion("", logprobs=[("Yes", yes), ("No", 1 - yes)])


def poor(asked: Asked) -> Said:
    """Takes one picture and no temperature, thinks before it answers, and writes prose."""
    if asked.body is None:
        return Said({"data": [{"id": "poor"}]})
    if "temperature" in asked.body or len(pictures_in(asked.body)) > 1:
        return Said(status=400)
    answer = eye(asked)
    if "logprobs" in asked.body:
        answer.body["choices"][0]["message"]["reasoning_content"] = "hm"
        return answer
    red = pictures_in(asked.body)[0][0, 0, 0] > 128
    words = {"answers": [{"question": 1, "answer": "yes" if red else "no"}]}
    return completion(json.dumps(words) if "answers" in json.dumps(asked.body) else "It is red.")


def found(tmp_path, capsys, eyes, hand: str) -> dict[str, tuple[bool, str]]:
    with serving(eyes) as server:
        (tmp_path / "clvr.toml").write_text(FILE.format(eyes=server.url, hand=hand))
        assert cli.main(["doctor", "--models", str(tmp_path / "clvr.toml"), "--json"]) == cli.DONE
    return {each["name"]: (each["ok"], each["detail"]) for each in json.loads(capsys.readouterr().out)}


def test_a_server_that_does_all_is_said_to(tmp_path, capsys):
    with serving_images(drawing(FakeExecutor(lambda request: grey(9, 64, 64)))) as hand:
        said = found(tmp_path, capsys, eye, hand.url)
    assert all(ok for ok, _ in said.values()), said
    assert said["controller"][1] == "eye answers and sees; everything is sent as first tried"
    assert said["controller: pictures"][1] == "4 at once, 64 pixels, in a long prompt too"
    assert said["controller: verdicts"][1].startswith("probabilities of Yes and No, ")
    assert said["controller: replies"][1].startswith("held to their schema, ")
    assert said["executor"][1].startswith("image model draws 64 x 64 in ")
    assert list(said)[-2:] == ["executor: one reference", "executor: two references"]


def test_an_image_server_that_takes_one_reference_is_said_to(tmp_path, capsys):
    draws = drawing(FakeExecutor(lambda request: grey(9, 64, 64)))
    with serving_images(lambda asked: Said(status=400) if len(asked.pictures) > 1 else draws(asked)) as hand:
        said = found(tmp_path, capsys, eye, hand.url)
    assert said["executor: one reference"][0] and not said["executor: two references"][0]
    assert said["executor: two references"][1].startswith("refuses them: it takes one")


def test_what_one_lacks_is_named(tmp_path, capsys):
    said = found(tmp_path, capsys, poor, "http://127.0.0.1:9/v1")
    assert said["controller"] == (True, "poor answers and sees; temperature = False")
    assert said["controller: pictures"] == (
        False,
        "1 at once, more side by side in one, 64 pixels, in a long prompt too",
    )
    assert not said["controller: replies"][0] and "not held to their schema" in said["controller: replies"][1]
    assert not said["controller: thought"][0] and "thinks before it answers" in said["controller: thought"][1]
    assert not said["executor"][0] and "refuses the connection" in said["executor"][1]


@pytest.mark.parametrize("status", [401, 404])
def test_one_that_cannot_be_asked_is_said_in_a_line(tmp_path, capsys, status):
    said = found(tmp_path, capsys, lambda _: Said(status=status), "http://127.0.0.1:9/v1")
    assert not said["controller"][0] and f"answered {status}" in said["controller"][1] and len(said) == 2
