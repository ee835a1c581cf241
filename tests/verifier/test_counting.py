""" "How many?" asked as a number, beside "is it so?"."""

from __future__ import annotations

import json

import pytest

from clvr_core.brief import Goal
from clvr_core.trajectory import Finding
from clvr_core.verifier import judge
from clvr_core.verifier.counting import counted
from clvr_core.witness import Witnesses
from clvr_core.witness.judge import with_witnesses
from tests.fakes import FakeVlm, grey

GOALS = (
    Goal("g1", "three red apples"),
    Goal("g2", "no people"),
    Goal("g3", "a dog"),
    Goal("g4", 'a sign that says "OPEN"', "text"),
)


def numbers(*pairs):
    return json.dumps({"counts": [{"goal": goal, "number": number} for goal, number in pairs]})


def test_only_goals_that_say_a_number_are_counted_in_one_call():
    vlm = FakeVlm([numbers(("g1", 4), ("g2", 0))])
    answer = counted(vlm, grey(), GOALS)
    assert answer.value == {
        "g1": Finding("count", "no", words='counts 4 "red apple"'),
        "g2": Finding("count", "yes", words='counts 0 "person"'),
    }
    (chat,) = vlm.chats
    assert answer.calls == 1 and chat.messages[-1].data == {
        "task": "count",
        "things": {"g1": "red apple", "g2": "person"},
    }
    assert '- g1: "red apple"' in chat.text and "dog" not in chat.text
    assert chat.schema["properties"]["counts"]["items"]["properties"]["goal"]["enum"] == ["g1", "g2"]


def test_without_such_a_goal_nothing_is_asked():
    vlm = FakeVlm()
    assert counted(vlm, grey(), GOALS[2:]).value == {} and not vlm.chats


@pytest.mark.parametrize(
    "reply",
    [
        numbers(("g9", 3), ("g2", 0)),
        numbers(("g1", 3), ("g1", 4), ("g2", 0)),
        numbers(("g1", -3), ("g2", 0)),
        numbers(("g1", 10**9), ("g2", 0)),
    ],
)
def test_a_number_that_is_none_says_nothing(reply):
    assert set(counted(FakeVlm([reply, reply]), grey(), GOALS).value) == {"g2"}


def test_a_judge_that_does_not_count_is_a_warning_and_its_verdicts_stay():
    vlm = FakeVlm(["three", "three"], [[0.9] * 4])
    judged = judge(with_witnesses(vlm, Witnesses(counts=True)), grey(), GOALS)
    assert [verdict.state for verdict in judged.verdicts] == ["met"] * 4
    assert judged.calls == 3 and judged.warnings[0].startswith("no count: ")


class Detector:
    name = "objects (by hand)"

    def __init__(self, says):
        self.says = says

    def look(self, picture, goals):
        return {"g1": Finding("objects", self.says, 0.9, "finds some")}


@pytest.mark.parametrize(
    ("probability", "number", "detector", "state"),
    [
        (0.9, 3, "yes", "met"),
        (0.9, 4, "yes", "unsure"),
        (0.9, 3, "no", "unsure"),
        (0.9, 4, "no", "unmet"),
        (0.1, 3, "yes", "met"),
        (0.1, 4, "no", "unmet"),
        (0.5, 4, "no", "unmet"),
        (0.5, 3, "yes", "met"),
    ],
)
def test_the_number_is_compared_with_the_detectors(probability, number, detector, state):
    """Where both say the same against the judge's yes or no, the judge and a witness agree all the same."""
    vlm = FakeVlm([numbers(("g1", number))], [[probability]])
    (verdict,) = judge(with_witnesses(vlm, Witnesses([Detector(detector)], counts=True)), grey(), GOALS[:1]).verdicts
    assert verdict.state == state
    assert f'count: counts {number} "red apple"' in verdict.evidence and "objects: finds some" in verdict.evidence


def test_a_number_alone_only_makes_it_unsure():
    vlm = FakeVlm([numbers(("g1", 4))], [[0.9]])
    (verdict,) = judge(with_witnesses(vlm, Witnesses(counts=True)), grey(), GOALS[:1]).verdicts
    assert verdict.state == "unsure"
