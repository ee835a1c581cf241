"""A real `transformers serve`: it takes logprobs and response_format without a word, and does neither."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from clvr_core import cli
from clvr_core.errors import BadInput
from clvr_core.protocols import Message, Question
from clvr_core.vlm.replies import ask
from clvr_core.vlm.sight import check_sight

from .asking import BLUE, RED, model
from .processes import SERVE, need

need(*SERVE)

ASK = (Question("Is the first picture red?"),)


@dataclass(frozen=True)
class Answers:
    answers: tuple[dict, ...]


@dataclass(frozen=True)
class Other:
    color: str


def test_decisions_are_made_in_words(serve):
    vlm = model(serve[0], model=serve[1])
    told = [vlm.decide(pictures, ASK)[0].yes for pictures in ((RED,), (BLUE,), (RED, BLUE), (BLUE, RED))]
    assert told == [0.9, 0.1, 0.9, 0.1] and not vlm.tells_probabilities
    assert vlm.name == "eyes-in-json"


def test_it_sees_as_many_pictures_in_as_long_a_prompt_as_a_run_shows(serve):
    vlm = model(serve[0], model=serve[1])
    check_sight(vlm)
    assert vlm.most is None


def test_a_schema_is_said_in_words_after_a_reply_of_another_form(serve):
    vlm, messages = model(serve[0], model=serve[1]), [Message("system", "Look."), Message("user", "Answer.", (RED,))]
    schema = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
    answer = ask(vlm, messages, schema, Other)
    assert answer.value is None and "no usable reply" in answer.failure and answer.calls == 2
    longer = vlm.chat(messages, schema).tokens - model(serve[0], model=serve[1]).chat(messages, schema).tokens
    assert longer > 50, "the words stay in the prompt for the rest of the session"
    assert ask(vlm, messages, {"type": "object"}, Answers).value == Answers(({"question": 1, "answer": "yes"},))


def test_a_model_must_be_named_where_none_is_listed(serve):
    with pytest.raises(BadInput, match=r"no model is named for the server .*, and it lists none"):
        model(serve[0])


def test_the_doctor_says_what_it_lacks(serve, settings, capsys):
    assert cli.main(["doctor", "--models", settings(*serve), "--json"]) == cli.DONE
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["controller"]["ok"] and found["controller: pictures"]["ok"]
    assert found["controller: verdicts"]["detail"].startswith("words: it tells no probabilities, ")
    assert found["controller: replies"]["detail"].startswith("not held to their schema, which is said in words, ")


@pytest.mark.weights
def test_a_run_ends_with_verdicts(serve, settings, tmp_path, capsys):
    out = tmp_path / "run"
    brief = ["generate", "a red circle", "--models", settings(*serve), "--out", str(out), "--rounds", "1", "--json"]
    assert cli.main(brief) in (cli.DONE, cli.NOT_MET)
    lines = [json.loads(line) for line in (out / "trajectory.jsonl").read_text().splitlines()]
    verdicts = [verdict for line in lines for step in line.get("steps", ()) for verdict in step.get("verdicts", ())]
    assert verdicts and all(verdict["state"] != "error" for verdict in verdicts)
