"""A real llama.cpp server (package xllamacpp), with a model that sees."""

from __future__ import annotations

import json
import threading

import jsonschema
import pytest

from clvr_core import cli
from clvr_core.controller.prompts import GOALS_SCHEMA
from clvr_core.errors import JudgeFailure
from clvr_core.protocols import Message
from clvr_core.vlm.dialect import Dialect
from clvr_core.vlm.sight import check_sight

from .asking import QUESTIONS, RED, SCHEMAS, SHOWN, model
from .processes import HERE, LLAMA, free_port, need, serving

need(*LLAMA)


def test_decisions_are_those_of_the_same_weights_in_this_process(llama, folder):
    from clvr_core.vlm.local import Local, load_local

    there, here = model(llama), load_local(Local(str(folder), "cpu", "float32"))
    for pictures in SHOWN:
        told = [decision.yes for decision in there.decide(pictures, QUESTIONS)]
        assert told == pytest.approx([decision.yes for decision in here.decide(pictures, QUESTIONS)], abs=0.002)
    assert there.tells_probabilities and there.dialect == Dialect()


def test_it_sees_as_many_pictures_in_as_long_a_prompt_as_a_run_shows(llama):
    vlm = model(llama)
    check_sight(vlm)
    assert vlm.most is None


def test_it_is_named_by_its_file_and_not_by_the_path(llama):
    vlm = model(llama)
    assert vlm.name == "model.gguf" and vlm.model.endswith("/eyes/model.gguf")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_held_to(llama, name):
    vlm = model(llama)
    reply = vlm.chat([Message("system", "You plan."), Message("user", "What is to be done?", (RED,))], SCHEMAS[name])
    jsonschema.validate(json.loads(reply.text), SCHEMAS[name])
    assert reply.finished and reply.tokens > 0


def test_without_its_vision_part_the_server_says_what_is_missing(blind_llama):
    with pytest.raises(JudgeFailure, match=r"model\.gguf takes no picture: the server answered 500.*mmproj"):
        check_sight(model(blind_llama))


def test_a_prompt_beyond_its_context_is_a_failure_in_its_words(llama):
    with pytest.raises(JudgeFailure, match="context size"):
        model(llama).chat([Message("user", "#$%&" * 10_000)], GOALS_SCHEMA)


def test_a_server_that_is_started_again_costs_time_only(files, place):
    port = free_port()
    command = [HERE / "llama.py", port, *files], port, place / "again.log"
    with serving(*command) as url:
        vlm = model(url)
        before = vlm.decide((RED,), QUESTIONS)
    answers: list = []
    asking = threading.Thread(target=lambda: answers.append(vlm.decide((RED,), QUESTIONS)), daemon=True)
    asking.start()
    with serving(*command):
        asking.join(600)
        assert [decision.yes for decision in answers[0]] == [decision.yes for decision in before]


def test_the_doctor_finds_nothing_missing(llama, settings, capsys):
    assert cli.main(["doctor", "--models", settings(llama), "--json"]) == cli.DONE
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert all(each["ok"] for each in found.values()), found
    assert found["controller: verdicts"]["detail"].startswith("probabilities of Yes and No, ")
    assert found["controller: replies"]["detail"].startswith("held to their schema, ")


@pytest.mark.weights
def test_a_run_ends_with_verdicts_and_no_warning(llama, settings, tmp_path, capsys):
    out = tmp_path / "run"
    brief = ["generate", "a red circle", "--models", settings(llama), "--out", str(out), "--rounds", "1", "--json"]
    assert cli.main(brief) in (cli.DONE, cli.NOT_MET)
    lines = [json.loads(line) for line in (out / "trajectory.jsonl").read_text().splitlines()]
    verdicts = [verdict for line in lines for step in line.get("steps", ()) for verdict in step.get("verdicts", ())]
    assert verdicts and all(verdict["state"] != "error" for verdict in verdicts)
    assert not [warning for line in lines for warning in line.get("warnings", ())]
