"""The rule by which the judge and the witnesses make one verdict, and what happens to a witness that fails."""

import itertools
import threading

import numpy as np
import pytest

from clvr_core.brief import Goal
from clvr_core.records import from_json, to_json
from clvr_core.trajectory import Finding, Verdict
from clvr_core.witness import MAX_BOXES, MAX_WORDS, Witness, Witnesses, agree
from clvr_core.witness.reliability import Reliability

PICTURE = np.zeros((8, 8, 3), np.uint8)
GOALS = (Goal("g1", "a cat"), Goal("g2", 'a sign that says "OPEN"', "text"))


def says(side, witness="text", words=""):
    return Finding(witness, side, 0.9, words)


@pytest.mark.parametrize(
    ("judged", "said", "state"),
    [
        ("met", "yes", "met"),
        ("met", "no", "unsure"),
        ("unmet", "no", "unmet"),
        ("unmet", "yes", "unsure"),
        ("unsure", "yes", "met"),
        ("unsure", "no", "unsure"),
        ("error", "yes", "error"),
        ("error", "no", "error"),
        ("pending", "no", "pending"),
    ],
)
def test_one_witness(judged, said, state):
    assert agree(Verdict("g1", judged, "", 0.9), [says(said)]).state == state


def test_a_witness_never_fails_a_goal_that_the_judge_does_not():
    for judged, count in itertools.product(("met", "unsure", "error", "pending"), range(1, 4)):
        for said in itertools.product(("yes", "no"), repeat=count):
            assert agree(Verdict("g1", judged), [says(side) for side in said]).state != "unmet"


def test_the_order_of_the_witnesses_says_nothing():
    for judged in ("met", "unmet", "unsure", "error"):
        for said in itertools.product(("yes", "no"), repeat=3):
            states = {
                agree(Verdict("g1", judged), [says(s) for s in order]).state for order in itertools.permutations(said)
            }
            assert len(states) == 1


def test_one_that_disagrees_among_several_leaves_it_open():
    assert agree(Verdict("g1", "met"), [says("yes"), says("no", "objects")]).state == "unsure"
    assert agree(Verdict("g1", "unmet"), [says("yes"), says("no", "objects")]).state == "unsure"


def measured(side, reliability, witness="text"):
    return Finding(witness, side, 0.9, reliability=reliability)


@pytest.mark.parametrize(
    ("judged", "side", "reliability", "state"),
    [
        ("met", "no", 0.95, "unsure"),
        ("met", "no", 0.61, "unsure"),
        ("met", "no", 0.59, "met"),
        ("unmet", "yes", 0.3, "unmet"),
        ("unsure", "yes", 0.85, "met"),
        ("unsure", "yes", 0.7, "unsure"),
        ("unsure", "yes", 0.3, "unsure"),
    ],
)
def test_what_was_measured_of_a_witness_decides_how_far_it_is_heard(judged, side, reliability, state):
    verdict = agree(Verdict("g1", judged, "", 0.6), [measured(side, reliability)])
    assert verdict.state == state and verdict.witnesses == (measured(side, reliability),)
    assert ("not counted: right in" in verdict.evidence) == (reliability < 0.6)


def test_one_that_is_not_counted_does_not_silence_the_others():
    said = [measured("yes", 0.2), measured("no", 0.9, "objects")]
    assert agree(Verdict("g1", "met"), said).state == "unsure"
    assert agree(Verdict("g1", "unmet"), said).state == "unmet"


def test_a_count_without_a_witness_beside_it_never_fails_a_goal():
    for judged in ("met", "unsure", "error", "pending"):
        assert agree(Verdict("g1", judged), [says("no", "count")]).state != "unmet"
    assert agree(Verdict("g1", "error"), [says("no", "count"), says("no", "objects")]).state == "error"


def test_a_witness_is_heard_with_what_was_measured_of_it():
    known = {"fixed": Reliability(yes_right=19, yes_wrong=0, no_right=1, no_wrong=1)}
    heard = Witnesses([Fixed({"g1": says("yes"), "g2": says("no")})], reliability=known).look(PICTURE, GOALS)
    assert heard.said["g1"][0].reliability == 20 / 21
    assert heard.said["g2"][0].reliability is None, "two cases tell nothing"


