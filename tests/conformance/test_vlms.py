"""What `Vlm` and the optional protocols promise, of every vision-language model there is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from clvr_core.models.device_sharing import Turns, with_device_lock
from clvr_core.protocols import Concurrent, Decision, Interruptible, Movable, Picture, Reply, Vlm
from clvr_core.stickers.scene import Scene, Thing
from clvr_core.vlm.decisions import decide
from clvr_core.vlm.replies import ask
from tests.conformance import OPTIONAL
from tests.conformance.vlms import GOALS, QUESTIONS, VLMS, Case
from tests.stickers.eyes import picture_of

CLOSE = 1e-4
"""How far a probability may be off if questions are asked beside others: what float32 rounds off."""


class Cancelled(Exception):
    pass


@dataclass(frozen=True)
class Anything:
    """A reply of any form."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=VLMS)
def case(request, tmp_path_factory) -> Iterator[Case]:
    make = VLMS[request.param]
    with make(*[tmp_path_factory.mktemp("model")] * len(inspect.signature(make).parameters)) as made:
        yield made


def picture(color: str = "red") -> Picture:
    return picture_of(Scene((Thing("cat", color, "large", 0),)))


def yes(case: Case, *questions, images=None) -> list[float | None]:
    return [each.yes for each in case.vlm.decide([picture()] if images is None else images, questions)]


def test_it_is_a_vlm_whose_name_holds_no_address(case):
    assert isinstance(case.vlm, Vlm)
    assert case.vlm.name and "://" not in case.vlm.name and not case.vlm.name.startswith(("/", "~"))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_question_has_one_decision(case, count):
    decisions = case.vlm.decide([picture()], QUESTIONS[:count])
    assert len(decisions) == count and all(isinstance(each, Decision) for each in decisions)
    assert all(each.yes is not None and 0 <= each.yes <= 1 and each.tokens >= 0 for each in decisions)
    assert sum(each.tokens for each in decisions) > 0 or not count


def test_the_same_question_has_the_same_answer_wherever_it_stands(case):
    there, turned = yes(case, *QUESTIONS), yes(case, *QUESTIONS[::-1])
    assert there == pytest.approx(turned[::-1], abs=CLOSE)
    assert there[:1] == pytest.approx(yes(case, QUESTIONS[0]), abs=CLOSE)


def test_a_reply_is_text_and_says_what_it_cost_and_whether_it_is_whole(case):
    reply, again = (case.vlm.chat(GOALS, case.schema) for _ in range(2))
    assert isinstance(reply, Reply) and reply.tokens > 0 and isinstance(reply.finished, bool)
    assert reply == again
    assert not reply.finished or "goals" in json.loads(reply.text)


def test_asking_leaves_the_pictures_as_they_were(case):
    shown = picture()
    case.vlm.decide([shown], QUESTIONS[:1])
    assert np.array_equal(shown, picture())


def test_a_failure_is_an_error_and_never_a_verdict(case, monkeypatch):
    whole = yes(case, *QUESTIONS)
    with monkeypatch.context() as patch:
        case.breaks(patch)
        decided = decide(case.vlm, [picture("blue")], QUESTIONS)
        answer = ask(case.vlm, GOALS, case.schema, Anything)
    assert [each.yes for each in decided.decisions] == [None] * 3 and decided.calls == 2
    assert all(case.vlm.name in each.evidence for each in decided.decisions)
    assert answer.value is None and case.vlm.name in answer.failure and answer.calls == 2
    assert yes(case, *QUESTIONS) == pytest.approx(whole, abs=CLOSE), "it works again once nothing is broken"


def test_what_its_check_raises_ends_it_and_the_next_call_is_whole(case):
    vlm = case.vlm
    if not isinstance(vlm, Interruptible):
        pytest.skip("it cannot be interrupted")
    whole, before, calls = yes(case, *QUESTIONS), vlm.check, []

    def check() -> None:
        calls.append(1)
        raise Cancelled

    vlm.check = check
    try:
        for asked in (lambda: vlm.decide([picture("blue")], QUESTIONS), lambda: vlm.chat(GOALS, case.schema)):
            with pytest.raises(Cancelled):
                asked()
    finally:
        vlm.check = before
    assert len(calls) >= 2 and yes(case, *QUESTIONS) == pytest.approx(whole, abs=CLOSE)


def test_having_moved_it_answers_the_same(case):
    if not isinstance(case.vlm, Movable):
        pytest.skip("it cannot move")
    before = yes(case, *QUESTIONS)
    case.vlm.move("cpu")
    assert yes(case, *QUESTIONS) == pytest.approx(before, abs=CLOSE)


def test_several_threads_get_the_answers_that_each_gets_alone(case):
    """At the same time if it is Concurrent, else one after the other; what is cached of one prompt is not another's."""
    assert not isinstance(case.vlm, Concurrent) or case.vlm.parallel >= 1
    pictures = [picture(color) for color in ("red", "blue", "green")]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda shown: yes(case, *QUESTIONS, images=[shown]), pictures))
    for shown, answers in zip(pictures, found):
        assert answers == pytest.approx(yes(case, *QUESTIONS, images=[shown]), abs=CLOSE)


def test_behind_a_device_lock_it_has_the_same_protocols_but_answers_one_caller_at_a_time(case):
    wrapped = with_device_lock(case.vlm, Turns(), "controller")
    for protocol in OPTIONAL - {Concurrent}:
        assert isinstance(wrapped, protocol) == isinstance(case.vlm, protocol), protocol.__name__
    assert isinstance(wrapped, Vlm) and not isinstance(wrapped, Concurrent)
