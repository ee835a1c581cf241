"""That a server lets its model see what a run will show: as many pictures, as large, in a prompt as long."""

from __future__ import annotations

import numpy as np
import pytest

from clvr_core.errors import Away, BadInput, JudgeFailure
from clvr_core.http_json import Limits
from clvr_core.protocols import Message, Question
from clvr_core.vlm.server import SIDE_BY_SIDE
from clvr_core.vlm.sight import LONG, MOST, check_sight
from tests.vlm.servers import Asked, Said, completion, pictures_in, said_in, serving
from tests.vlm.test_server import ASK, SCHEMA, model

LEFT, RIGHT = (np.full((40, 30, 3), value, np.uint8) for value in (10, 200))


def seeing(asked: Asked, pictures: list[np.ndarray] | None = None) -> Said:
    """A model that says of what color the first pixel is."""
    pictures = pictures_in(asked.body) if pictures is None else pictures
    if "logprobs" not in asked.body:
        return completion('{"a": 1}')
    yes = 0.5 if not pictures else 0.9 if pictures[0][0, 0, 0] > 128 else 0.1
    return completion("", logprobs=[("Yes", yes), ("No", 1 - yes)])


def taking(most: int):
    """A server that refuses more pictures than that."""

    def answer(asked: Asked) -> Said:
        if len(pictures_in(asked.body)) > most:
            return Said({"error": f"At most {most} image(s) may be provided in one request."}, status=400)
        return seeing(asked)

    return answer


def forgetting(most: int, length: int):
    """A server that drops all pictures, in silence, from a prompt that is longer or has more of them."""

    def answer(asked: Asked) -> Said:
        pictures = pictures_in(asked.body)
        full = len(pictures) > most or len(said_in(asked.body)) > length
        return seeing(asked, [] if full else pictures)

    return answer


def test_a_server_that_takes_all_is_asked_twice_more():
    with serving(seeing) as server:
        vlm = model(server, image_side=600)
        check_sight(vlm)
        last = server.asked[-1].body
    assert len(server.asked) == 4 and vlm.most is None
    assert [picture.shape for picture in pictures_in(last)] == [(600, 600, 3)] * MOST and LONG in said_in(last)


def test_one_that_answers_without_a_picture_only_is_not_away():
    """As llama.cpp without its mmproj."""
    said = Said({"error": {"message": "image input is not supported"}}, status=500)
    limits, why = Limits(retries=0, wait=0), r"eye takes no picture: the server answered 500: .*image input is not"
    with (
        serving(lambda asked: said if pictures_in(asked.body) else seeing(asked)) as server,
        pytest.raises(JudgeFailure, match=why),
    ):
        check_sight(model(server, limits=limits))
    with serving(lambda _: said) as server, pytest.raises(Away, match="eye is away: the server answered 500"):
        check_sight(model(server, limits=limits))


@pytest.mark.parametrize("server_of", [taking, lambda most: forgetting(most, 99_999)], ids=["refusing", "forgetting"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_one_that_takes_fewer_gets_them_side_by_side(server_of, most):
    with serving(server_of(most)) as server:
        vlm = model(server, image_side=100)
        check_sight(vlm)
        assert vlm.most == min(most, 2)
        pictures = (LEFT, RIGHT) if most == 1 else (LEFT, RIGHT, LEFT)
        vlm.chat([ASK[0], Message("user", "compare", pictures)], SCHEMA)
        vlm.decide(pictures, [Question("Is the first one lighter?")])
        bodies = [asked.body for asked in server.asked[-2:]]
        vlm.decide((RIGHT,), [Question("Is it light?")])
        alone = server.asked[-1].body
    for body in bodies:
        (shown,) = pictures_in(body)
        assert SIDE_BY_SIDE in said_in(body) and (shown[0, 0, 0], shown[-1, -1, 0] > 99) == (10, most == 1)
    assert SIDE_BY_SIDE not in said_in(alone) and np.array_equal(pictures_in(alone)[0], RIGHT)


def test_one_whose_context_is_too_small_for_a_run_is_refused_with_what_to_do():
    with serving(forgetting(MOST, 4000)) as server, pytest.raises(BadInput) as refused:
        check_sight(model(server, image_side=100))
    assert "not 4 of 100 pixels in one as long as those of a run" in str(refused.value)
    assert "num_ctx in Ollama" in str(refused.value) and "lower image_side" in str(refused.value)


def test_pictures_of_several_heights_stand_on_white():
    with serving(seeing) as server:
        vlm = model(server)
        vlm.most = 1
        vlm.decide((LEFT[:20], RIGHT), [Question("a")])
        (shown,) = pictures_in(server.asked[0].body)
    assert shown.shape == (40, 30 + 16 + 30, 3) and (shown[20:, :30] == 255).all() and (shown[:, 30:46] == 255).all()
    assert (shown[:20, :30] == 10).all() and (shown[:, 46:] == 200).all()
