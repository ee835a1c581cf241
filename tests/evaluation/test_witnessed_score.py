"""A judge with witnesses scores a benchmark: what they disagree on does not hold."""

from __future__ import annotations

import pytest

from clvr_core.evaluation.benchmarks.base import HOLDS, Atom, Item
from clvr_core.evaluation.judging import UNSURE, judge_picture
from clvr_core.trajectory import Finding
from clvr_core.witness import Witnesses
from clvr_core.witness.judge import with_witnesses
from tests.fakes import FakeVlm, grey

ITEM = Item(
    "i1",
    "three apples",
    "count",
    (Atom("a1", "three apples", "Are there three apples?"), Atom("a2", "a warm style", "?")),
)


class Detector:
    name = "objects (by hand)"

    def __init__(self, says):
        self.says, self.asked = says, []

    def look(self, picture, goals):
        self.asked += [(goal.id, goal.text) for goal in goals]
        return {"a1": Finding("objects", self.says, 0.9, "finds some")}


@pytest.mark.parametrize(
    ("yes", "says", "answer"),
    [(0.9, "yes", 0.9), (0.9, "no", UNSURE), (0.1, "no", 0.1), (0.1, "yes", 0.1), (None, "yes", None)],
)
def test_an_atom_holds_only_where_judge_and_witness_agree(yes, says, answer):
    detector = Detector(says)
    judged = judge_picture(with_witnesses(FakeVlm([], [[yes, 0.8], [yes, 0.8]]), Witnesses([detector])), ITEM, [grey()])
    assert judged.answers == {"a1": answer, "a2": 0.8} and UNSURE < HOLDS
    assert detector.asked == [("a1", "three apples"), ("a2", "a warm style")]
    assert ("objects: finds some" in judged.reasons.get("a1", "")) == (yes is not None)
