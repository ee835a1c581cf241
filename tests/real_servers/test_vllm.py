"""A real vLLM, which vllm.sh installs and starts."""

from __future__ import annotations

import json
import os

import pytest

from clvr_core import cli
from clvr_core.protocols import Message
from clvr_core.vlm.dialect import Dialect
from clvr_core.vlm.sight import check_sight

from .asking import QUESTIONS, RED, SCHEMAS, SHOWN, model

if not os.environ.get("VLLM_URL"):
    pytest.skip("VLLM_URL is not set: tests/real_servers/vllm.sh sets it", allow_module_level=True)


@pytest.fixture(scope="module")
def vllm() -> str:
    return os.environ["VLLM_URL"]


def test_decisions_are_those_of_the_same_weights_in_this_process(vllm, folder):
    from clvr_core.vlm.local import Local, load_local

    there, here = model(vllm), load_local(Local(str(folder), "cpu", "float32"))
    for pictures in SHOWN:
        told = [decision.yes for decision in there.decide(pictures, QUESTIONS)]
        assert told == pytest.approx([decision.yes for decision in here.decide(pictures, QUESTIONS)], abs=0.005)
    assert there.tells_probabilities and there.dialect == Dialect()


def test_it_sees_as_many_pictures_in_as_long_a_prompt_as_a_run_shows(vllm):
    vlm = model(vllm)
    check_sight(vlm)
    assert vlm.most is None


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_taken(vllm, name):
    """Whether it is held to hangs on the weights: with some of them vLLM writes white space to the limit, see
    docs/vision-models.md."""
    reply = model(vllm).chat([Message("system", "You plan."), Message("user", "What?", (RED,))], SCHEMAS[name])
    assert reply.tokens > 0


def test_the_doctor_can_look_at_it(vllm, settings, capsys):
    assert cli.main(["doctor", "--models", settings(vllm), "--json"]) == cli.DONE
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["controller"]["ok"] and found["controller: pictures"]["ok"] and found["controller: verdicts"]["ok"]
