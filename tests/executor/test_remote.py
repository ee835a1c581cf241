"""An image model behind a server: what is asked, what is believed, what is tried again."""

from __future__ import annotations

import base64
import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from clvr_core.errors import Away, BadInput
from clvr_core.executor.remote import ImageServer, RemoteExecutor
from clvr_core.protocols import DrawRequest, SomeDrawn
from tests.executor.images import DIALECTS, Asked, dialect, drawing, picture_answer, serving_images
from tests.fakes import FakeExecutor, grey
from tests.run.script import edit, generate, play, scripted
from tests.servers import Said
from tests.waiting import HUNG

SMALL = {"width": 64, "height": 96}


def noisy(seed: int, width: int = 64, height: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def remote(url: str, **settings) -> RemoteExecutor:
    return RemoteExecutor(ImageServer(url, **({"retries": 0, "timeout": 10, "wait": 0.0} | settings)))


def test_a_generation_is_asked_for_as_the_api_has_it():
    with serving_images(lambda asked: picture_answer(noisy(1))) as server:
        executor = remote(server.url, model="klein", steps=4)
        (drawn,) = executor.draw([DrawRequest("a red circle \xe9", 2**40 + 7, **SMALL)])
    (asked,) = server.asked
    assert asked.path == "/v1/images/generations" and np.array_equal(drawn.picture, noisy(1))
    assert asked.fields == {
        "prompt": "a red circle \xe9",
        "model": "klein",
        "n": 1,
        "size": "64x96",
        "seed": 7,
        "num_inference_steps": 4,
        "guidance_scale": 1.0,
        "response_format": "b64_json",
        "output_format": "png",
    }
    assert drawn.nfe == executor.nfe(DrawRequest("x", 1)) == 4 and executor.name == "klein"


def test_an_edit_sends_its_references_in_order_bit_for_bit():
    with serving_images(drawing(FakeExecutor())) as server:
        remote(server.url, guidance=4.0).draw(
            [DrawRequest('add a "cat"\nnow \xe9', 3, (noisy(1), noisy(2, 32, 32)), **SMALL)]
        )
    (asked,) = server.asked
    assert asked.path == "/v1/images/edits" and asked.fields["prompt"] == 'add a "cat"\nnow \xe9'
    assert [
        np.array_equal(one, other) for one, other in zip(asked.pictures, (noisy(1), noisy(2, 32, 32)), strict=True)
    ] == [True, True]
    assert (asked.fields["size"], asked.fields["seed"], asked.fields["guidance_scale"]) == ("64x96", "3", "4.0")


def test_fields_and_headers_of_ones_own_are_sent_and_go_to_all_addresses(monkeypatch):
    monkeypatch.setenv("TEAM", "blue team")
    extra = {"negative_prompt": "blur", "guidance_scale": 2.5, "lora": {"name": "ink"}, "turbo": True}
    requests = [DrawRequest("a", 1, **SMALL), DrawRequest("a", 1, (noisy(1),), **SMALL)]
    answer = lambda asked: picture_answer(noisy(1))  # noqa: E731
    with serving_images(lambda asked: Said(status=503)) as one, serving_images(answer) as other:
        executor = remote(one.url, urls=(other.url,), extra=extra, headers={"X-Team": "TEAM"})
        for request in requests:
            executor.draw([request])
    assert len(one.asked) == 1 and [asked.path for asked in other.asked] == [
        "/v1/images/generations",
        "/v1/images/edits",
    ]
    words = {"negative_prompt": "blur", "guidance_scale": "2.5", "lora": '{"name": "ink"}', "turbo": "true"}
    assert extra.items() <= other.asked[0].fields.items() and words.items() <= other.asked[1].fields.items()
    assert all(asked.headers["X-Team"] == "blue team" for asked in other.asked)


def test_candidates_are_asked_for_side_by_side_and_kept_in_their_order():
    """The first three meet at the server, and the first of all is answered last."""
    inside, most, answered, lock = [], [], [], threading.Lock()
    together, others = threading.Barrier(3), threading.Event()

    def answer(asked: Asked) -> Said:
        seed = asked.fields["seed"]
        with lock:
            inside.append(seed)
            most.append(len(inside))
        if seed < 3:
            together.wait(HUNG)
        if seed == 0:
            assert others.wait(HUNG)
        with lock:
            inside.remove(seed)
            answered.append(seed)
            if len(answered) == 5:
                others.set()
        return picture_answer(grey(seed, 64, 96))

    with serving_images(answer) as server:
        requests = [DrawRequest("a", seed, **SMALL) for seed in range(6)]
        drawn = remote(server.url, parallel=3, timeout=HUNG).draw(requests)
    assert [int(each.picture[0, 0, 0]) for each in drawn] == list(range(6)) and max(most) == 3 and answered[-1] == 0


def test_a_mask_is_kept_to_bit_for_bit():
    mask = np.zeros((96, 64), np.uint8)
    mask[:10] = 255
    with serving_images(lambda asked: picture_answer(grey(9, 64, 96))) as server:
        found = remote(server.url).draw([DrawRequest("a", 1, (noisy(1),), mask=mask, strength=0.5, **SMALL)])[0].picture
    assert (found[:8] == 9).all() and np.array_equal(found[10:], noisy(1)[10:])
    (asked,) = server.asked
    assert np.array_equal(asked.files["mask_image"], mask), "white where it may change, as diffusers and vLLM-Omni"
    assert np.array_equal(asked.files["mask"][..., 3], 255 - mask), "transparent where it may change, as OpenAI"
    assert asked.fields["strength"] == "0.5"


MASK = np.full((96, 64), 255, np.uint8)
EDIT = DrawRequest("add a cat", 2, (noisy(1), noisy(2)), mask=MASK, strength=0.5, **SMALL)


@pytest.mark.parametrize(
    ("name", "refusals", "warnings"),
    [
        ("vllm-omni", (0, 0), ((), ())),
        ("sglang", (0, 0), ((), ())),
        (
            "gpt-image",
            (3, 4),
            (
                "klein takes no seed, num_inference_steps, guidance_scale; it draws with its own",
                "klein takes no seed, num_inference_steps, guidance_scale, strength; it draws with its own",
            ),
        ),
        (
            "dall-e",
            (2, 3),
            (
                "klein takes no seed, num_inference_steps, guidance_scale; it draws with its own",
                "klein takes no seed, num_inference_steps, guidance_scale, strength; it draws with its own",
            ),
        ),
    ],
)
def test_what_a_server_refuses_is_left_out_from_then_on(name, refusals, warnings):
    requests = [DrawRequest("a", 1, **SMALL), EDIT]
    with serving_images(dialect(name, FakeExecutor(lambda request: noisy(7)))) as server:
        executor = remote(server.url, model="klein")
        for request, refused, warning in zip(requests, refusals, warnings):
            before = len(server.asked)
            first, second = (executor.draw([request])[0] for _ in range(2))
            assert np.array_equal(first.picture, noisy(7)), "SGLang makes a JPEG of it unless a PNG is asked for"
            assert first.warnings == second.warnings == ((warning,) if warning else ())
            assert len(server.asked) - before == refused + 2, "and it is asked without at once the second time"
            sent = server.asked[-1].fields.keys() | server.asked[-1].files.keys()
            known = DIALECTS[name][bool(request.references)]
            assert sent <= known if refused else sent >= known
            assert sent >= known & {"mask"}
        assert len(server.asked[-1].pictures) == 2


@pytest.mark.parametrize(("most", "shown"), [(1, 3), (2, 3), (3, 3)])
def test_how_many_references_a_server_takes_is_learned_from_its_refusal(most, shown):
    request = DrawRequest("a", 1, tuple(map(noisy, range(shown))), **SMALL)
    with serving_images(dialect("vllm-omni", FakeExecutor(), most)) as server:
        executor = remote(server.url)
        executor.draw([DrawRequest("a", 1, (noisy(1),), **SMALL)])
        executor.draw([request])
        executor.draw([request])
    assert [len(asked.pictures) for asked in server.asked] == [1, *range(3, most, -1), most, most]
    assert executor.references == (None if most == shown else most)
    assert np.array_equal(server.asked[-1].pictures[0], noisy(0)), "the one that is edited is the last to go"


def test_a_server_that_takes_neither_the_fields_nor_the_references_is_found_out():
    with serving_images(dialect("gpt-image", FakeExecutor(), most=1)) as server:
        executor = remote(server.url)
        for _ in range(2):
            executor.draw([EDIT])
    assert executor.references == 1 and len(server.asked) == 6 + 5 + 1


def test_references_that_are_known_are_not_tried():
    with serving_images(dialect("vllm-omni", FakeExecutor(), most=1)) as server:
        remote(server.url, references=1).draw([EDIT])
    assert [len(asked.pictures) for asked in server.asked] == [1]
    with pytest.raises(BadInput, match="is 0; it must be at least 1"):
        remote("http://127.0.0.1/v1", references=0)


def test_candidates_that_are_refused_together_learn_once():
    with serving_images(dialect("vllm-omni", FakeExecutor(), most=1)) as server:
        executor = remote(server.url, parallel=4)
        executor.draw([DrawRequest("a", 0, (noisy(1),), **SMALL)])
        executor.draw([DrawRequest("a", seed, (noisy(1), noisy(2)), **SMALL) for seed in range(4)])
    assert len(server.asked) <= 1 + 4 + 4, "four refusals at most, and a picture for each"


def test_a_refusal_of_the_words_is_told_and_blames_no_field():
    """As OpenAI's moderation does."""

    def answer(asked: Asked) -> Said:
        return Said(b"", 400) if asked.fields["prompt"] == "no" else picture_answer(noisy(1))

    with serving_images(answer) as server:
        executor = remote(server.url)
        for refusals in (4, 1):
            with pytest.raises(BadInput, match="answered 400"):
                executor.draw([DrawRequest("no", 1, **SMALL)])
            assert len(server.asked) == refusals
            server.asked.clear()
            assert executor.draw([DrawRequest("yes", 1, **SMALL)])[0].warnings == ()
            assert server.asked[-1].fields.keys() >= {"seed", "output_format"}
            server.asked.clear()


def test_the_run_says_which_canvases_and_settings_the_server_did_not_take():
    replies = [generate(), edit("add a cat", 0), edit("add a moon", 1, 0)]
    with serving_images(dialect("gpt-image", FakeExecutor(), most=1)) as server:
        run = play(scripted(replies, {0: "muu", 1: "mmu", 2: "mmm"}), remote(server.url))
    assert run.outcome.met and [step.action.references for step in run.steps] == [(), (0,), (1, 0)]
    told = "image model takes no seed, num_inference_steps, guidance_scale; it draws with its own"
    assert run.warnings == (
        f"step 0: {told}",
        f"step 1: {told}",
        "step 2: the executor edits from 1 of 2 pictures; left out: canvas 0",
        f"step 2: {told}",
    )


def test_the_key_is_sent_and_told_to_nobody(monkeypatch):
    monkeypatch.setenv("IMAGES_KEY", "sk-secret")
    said = Said(b'{"error": "the key sk-secret is not known"}', 401)
    with serving_images(lambda asked: said) as server, pytest.raises(Away, match="answered 401") as refused:
        remote(server.url, key_variable="IMAGES_KEY").draw([DrawRequest("a", 1, **SMALL)])
    assert server.asked[0].headers["Authorization"] == "Bearer sk-secret" and "sk-secret" not in str(refused.value)
    monkeypatch.delenv("IMAGES_KEY")
    with pytest.raises(BadInput, match="IMAGES_KEY is to hold the server's key and is not set"):
        remote(server.url, key_variable="IMAGES_KEY")


def test_a_busy_server_is_asked_again(monkeypatch):
    monkeypatch.setattr("clvr_core.http_json.client._sleep", lambda seconds, check, tell: None)
    answers = iter([Said(b"", 503), Said(b"", 429), picture_answer(noisy(1))])
    with serving_images(lambda asked: next(answers)) as server:
        found = remote(server.url, retries=2).draw([DrawRequest("a", 1, (noisy(2),), **SMALL)])
    assert np.array_equal(found[0].picture, noisy(1)) and len(server.asked) == 3
    assert all(len(asked.pictures) == 1 for asked in server.asked)


def body(text: str) -> Said:
    return Said({"data": [{"b64_json": text}]})


def bomb(side: int) -> str:
    """A small PNG whose header speaks of a large picture."""
    data = io.BytesIO()
    Image.new("L", (64, 96)).save(data, "PNG")
    png = bytearray(data.getvalue())
    png[16:24] = struct.pack(">II", side, side)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return base64.b64encode(png).decode()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (picture_answer(grey(1, 32, 32)), "it drew 32 x 32 where 64 x 96 was asked for"),
        (Said(b"{}"), r"its answer holds no data\[0\].b64_json"),
        (Said(b'{"data": [{"url": "http://example.com/x.png"}]}'), r"its answer holds no data\[0\].b64_json"),
        (Said(b'{"data": "x"}'), r"its answer holds no data\[0\].b64_json"),
        (Said(b"[1]"), "answered with list where an object belongs"),
        (Said(b"no json"), "answered with something that is not JSON"),
        (body("!!!"), "its answer is not a picture"),
        (body(base64.b64encode(b"GIF89a" + b"\0" * 64).decode()), "its answer is not a picture"),
        (
            body(base64.b64encode(picture_answer(noisy(1)).body["data"][0]["b64_json"][:400].encode()).decode()),
            "not a picture",
        ),
        (Said(b'{"data": [{"b64_json": "' + b"A" * 200_000 + b'"}]}'), "answered with more than"),
        (Said(b"", 400), "answered 400"),
    ],
)
def test_what_is_no_picture_of_the_size_is_not_taken_for_one(answer, says):
    with serving_images(lambda asked: answer) as server, pytest.raises(BadInput, match=says) as refused:
        remote(server.url, model="klein").draw([DrawRequest("a", 1, **SMALL)])
    assert str(refused.value).startswith("klein at 127.0.0.1:") and str(refused.value).endswith(
        "mend that, then go on with the run"
    )