def test_cancel_ends_a_look_at_once_and_unchanged():
    class Cancelled(BaseException):
        pass

    hanging = Hanging()

    def check():
        raise Cancelled

    try:
        with pytest.raises(Cancelled):
            Witnesses([hanging], check=check).look(PICTURE, GOALS)
    finally:
        hanging.free.set()


def test_cancel_inside_a_witness_is_no_failure_of_it():
    class Cancelled(BaseException):
        pass

    class Interrupted(Fixed):
        def look(self, picture, goals):
            raise Cancelled

    with pytest.raises(Cancelled):
        Witnesses([Interrupted({})]).look(PICTURE, GOALS)


def test_without_a_word_the_verdict_is_the_judges_own():
    verdict = Verdict("g1", "met", "sees a cat", 0.9)
    assert agree(verdict, ()) is verdict


def test_both_stories_are_told():
    verdict = agree(Verdict("g2", "met", "", 0.97), [says("no", words='reads "OPNE"')])
    assert verdict.evidence == 'the judge: met (0.97); text: reads "OPNE"'
    assert verdict.confidence is None and verdict.witnesses == (says("no", words='reads "OPNE"'),)
    assert agree(Verdict("g2", "met", "", 0.97), [says("yes")]).confidence == 0.97


def test_the_record_keeps_what_a_witness_said():
    verdict = agree(Verdict("g2", "met"), [Finding("text", "no", 0.8, "reads OPNE", ((0.1, 0.2, 0.3, 0.4),))])
    assert from_json(Verdict, to_json(verdict)) == verdict
    assert "witnesses" not in to_json(Verdict("g1", "met"))


class Fixed:
    name = "fixed"

    def __init__(self, said):
        self.said = said

    def look(self, picture, goals):
        return self.said


class Failing:
    name = "failing"

    def look(self, picture, goals):
        raise RuntimeError("no such\nlayer " + "x" * 1000)


class Hanging:
    name = "hanging"

    def __init__(self):
        self.asked, self.free = 0, threading.Event()

    def look(self, picture, goals):
        self.asked += 1
        self.free.wait(30)
        return {}


def test_each_goal_hears_of_each_witness():
    both = Witnesses([Fixed({"g1": says("yes")}), Fixed({"g1": says("no", "objects"), "nowhere": says("no")})])
    heard = both.look(PICTURE, GOALS)
    assert dict(heard.said) == {"g1": (says("yes"), says("no", "objects"))} and not heard.warnings
    assert both and not Witnesses() and isinstance(Fixed({}), Witness)


def test_a_failing_witness_says_nothing_and_the_others_are_heard():
    heard = Witnesses([Failing(), Fixed({"g2": says("yes")})]).look(PICTURE, GOALS)
    assert set(heard.said) == {"g2"}
    (warning,) = heard.warnings
    assert warning.startswith("the witness failing failed: RuntimeError: no such layer") and len(warning) < 400


def test_a_witness_that_hangs_is_left_behind():
    hanging = Hanging()
    witnesses = Witnesses([hanging, Fixed({"g2": says("yes")})], seconds=0.05)
    try:
        first, second = witnesses.look(PICTURE, GOALS), witnesses.look(PICTURE, GOALS)
    finally:
        hanging.free.set()
    assert set(first.said) == set(second.said) == {"g2"}
    assert "is not asked again" in first.warnings[0] and not second.warnings and hanging.asked == 1


def test_a_thousand_boxes_and_a_long_story_are_cut():
    many = Finding("text", "no", 1.0, "word\n" * 1000, ((0.0, 0.0, 1.0, 1.0),) * 1000)
    (said,) = Witnesses([Fixed({"g1": many})]).look(PICTURE, GOALS).said["g1"]
    assert len(said.boxes) == MAX_BOXES and len(said.words) <= MAX_WORDS and "\n" not in said.words
