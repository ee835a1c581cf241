"""A model behind a server: what is sent, what is read, and what is done without where the server lacks it."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from clvr_core.brief import Brief, Budget
from clvr_core.errors import Away, BadInput, JudgeFailure
from clvr_core.http_json import Limits
from clvr_core.protocols import Message, Question
from clvr_core.run.run_folder import BEST, JOURNAL, RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from clvr_core.trajectory import timeless
from clvr_core.vlm.server import Endpoint, ServerVlm
from clvr_core.vlm.sight import check_sight
from tests.fakes import FakeExecutor, FakeVlm, grey
from tests.vlm.servers import Asked, Said, completion, pictures_in, said_in, serving
from tests.waiting import until

LIMITS = Limits(timeout=5, retries=1, backoff=0, wait=0)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
RED, BLUE = (np.full((40, 20, 3), value, np.uint8) for value in ((220, 30, 30), (30, 60, 220)))
ASK = [Message("system", "be brief"), Message("user", "what is this?", (RED,))]


def model(server, **settings) -> ServerVlm:
    return ServerVlm(Endpoint(server.url, **{"model": "eye", "limits": LIMITS, "parallel": 1} | settings))


def is_red(asked: Asked) -> bool:
    return pictures_in(asked.body)[0][..., 0].mean() > 128


def seeing(asked: Asked) -> Said:
    red = is_red(asked)
    return completion(
        "Yes" if red else "No", logprobs=[("Yes", 0.9 if red else 0.1), (" no", 0.06 if red else 0.8), ("Maybe", 0.04)]
    )


class TestChat:
    def test_sends_the_conversation_the_schema_and_the_pictures_as_they_are(self):
        with serving(lambda _: completion('{"a": 1}', tokens=12)) as server:
            reply = model(server).chat(ASK, SCHEMA)
            body = server.asked[0].body
        assert (reply.text, reply.tokens, reply.finished) == ('{"a": 1}', 12, True)
        assert server.asked[0].path == "/v1/chat/completions" and body["model"] == "eye" and body["temperature"] == 0
        assert (
            body["response_format"]["type"] == "json_schema"
            and body["response_format"]["json_schema"]["schema"] == SCHEMA
        )
        assert body["messages"][0] == {"role": "system", "content": "be brief"}
        assert [part["type"] for part in body["messages"][1]["content"]] == ["text", "image_url"]
        assert np.array_equal(pictures_in(body)[0], RED)

    def test_pictures_are_scaled_down_to_the_side_and_never_up(self):
        with serving(lambda _: completion("{}")) as server:
            model(server, image_side=20).chat([Message("user", "look", (RED, np.zeros((10, 16, 3), np.uint8)))], SCHEMA)
            sizes = [picture.shape[:2] for picture in pictures_in(server.asked[0].body)]
        assert sizes == [(20, 10), (10, 16)]

    def test_a_schema_that_is_refused_goes_into_the_words_from_then_on(self):
        def answer(asked: Asked) -> Said:
            return (
                Said({"error": "unknown field"}, status=400)
                if "response_format" in asked.body
                else completion('{"a": 1}')
            )

        with serving(answer) as server:
            vlm = model(server)
            assert vlm.chat(ASK, SCHEMA).text == vlm.chat(ASK, SCHEMA).text == '{"a": 1}'
            with_format = ["response_format" in asked.body for asked in server.asked]
        assert with_format == [True, False, False]
        assert json.dumps(SCHEMA) in said_in(server.asked[2].body)

    def test_a_request_that_is_refused_either_way_is_a_failure_and_the_schema_is_tried_again(self):
        with serving(lambda _: Said({"error": "context too long"}, status=400)) as server:
            vlm = model(server)
            for _ in range(2):
                with pytest.raises(JudgeFailure, match="context too long"):
                    vlm.chat(ASK, SCHEMA)
        formats = ["response_format" in asked.body for asked in server.asked]
        assert formats[0] and formats[-2:] == [True, False] and sum(formats) == 2

    def test_a_reply_at_its_limit_is_told_as_cut(self):
        with serving(lambda _: completion('{"a"', finish="length")) as server:
            assert not model(server).chat(ASK, SCHEMA).finished

    @pytest.mark.parametrize(
        "answer",
        [
            {},
            {"choices": []},
            {"choices": [3]},
            {"choices": None},
            {"choices": [{"finish_reason": "content_filter", "message": {}}]},
        ],
        ids=["nothing", "no choice", "a number", "null", "filtered"],
    )
    def test_an_answer_without_a_reply_is_a_failure(self, answer):
        with serving(lambda _: Said(answer)) as server, pytest.raises(JudgeFailure):
            model(server).chat(ASK, SCHEMA)

    @pytest.mark.parametrize("content", [None, 3, [], {}])
    def test_a_reply_that_is_no_text_is_empty(self, content):
        said = completion("")
        said.body["choices"][0]["message"]["content"] = content
        with serving(lambda _: said) as server:
            assert model(server).chat(ASK, SCHEMA).text == ""

    def test_a_reply_in_parts_is_put_together(self):
        said = completion("")
        said.body["choices"][0]["message"]["content"] = [
            {"type": "text", "text": '{"a":'},
            {"type": "text", "text": " 1}"},
        ]
        with serving(lambda _: said) as server:
            assert model(server).chat(ASK, SCHEMA).text == '{"a": 1}'

    def test_a_stop_is_told_as_itself_to_everybody_who_waits(self):
        """Many runs share one model; a failure of the judge would be written down as what happened."""

        class Stopped(Exception):
            pass

        stop = threading.Event()

        def check():
            if stop.is_set():
                raise Stopped

        with serving(lambda _: Said(hang=60)) as server, ThreadPoolExecutor(3) as pool:
            vlm = ServerVlm(Endpoint(server.url, "eye", limits=Limits(timeout=30, retries=0, wait=0)), check)
            asked = [pool.submit(vlm.chat, ASK, SCHEMA) for _ in range(2)] + [
                pool.submit(vlm.decide, (RED,), [Question("a")])
            ]
            until(lambda: len(server.asked) == 3, "three questions at the server")
            stop.set()
            assert [type(each.exception(30)) for each in asked] == [Stopped] * 3

    @pytest.mark.parametrize("tokens", [None, "many", -5, 1e9, True, 2**70])
    def test_a_usage_that_cannot_be_is_not_counted(self, tokens):
        with serving(lambda _: completion("{}", tokens=tokens)) as server:
            assert model(server).chat(ASK, SCHEMA).tokens == 0


class TestDecide:
    QUESTIONS = (Question("Is it red?"), Question("Is it round?"), Question("Is it small?"))

    def test_reads_the_probability_of_yes_against_no(self):
        with serving(seeing) as server:
            vlm = model(server)
            (red,), (blue,) = vlm.decide((RED,), self.QUESTIONS[:1]), vlm.decide((BLUE,), self.QUESTIONS[:1])
            body = server.asked[0].body
        assert red.yes == pytest.approx(0.9) and blue.yes == pytest.approx(0.2) and red.tokens == 10
        assert (body["max_tokens"], body["logprobs"], body["temperature"]) == (
            1,
            True,
            0,
        ) and "response_format" not in body

    def test_answers_stay_with_their_questions_when_asked_side_by_side(self):
        def answer(asked: Asked) -> Said:
            shares = {"red": 0.7, "round": 0.5, "small": 0.2}
            share = next(share for word, share in shares.items() if word in said_in(asked.body))
            return completion("", logprobs=[("yes", share), ("NO", 1 - share)])

        with serving(answer) as server:
            decisions = model(server, parallel=3).decide((RED,), self.QUESTIONS)
        assert [decision.yes for decision in decisions] == pytest.approx([0.7, 0.5, 0.2])

    def test_pictures_come_before_the_question_so_that_servers_keep_them(self):
        with serving(seeing) as server:
            model(server).decide((RED, BLUE), self.QUESTIONS[:2])
            first, second = (asked.body["messages"] for asked in server.asked)
        assert first[:1] == second[:1] and first[1]["content"][:2] == second[1]["content"][:2]
        assert [part["type"] for part in first[1]["content"]] == ["image_url", "image_url", "text"]

    @pytest.mark.parametrize(
        "without",
        [
            completion("Yes"),
            Said({"error": "logprobs are not supported"}, status=400),
        ],
        ids=["ignored", "refused"],
    )
    def test_without_probabilities_all_questions_are_answered_in_one_reply_from_then_on(self, without):
        words = {
            "answers": [
                {"question": 3, "answer": "unsure"},
                {"question": 1, "answer": "Yes"},
                {"question": 2, "answer": "no"},
            ]
        }

        def answer(asked: Asked) -> Said:
            return without if "logprobs" in asked.body else completion(json.dumps(words), tokens=30)

        with serving(answer) as server:
            vlm = model(server)
            for _ in range(2):
                assert [decision.yes for decision in vlm.decide((RED,), self.QUESTIONS)] == [0.9, 0.1, 0.5]
            asked_for = ["logprobs" in asked.body for asked in server.asked]
        assert all(asked_for[:3]) and asked_for[-2:] == [False, False] and sum(not each for each in asked_for) == 2
        assert np.array_equal(pictures_in(server.asked[-1].body)[0], RED)

    @pytest.mark.parametrize("odd", [[("<think>", 0.99), ("Yes", 0.01)], []], ids=["thinking", "no token"])
    def test_a_model_that_begins_with_another_word_is_asked_for_words_and_next_time_for_probabilities_again(self, odd):
        """One odd answer would else change the verdicts of all later questions, until the run is gone on with."""
        said = completion("", logprobs=odd or [("", 1.0)])
        if not odd:
            said.body["choices"][0]["logprobs"]["content"] = []

        def answer(asked: Asked) -> Said:
            if "logprobs" not in asked.body:
                return completion('{"answers": [{"question": 1, "answer": "unsure"}]}')
            return said if is_red(asked) else seeing(asked)

        with serving(answer) as server:
            vlm = model(server)
            (red,), (blue,) = vlm.decide((RED,), self.QUESTIONS[:1]), vlm.decide((BLUE,), self.QUESTIONS[:1])
        assert red.yes == 0.5 and blue.yes == pytest.approx(0.2)

    def test_a_refusal_for_another_fault_does_not_change_the_way_of_asking(self):
        with serving(lambda asked: Said(status=400) if is_red(asked) else seeing(asked)) as server:
            vlm = model(server)
            with pytest.raises(JudgeFailure):
                vlm.decide((RED,), self.QUESTIONS[:1])
            assert vlm.decide((BLUE,), self.QUESTIONS[:1])[0].yes == pytest.approx(0.2)

    def test_one_question_without_a_probability_does_not_change_the_way_of_asking(self):
        def answer(asked: Asked) -> Said:
            if "logprobs" not in asked.body:
                return completion('{"answers": [{"question": 1, "answer": "no"}]}')
            return completion(
                "", logprobs=[("Round", 0.9)] if "round" in said_in(asked.body) else [("Yes", 0.8), ("No", 0.2)]
            )

        with serving(answer) as server:
            vlm = model(server)
            assert [decision.yes for decision in vlm.decide((RED,), self.QUESTIONS)] == pytest.approx([0.8, 0.1, 0.8])
            vlm.decide((RED,), self.QUESTIONS[:1])
        assert "logprobs" in server.asked[-1].body

    def test_words_that_answer_a_question_twice_or_not_at_all_are_no_answer(self):
        answers = [(1, "yes"), (1, "no"), (9, "yes"), (3, "perhaps")]
        words = {"answers": [{"question": question, "answer": answer} for question, answer in answers]}
        with serving(lambda asked: completion(json.dumps(words))) as server:
            decisions = model(server).decide((RED,), self.QUESTIONS)
        assert [decision.yes for decision in decisions] == [None] * 3 and "not answered" in decisions[0].evidence

    @pytest.mark.parametrize(
        "words",
        [completion("I cannot say."), completion("{}"), Said({"choices": []}), Said(status=404)],
        ids=["prose", "no answers", "no choice", "failure"],
    )
    def test_words_that_fail_leave_the_probabilities_of_the_other_questions(self, words):
        def answer(asked: Asked) -> Said:
            if "logprobs" not in asked.body:
                return words
            return completion("", logprobs=[("The", 0.9)]) if "round" in said_in(asked.body) else seeing(asked)

        with serving(answer) as server:
            first, second, third = model(server).decide((RED,), self.QUESTIONS)
        assert first.yes == third.yes == pytest.approx(0.9) and second.yes is None and second.evidence

    def test_one_answer_of_another_form_leaves_the_others_theirs(self):
        odd = [None, "yes", {"question": 2, "answer": None}, {"question": "2", "answer": "yes"}, {"question": [2]}]
        answers = [{"question": 1, "answer": "yes"}, *odd, {"question": 3, "answer": "No."}]
        with serving(lambda _: completion(json.dumps({"answers": answers}))) as server:
            decisions = model(server).decide((RED,), self.QUESTIONS)
        assert [decision.yes for decision in decisions] == [0.9, None, 0.1]

    def test_the_format_that_is_shown_is_no_answer(self):
        def answer(asked: Asked) -> Said:
            text = said_in(asked.body)
            if "logprobs" in asked.body:
                return completion("")
            return completion(text[text.index("{") : text.index("}]}") + 3])

        with serving(answer) as server:
            (decision,) = model(server).decide((RED,), self.QUESTIONS[:1])
        assert decision.yes is None

    @pytest.mark.parametrize(
        "listed",
        [
            [("Yes", math.nan), ("No", -3.0)],
            [("Yes", -0.7), ("No", math.nan)],
            [("Yes", -0.1), ("No", -3.0), ("The", math.nan)],
            [("Yes", math.inf), ("No", -3.0)],
            [("Yes", 7.0), ("No", -3.0)],
            [("Yes", "-0.1"), ("No", "-3.0")],
            [("Yes", True), ("No", -3.0)],
            [("Yes", None), ("No", -3.0)],
            [("Yes", -0.1), ("No", None)],
            [("Yes", [-0.1]), ("No", -3.0)],
            [(5, -0.1)],
            [("Yes", -0.1), ("yes", -0.1), ("No", -0.1)],
            [("Yes", -0.3), ("The", -0.3)],
        ],
        ids=repr,
    )
    def test_what_is_no_distribution_is_no_answer_and_is_not_asked_for_in_words(self, listed):
        said = completion("", logprobs=[("x", 1.0)])
        top = [{"token": token, "logprob": logprob} for token, logprob in listed]
        said.body["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = top
        with serving(lambda _: said) as server:
            (decision,) = model(server).decide((RED,), self.QUESTIONS[:1])
            assert len(server.asked) == 1
        assert decision.yes is None and "distribution" in decision.evidence

    @pytest.mark.parametrize(
        ("listed", "yes"),
        [
            ([("Yes", math.log(0.9)), ("No", -math.inf)], 0.9),
            ([("Yes", math.log(0.9)), ("No", -9999.0), ("The", None)], 0.9),
            ([("\u0120Yes", 1e-6), ("No", -(10**400))], 1.0),
            ([("Yes.", math.log(0.3)), ("yes", math.log(0.4)), ("No", math.log(0.3))], 0.7),
        ],
        ids=["infinity", "null", "rounding", "spellings"],
    )
    def test_the_odd_numbers_of_real_servers_are_read(self, listed, yes):
        said = completion("", logprobs=[("x", 1.0)])
        top = [{"token": token, "logprob": logprob} for token, logprob in listed]
        said.body["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = top
        with serving(lambda _: said) as server:
            (decision,) = model(server).decide((RED,), self.QUESTIONS[:1])
        assert decision.yes == pytest.approx(yes)

    def test_a_failure_at_one_question_leaves_the_others_theirs(self):
        def answer(asked: Asked) -> Said:
            return Said(status=404) if "round" in said_in(asked.body) else seeing(asked)

        with serving(answer) as server:
            first, second, third = model(server).decide((RED,), self.QUESTIONS)
        assert first.yes == third.yes == pytest.approx(0.9) and second.yes is None and "404" in second.evidence

    def test_a_cancel_that_is_told_once_ends_all_the_questions(self):
        class Cancelled(BaseException):
            pass

        asked, after = [], []

        def check():
            if asked:
                after.append(1)
            elif len(server.asked) >= 3:
                asked.append(1)
                raise Cancelled

        with serving(lambda _: Said(hang=60)) as server:
            vlm = ServerVlm(
                Endpoint(server.url, "eye", parallel=3, limits=Limits(timeout=30, retries=0, wait=0)), check
            )
            with pytest.raises(Cancelled):
                vlm.decide((), [Question(text) for text in "abc"])
        assert asked and not after, "the others would else go on until the server answers"
        with serving(lambda _: completion("{}")) as server:
            vlm._client._places[0].url = server.url
            assert vlm.chat([Message("user", "again")], {}).text == "{}", "the next request is not touched by it"

    def test_a_question_about_texts_needs_no_picture(self):
        with serving(lambda asked: completion("", logprobs=[("Yes", 1.0)])) as server:
            assert model(server).decide((), self.QUESTIONS[:1])[0].yes == 1.0
            assert isinstance(server.asked[0].body["messages"][1]["content"], str)


class TestEndpoint:
    def test_without_a_name_the_first_model_listed_is_taken(self):
        with serving(lambda _: Said({"data": [3, {"id": ""}, {"id": "qwen3-vl"}, {"id": "other"}]})) as server:
            vlm = model(server, model="")
            assert vlm.model == vlm.name == "qwen3-vl"
            assert server.asked[0].path == "/v1/models"

    @pytest.mark.parametrize("listed", [{"data": []}, {}, {"data": "x"}])
    def test_a_server_that_lists_no_model_is_refused(self, listed):
        with serving(lambda _: Said(listed)) as server, pytest.raises(BadInput, match="load a model there or name one"):
            model(server, model="")

    def test_the_key_comes_from_the_environment_and_stands_in_no_message(self, monkeypatch):
        monkeypatch.setenv("EYE_KEY", "sk-99")
        with serving(lambda asked: Said({"error": f"who is {asked.headers['Authorization']}?"}, status=401)) as server:
            vlm = model(server, key_variable="EYE_KEY")
            with pytest.raises(Away) as failed:
                vlm.chat(ASK, SCHEMA)
            assert server.asked[0].headers["Authorization"] == "Bearer sk-99"
        assert "sk-99" not in str(failed.value) and "sk-99" not in vlm.name and "sk-99" not in repr(vlm.endpoint)

    def test_a_key_that_is_not_set_is_named(self, monkeypatch):
        monkeypatch.delenv("EYE_KEY", raising=False)
        with pytest.raises(BadInput, match="EYE_KEY"):
            ServerVlm(Endpoint("http://127.0.0.1:1/v1", "eye", "EYE_KEY"))

    @pytest.mark.parametrize("change", [{"url": "nowhere"}, {"image_side": 0}, {"max_tokens": 0}, {"parallel": 0}])
    def test_settings_out_of_range_are_refused(self, change):
        with pytest.raises(BadInput):
            Endpoint(**{"url": "http://127.0.0.1:1/v1"} | change)


class TestSight:
    def test_a_model_that_sees_passes(self):
        with serving(seeing) as server:
            check_sight(model(server))

    @pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
    def test_a_blind_model_is_refused_by_name(self, share):
        said = completion("", logprobs=[("Yes", share), ("No", 1 - share)])
        refused = pytest.raises(BadInput, match=r"^eye does not see: .* choose a vision-language model")
        with serving(lambda _: said) as server, refused:
            check_sight(model(server))

    def test_no_answer_is_no_proof_of_blindness(self):
        with serving(lambda _: Said(status=400)) as server, pytest.raises(JudgeFailure, match="could not be asked"):
            check_sight(model(server))

    def test_a_model_that_mixes_the_colors_up_is_refused(self):
        with pytest.raises(BadInput, match="does not see"):
            check_sight(FakeVlm(decisions=[[0.1], [0.9]]))


@pytest.mark.parametrize(
    ("served", "name"),
    [
        ("/models/eyes/model.gguf", "model.gguf"),
        ("/models/eyes/", "eyes"),
        (r"C:\models\eyes", "eyes"),
        ("Qwen/Qwen3-VL-8B", "Qwen/Qwen3-VL-8B"),
        ("qwen3-vl:8b", "qwen3-vl:8b"),
    ],
)
def test_a_model_that_a_server_names_by_its_path_is_named_by_its_file(served, name):
    with serving(lambda asked: Said({"data": [{"id": served}]}) if asked.body is None else seeing(asked)) as server:
        vlm = ServerVlm(Endpoint(server.url))
        vlm.decide((RED,), ASK)
        assert vlm.name == name and server.asked[-1].body["model"] == served


GONE = {
    "hangs": (Said(hang=60), "gave no whole answer within"),
    "cuts": (Said(b"x" * 10, headers={"Content-Length": "999"}), "cut its answer short"),
    "error": (Said({"error": "out of memory"}, status=500), "answered 500: .*out of memory"),
    "busy": (Said(status=503), "answered 503"),
    "who are you": (Said(status=401), "answered 401"),
}


@pytest.mark.parametrize("name", GONE)
def test_a_server_that_is_away_stops_the_run_where_it_can_be_gone_on_with(name, tmp_path):
    """After the goals it is away: nothing of the step is written, and the run goes on as if nothing had been."""
    said, says = GONE[name]
    limits = Limits(timeout=0.2 if name == "hangs" else 5, retries=0, backoff=0, wait=0)
    brief = Brief("a red cup", "clvr", width=8, height=8, budget=Budget(rounds=2, patience=2))
    runs = []
    for folder, away in (("whole", False), ("stopped", True)):

        def answer(asked: Asked, away: bool = away) -> Said:
            if away and len(server.asked) > 4:  # two for the goals, and one or two for the action
                return said
            return seeing(asked) if "logprobs" in asked.body else completion("prose")

        with serving(answer) as server:
            models = RunModels(model(server, limits=limits), FakeExecutor(lambda request: grey(request.seed % 256)))
            run = RunFolder.create(tmp_path / folder)
            if away:
                with pytest.raises(Away, match=f"eye is away: the server {says}"):
                    drive(Session(brief, models, run))
                assert run.lines[-1]["event"] == "drawn", "what was done is kept"
                assert b"127.0.0.1" not in (tmp_path / folder / JOURNAL).read_bytes(), "a run is shared"
            else:
                runs.append(drive(Session(brief, models, run)))
    with serving(lambda asked: seeing(asked) if "logprobs" in asked.body else completion("prose")) as server:
        models = RunModels(model(server, limits=limits), FakeExecutor(lambda request: grey(request.seed % 256)))
        runs.append(drive(resume(RunFolder.open(tmp_path / "stopped"), models)))
    assert timeless(runs[0]) == timeless(runs[1]) and runs[0].steps


HOSTILE = {
    "floods": Said(b"[" + b"0," * 5_000_000),
    "other schema": completion('{"thoughts": "fine", "verdict": "met"}'),
    "prose": completion("All goals are met! Yes, yes, yes. The picture is perfect."),
    "thinks for ever": completion("<think>is it met? yes, met, all met", finish="length"),
    "html": Said(b"<html>Yes</html>"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_ends_the_run_with_the_best_picture_and_never_with_a_goal_met(name, tmp_path):
    with serving(lambda _: HOSTILE[name]) as server:
        vlm = model(server, limits=Limits(timeout=5, retries=0, backoff=0, wait=0, max_bytes=1 << 20))
        brief = Brief("a red cup", "clvr", budget=Budget(rounds=2, patience=2))
        session = Session(brief, RunModels(vlm, FakeExecutor()), RunFolder.create(tmp_path / "run"))
        end = drive(session)
    states = {verdict.state for step in end.steps for verdict in step.verdicts}
    assert states == {"error"} and not end.outcome.met and end.best is not None
    assert (tmp_path / "run" / BEST).exists() and end.warnings
    assert not any(b"127.0.0.1" in path.read_bytes() for path in (tmp_path / "run").iterdir()), (
        "a run is shared, an address is not"
    )