def test_what_was_drawn_beside_a_picture_that_was_refused_is_kept():
    def answer(asked: Asked) -> Said:
        return Said(b"no json") if asked.fields["seed"] == 1 else picture_answer(grey(asked.fields["seed"], 64, 96))

    with serving_images(answer) as server, pytest.raises(SomeDrawn, match="not JSON") as some:
        remote(server.url).draw([DrawRequest("a", seed, **SMALL) for seed in range(3)])
    assert [each and int(each.picture[0, 0, 0]) for each in some.value.drawings] == [0, None, 2]


@pytest.mark.parametrize("together", [1, 3])
def test_where_none_was_drawn_it_is_refused(together):
    with serving_images(lambda asked: Said(b"no json")) as server, pytest.raises(BadInput, match="not JSON") as none:
        remote(server.url).draw([DrawRequest("a", seed, **SMALL) for seed in range(together)])
    assert not isinstance(none.value, SomeDrawn)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Said(b"", 500), "answered 500"),
        (Said(b"", 503), "answered 503"),
        (Said(b"x" * 10, headers={"Content-Length": "999"}), "cut its answer short"),
    ],
)
def test_a_server_that_is_away_is_no_refusal_of_the_picture(answer, says):
    with serving_images(lambda asked: answer) as server, pytest.raises(Away, match=says) as away:
        remote(server.url, model="klein").draw([DrawRequest("a", 1, **SMALL)])
    assert str(away.value).startswith("klein at 127.0.0.1:") and str(away.value).endswith(
        "mend that, then go on with the run"
    )


