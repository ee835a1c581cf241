"""`clvr doctor --models`: what is said of the servers of a clvr.toml."""

from __future__ import annotations

import itertools
import json
import zlib

import numpy as np
import pytest

from clvr_core import cli
from clvr_core.protocols import DrawRequest
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


def reading(words: int, repeats: bool = True) -> FakeExecutor:
    """Draws by the first words of its prompt."""
    drawn = itertools.count()

    def grey_of(request: DrawRequest) -> np.ndarray:
        read = " ".join(request.prompt.split()[:words])
        return grey(zlib.crc32(read.encode()) % 256 if repeats else next(drawn), 64, 64)

    return FakeExecutor(grey_of)


def found(tmp_path, capsys, eyes, hand: str) -> dict[str, tuple[bool, str]]:
    with serving(eyes) as server:
        (tmp_path / "clvr.toml").write_text(FILE.format(eyes=server.url, hand=hand))
        assert cli.main(["doctor", "--models", str(tmp_path / "clvr.toml"), "--json"]) == cli.DONE
    return {each["name"]: (each["ok"], each["detail"]) for each in json.loads(capsys.readouterr().out)}


def test_a_server_that_does_all_is_said_to(tmp_path, capsys):
    with serving_images(drawing(reading(9_999))) as hand:
        said = found(tmp_path, capsys, eye, hand.url)
    assert all(ok for ok, _ in said.values()), said
    assert said["controller"][1] == "eye answers and sees; everything is sent as first tried"
    assert said["controller: pictures"][1] == "4 at once, 64 pixels, in a long prompt too"
    assert said["controller: verdicts"][1].startswith("probabilities of Yes and No, ")
    assert said["controller: replies"][1].startswith("held to their schema, ")
    assert said["executor"][1].startswith("image model draws 64 x 64 in ")
    assert list(said)[-3:-1] == ["executor: one reference", "executor: two references"]
    assert said["executor: long prompts"][1] == "read to the end at 530 words"


@pytest.mark.parametrize(
    ("hand", "detail"),
    [
        (reading(70), "cut: nothing behind word 80 changes the picture, as with a text encoder of 77 tokens"),
        (reading(400), "cut: nothing behind word 530 changes the picture, as with a text encoder of 512 tokens"),
        (reading(70, repeats=False), "cannot be told: the same request gives another picture each time"),
    ],
    ids=["77 tokens", "512 tokens", "pictures that do not repeat"],
)
def test_an_image_server_that_cuts_prompts_is_said_to(tmp_path, capsys, hand, detail):
    with serving_images(drawing(hand)) as server:
        said = found(tmp_path, capsys, eye, server.url)
    assert said["executor: long prompts"] == (not detail.startswith("cut"), detail)


def test_an_image_server_that_refuses_long_prompts_is_said_to(tmp_path, capsys):
    draws = drawing(reading(9_999))

    def answer(asked):
        return Said({"error": "prompt too long"}, 400) if len(asked.fields["prompt"]) > 200 else draws(asked)

    with serving_images(answer) as server:
        said = found(tmp_path, capsys, eye, server.url)
    assert not said["executor: long prompts"][0] and "prompt too long" in said["executor: long prompts"][1]


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
