"""What `Executor` and the optional protocols promise, of every executor there is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from clvr_core.errors import BadInput
from clvr_core.models.device_sharing import Turns, with_device_lock
from clvr_core.protocols import (
    Concurrent,
    Executor,
    Interruptible,
    Movable,
    Offloadable,
    Picture,
    PromptWindow,
    ReferenceLimit,
)
from tests.conformance import OPTIONAL
from tests.conformance.executors import EXECUTORS, Case
from tests.pixels import close


class Cancelled(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=EXECUTORS)
def case(request) -> Iterator[Case]:
    with EXECUTORS[request.param]() as made:
        yield made


def noisy(case: Case, seed: int) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (case.side, case.side, 3), dtype=np.uint8)


def pictures(case: Case, *requests) -> list[Picture]:
    return [drawing.picture for drawing in case.executor.draw(requests)]


def test_it_is_an_executor_whose_name_holds_no_address(case):
    assert isinstance(case.executor, Executor)
    assert case.executor.name and "://" not in case.executor.name and not case.executor.name.startswith(("/", "~"))


def test_each_request_has_one_drawing_of_its_size(case):
    drawings = case.executor.draw([case.request(1), case.edit(noisy(case, 1)), case.request(2)])
    assert [drawing.picture.shape for drawing in drawings] == [(case.side, case.side, 3)] * 3
    assert all(drawing.picture.dtype == np.uint8 for drawing in drawings)
    assert list(case.executor.draw([])) == []


def test_the_evaluations_are_those_that_were_announced(case):
    calls: list[int] = []
    hook = case.network and case.network.register_forward_hook(lambda *given: calls.append(len(given[-1][0])))
    for request in (case.request(), case.edit(noisy(case, 1)), case.edit(noisy(case, 1), strength=0.5)):
        calls.clear()
        (drawing,) = case.executor.draw([request])
        assert drawing.nfe == case.executor.nfe(request) > 0
        assert not calls or sum(calls) == drawing.nfe
    if hook:
        hook.remove()
        assert calls


def test_request_and_seed_fix_the_picture(case):
    one, again, other = (pictures(case, case.request(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_what_is_drawn_beside_it_changes_a_picture_by_one_of_255_at_most(case):
    requests = [case.request(1), case.edit(noisy(case, 1), seed=2), case.request(3), case.edit(noisy(case, 2), seed=4)]
    for request, found in zip(requests, pictures(case, *requests)):
        assert close(found, pictures(case, request)[0])


def test_drawing_leaves_the_request_as_it_was(case):
    reference = noisy(case, 1)
    case.executor.draw([case.edit(reference, mask=np.full((case.side, case.side), 255, np.uint8))])
    assert np.array_equal(reference, noisy(case, 1))


def test_the_words_and_each_reference_are_read_up_to_the_limit(case):
    if not case.reads:
        pytest.skip("it reads no pixels")
    limit = case.executor.references if isinstance(case.executor, ReferenceLimit) else None
    request = case.edit(*(noisy(case, seed) for seed in range(limit or 2)))
    (base,) = pictures(case, request)
    assert not np.array_equal(base, pictures(case, replace(request, prompt="a large red circle"))[0])
    for place in range(len(request.references)):
        shown = [noisy(case, 9) if place == at else each for at, each in enumerate(request.references)]
        assert not np.array_equal(base, pictures(case, replace(request, references=tuple(shown)))[0])
    if limit is not None:
        one_more = replace(request, references=(*request.references, noisy(case, 9)))
        assert limit >= 1 and np.array_equal(base, pictures(case, one_more)[0])


@pytest.mark.parametrize("strength", [None, 0.5])
def test_outside_the_mask_the_first_reference_stays_bit_for_bit(case, strength):
    mask = np.zeros((case.side, case.side), np.uint8)
    mask[: case.side // 2] = 255
    reference = noisy(case, 1)
    (picture,) = pictures(case, case.edit(reference, mask=mask, strength=strength))
    assert np.array_equal(picture[case.side // 2 :], reference[case.side // 2 :])
    assert not np.array_equal(picture[: case.side // 2], reference[: case.side // 2])


def test_a_mask_of_another_size_is_bad_input(case):
    with pytest.raises(BadInput, match="one size"):
        case.executor.draw([case.edit(noisy(case, 1), mask=np.full((case.side, case.side * 2), 255, np.uint8))])


def test_a_latent_that_it_gives_it_takes_back(case):
    (drawing,) = case.executor.draw([case.request()])
    edit = case.edit(drawing.picture)
    if drawing.latent is None:
        assert np.array_equal(pictures(case, edit)[0], pictures(case, replace(edit, latents=(None,)))[0])
        return
    assert drawing.latent.dtype == np.float32 and drawing.latent.ndim == 3 and np.isfinite(drawing.latent).all()
    given = replace(edit, latents=(drawing.latent,))
    one, again, other = pictures(case, given)[0], pictures(case, given)[0], replace(edit, latents=(drawing.latent + 1,))
    assert np.array_equal(one, again) and not np.array_equal(one, pictures(case, other)[0])


def test_it_reads_a_prompt_to_the_end_of_its_window(case):
    executor = case.executor
    if not isinstance(executor, PromptWindow) or executor.window is None:
        pytest.skip("its window is not known")
    # An executor may count the chat template too, so how many words fit is found by trying.
    window = executor.window - case.spare
    few, many = 1, window
    while few < many:
        middle = (few + many + 1) // 2
        few, many = (middle, many) if executor.tokens("red " * middle + "circle") <= window else (few, middle - 1)
    long = "red " * few
    assert executor.tokens("red") < executor.tokens(f"{long}circle") <= window
    one, other = (pictures(case, case.request(prompt=f"{long}{word}"))[0] for word in ("circle", "square"))
    assert not np.array_equal(one, other)


def test_what_its_check_raises_ends_it_and_the_next_drawing_is_whole(case):
    executor = case.executor
    if not isinstance(executor, Interruptible):
        pytest.skip("it cannot be interrupted")
    (whole,) = pictures(case, case.request())
    before, calls = executor.check, []

    def check() -> None:
        calls.append(1)
        raise Cancelled

    executor.check = check
    try:
        with pytest.raises(Cancelled):
            executor.draw([case.request(), case.request(2)])
    finally:
        executor.check = before
    assert calls and np.array_equal(pictures(case, case.request())[0], whole)


def test_having_left_the_device_it_draws_the_same(case):
    executor = case.executor
    leave = [lambda: executor.move("cpu")] if isinstance(executor, Movable) else []
    leave += [executor.offload] if isinstance(executor, Offloadable) else []
    if not leave:
        pytest.skip("it cannot leave")
    request = case.edit(noisy(case, 1))
    (before,) = pictures(case, request)
    for each in leave:
        each()
        assert np.array_equal(pictures(case, request)[0], before)


def test_several_threads_get_the_pictures_that_each_gets_alone(case):
    """At the same time if it is Concurrent, else one after the other."""
    assert not isinstance(case.executor, Concurrent) or case.executor.parallel >= 1
    requests = [case.request(0), *(case.edit(noisy(case, seed), seed=seed) for seed in range(1, 4))]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda request: pictures(case, request)[0], requests))
    for request, picture in zip(requests, found):
        assert close(picture, pictures(case, request)[0])


def test_behind_a_device_lock_it_has_the_same_protocols_but_draws_for_one_caller_at_a_time(case):
    wrapped = with_device_lock(case.executor, Turns(), "executor")
    for protocol in OPTIONAL - {Concurrent}:
        assert isinstance(wrapped, protocol) == isinstance(case.executor, protocol), protocol.__name__
        # As isinstance looks from Python 3.12 on, without __getattr__.
        members = [name for name in dir(protocol) if not name.startswith("_")] or ["check"]
        assert all(hasattr(type(wrapped), name) for name in members) == isinstance(case.executor, protocol)
    assert isinstance(wrapped, Executor) and not isinstance(wrapped, Concurrent)