@pytest.mark.parametrize(
    ("side", "says"), [(9000, "it drew 9000 x 9000 where"), (30000, "its answer is not a picture")]
)
def test_a_picture_that_would_unpack_to_gigabytes_is_not_unpacked(side, says, monkeypatch):
    said = body(bomb(side))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was unpacked"))
    with serving_images(lambda asked: said) as server, pytest.raises(BadInput, match=says):
        remote(server.url).draw([DrawRequest("a", 1, **SMALL)])


def test_a_server_that_hangs_is_given_up_and_a_check_ends_the_wait():
    hang = threading.Event()
    with serving_images(lambda asked: hang.wait(5) or Said(b"{}")) as server:
        with pytest.raises(Away, match=r"gave no whole answer within 0.2 s"):
            remote(server.url, timeout=0.2).draw([DrawRequest("a", 1, **SMALL)])
        executor = remote(server.url)
        executor.check = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            executor.draw([DrawRequest("a", 1, **SMALL)])
        hang.set()


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(Away, match=r"127.0.0.1:9 refuses the connection; is the server running\?"):
        remote("http://127.0.0.1:9/v1").draw([DrawRequest("a", 1, **SMALL)])


class TestWhatIsReadOfALongPrompt:
    """A server that cuts prompts for its text encoder draws the same from the beginning alone."""

    PROMPT = " ".join(f"word{number}" for number in range(150))

    @staticmethod
    def reading(words: int):
        def drawn(request: DrawRequest) -> np.ndarray:
            return noisy(zlib.crc32(" ".join(request.prompt.split()[:words]).encode()) + request.seed)

        return drawing(FakeExecutor(drawn))

    def drawn(self, answer, *requests: DrawRequest) -> tuple[list[tuple[str, ...]], list[Asked]]:
        with serving_images(answer) as server:
            executor = remote(server.url, model="klein")
            warnings = [executor.draw([request])[0].warnings for request in requests]
        return warnings, server.asked

    def test_a_cut_is_a_warning_of_every_long_prompt_and_found_once(self):
        long, short = DrawRequest(self.PROMPT, 1, **SMALL), DrawRequest("a red circle", 2, **SMALL)
        warnings, asked = self.drawn(self.reading(70), short, long, short, DrawRequest(self.PROMPT, 3, **SMALL))
        assert [len(each) for each in warnings] == [0, 1, 0, 1] and len(asked) == 5
        assert (
            "klein draws the same picture from the first 80 words of this prompt of 150 as from all" in warnings[1][0]
        )
        assert asked[2].fields["prompt"] == " ".join(self.PROMPT.split()[:80]) and asked[2].fields["seed"] == 1

    def test_one_that_reads_on_is_asked_once_and_nothing_is_said(self):
        long = DrawRequest(self.PROMPT, 1, **SMALL)
        warnings, asked = self.drawn(self.reading(140), long, long)
        assert warnings == [(), ()] and len(asked) == 3

    def test_pictures_that_do_not_repeat_are_no_cut(self):
        seeds = iter(range(9))
        answer = drawing(FakeExecutor(lambda request: noisy(next(seeds))))
        assert self.drawn(answer, DrawRequest(self.PROMPT, 1, **SMALL))[0] == [()]

    def test_an_edit_is_not_drawn_twice(self):
        edit = DrawRequest(self.PROMPT, 1, (noisy(1),), **SMALL)
        warnings, asked = self.drawn(self.reading(70), edit)
        assert warnings == [()] and len(asked) == 1
