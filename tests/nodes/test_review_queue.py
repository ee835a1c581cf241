"""Reviews: when the artist is asked, what a tab gets, which answers are taken."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading

import numpy as np
import pytest
from clvr_pack.nodes.host import review_queue, run_folders
from clvr_pack.nodes.host.review_queue import REVIEWS, Question, answer_from, mask_from, question_data
from clvr_pack.nodes.routes import review as routes
from PIL import Image

from clvr_core.errors import BadInput
from clvr_core.run.run_folder import read_trajectory
from clvr_core.trajectory import Remark
from tests.fakes import goals, step, trajectory
from tests.nodes.graph import Graph, loop, scripted, settings
from tests.nodes.pack import NODES, stubs
from tests.waiting import until

web = stubs["aiohttp.web"]


def png(mask: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(mask).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


@pytest.fixture
def run():
    verdicts = {"g1": "met", "g2": "unmet"}
    return trajectory(step(canvas=0, verdicts=verdicts), goals=goals("one", "two"))


@pytest.fixture
def question(run):
    return Question(run, question_data(run, "run-1", "q", 60, "go on"), until=0)


@pytest.fixture
def tab(host):
    """A tab that is connected, and the routes that it calls."""
    routes.add_routes(host.server)

    def call(method: str, path: str, pattern: str = "", body: object = None, **match: str):
        handler = host.server.routes.handlers[method, pattern or path]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = asyncio.run(handler(web.Request({}, match, data)))
        return answer.status, json.loads(answer.text)

    host.server.sockets["tab"] = object()
    call("POST", "/clvr/present", body={"tab": "tab"})
    return call


def asked(run, seconds: float = 600, otherwise: str = "go on"):
    """A thread that asks, and where its answer will be."""
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(REVIEWS.ask(run, "run-1", seconds, otherwise)), daemon=True)
    thread.start()
    until(lambda: REVIEWS.open or answers, "a question")
    return thread, answers


class TestAsking:
    def test_nobody_is_asked_without_a_tab_or_without_time(self, host, run):
        assert REVIEWS.ask(run, "run-1", 600, "accept") == (Remark(0, "accept"), None)
        assert REVIEWS.ask(run, "run-1", 0, "accept") == (Remark(0), None) and host.server.sent == []

    def test_a_client_that_only_queues_prompts_is_no_tab(self, host, run):
        host.server.sockets["client"] = object()
        assert not REVIEWS.has_tab()

    def test_the_answer_of_a_tab_is_the_remark(self, host, run, tab):
        thread, answers = asked(run)
        (question,) = tab("GET", "/clvr/reviews")[1]
        status, _ = tab(
            "POST",
            "",
            "/clvr/reviews/{id}",
            {"say": "go on", "words": "brighter", "dropped": ["g1"]},
            id=question["id"],
        )
        thread.join(30)
        remark, mask = answers[0]
        assert status == 200 and remark.words == "brighter" and remark.dropped == ("g1",) and mask is None
        assert [event for event, *_ in host.server.sent] == ["clvr.review", "clvr.reviewed"] and not REVIEWS.open

    def test_when_the_time_is_over_the_default_is_the_answer(self, run, tab):
        thread, answers = asked(run, seconds=0.01, otherwise="stop")
        thread.join(30)
        assert answers[0] == (Remark(0, "stop"), None)

    def test_the_seconds_that_are_left_are_told_once_each(self, run, tab, monkeypatch):
        told = []
        monkeypatch.setattr(review_queue, "show_text", told.append)
        thread, _ = asked(run, seconds=0.45, otherwise="stop")
        thread.join(30)
        assert told == ["waiting for your word: 0 s, then stop"]

    def test_when_the_last_tab_is_gone_long_enough_the_default_is_the_answer(self, host, run, tab, monkeypatch):
        monkeypatch.setattr(review_queue, "AWAY", 0.0)
        thread, answers = asked(run, otherwise="accept")
        host.server.sockets.clear()
        thread.join(30)
        assert answers[0] == (Remark(0, "accept"), None)

    def test_cancel_ends_the_wait(self, host, run, tab):
        host.memory.interrupted = True
        with pytest.raises(host.Cancelled):
            REVIEWS.ask(run, "run-1", 600, "go on")
        assert not REVIEWS.open


class TestQuestion:
    def test_a_tab_gets_goals_with_their_states_and_the_names_of_pictures(self, question):
        shown = question.shown
        assert [(goal["id"], goal["state"]) for goal in shown["goals"]] == [("g1", "met"), ("g2", "unmet")]
        assert shown["canvases"] == [{"canvas": 0, "file": "canvas-000.png", "step": 0, "accepted": True}]
        assert shown["subfolder"] == "clvr/run-1" and shown["current"] == 0 and json.dumps(shown)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ({"say": "perhaps"}, "is none of go on, accept, stop"),
            ({"say": "go on", "dropped": ["g9"]}, "names a goal 'g9'"),
            ({"say": "go on", "back_to": 5}, "canvas 5, which no step of the run proposed"),
            ({"say": "go on", "words": 3}, "the answer cannot be read"),
            ([], "the answer cannot be read"),
            ({"say": "go on", "mask": "no base64!"}, "the mask cannot be read"),
        ],
    )
    def test_an_answer_that_does_not_fit_is_refused(self, question, answer, words):
        with pytest.raises(BadInput, match=words):
            answer_from(question, answer)

    def test_a_mask_is_scaled_to_the_canvas_and_is_black_and_white(self):
        painted = np.zeros((8, 8), np.uint8)
        painted[:4] = 200
        mask = mask_from(png(painted), 32, 16)
        assert mask.shape == (16, 32) and set(np.unique(mask)) == {0, 255} and (mask[:6] == 255).all()
        with pytest.raises(BadInput, match="the mask is empty: paint where the picture may change"):
            mask_from(png(np.zeros((8, 8), np.uint8)), 8, 8)


class TestRoutes:
    def test_an_answered_question_is_gone(self, tab, question):
        REVIEWS.open["q"] = question
        assert tab("POST", "", "/clvr/reviews/{id}", {"say": "accept"}, id="q")[0] == 200
        assert tab("GET", "/clvr/reviews")[1] == []
        status, answer = tab("POST", "", "/clvr/reviews/{id}", {"say": "stop"}, id="q")
        assert status == 404 and "was answered already" in answer["error"] and question.answer[0].say == "accept"

    def test_a_bad_answer_leaves_the_question_open(self, tab, question):
        REVIEWS.open["q"] = question
        status, answer = tab("POST", "", "/clvr/reviews/{id}", {"say": "perhaps"}, id="q")
        assert status == 400 and "is none of" in answer["error"] and not question.done.is_set()

    def test_a_tab_can_ask_for_more_time(self, tab, question):
        REVIEWS.open["q"] = question
        status, answer = tab("POST", "", "/clvr/reviews/{id}/stay", {}, id="q")
        assert status == 200 and 0 < answer["seconds"] <= 60 and question.until > 0
        assert tab("POST", "", "/clvr/reviews/{id}/stay", {}, id="other")[0] == 404

    @pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"{" + b" " * (8 << 20) + b"}"])
    def test_what_is_no_small_json_object_is_read_as_an_empty_one(self, tab, body):
        before = set(REVIEWS.tabs)
        assert tab("POST", "/clvr/present", body=body) == (200, {}) and before == REVIEWS.tabs

    def test_tabs_that_are_gone_are_forgotten(self, host, tab):
        host.server.sockets = {"next": object()}
        tab("POST", "/clvr/present", body={"tab": "next"})
        assert REVIEWS.tabs == {"next"}


class TestNodes:
    @pytest.fixture
    def reviewed(self, executor):
        prompt = loop(scripted(), executor)
        inputs = {"trajectory": ["verify", 0], "seconds": 600, "otherwise": "accept"}
        prompt["review"] = {"class_type": "CLVR_Review", "inputs": inputs}
        prompt["end"]["inputs"]["trajectory"] = ["review", 0]
        return prompt

    def test_the_review_node_ends_the_run_where_the_artist_accepts(self, reviewed):
        image, run, _ = Graph(reviewed).run("end")
        assert [remark.say for remark in run.trajectory.remarks] == ["accept"] and len(run.trajectory.steps) == 1
        assert run.trajectory.outcome.reason == "the artist accepted the picture" and image.shape == (1, 64, 64, 3)

    def test_what_was_said_is_not_asked_again(self, reviewed, monkeypatch):
        Graph(reviewed).run("end")
        monkeypatch.setattr(REVIEWS, "ask", lambda *_: pytest.fail("asked again"))
        assert len(Graph(reviewed).run("end")[1].trajectory.remarks) == 1

    def test_what_was_said_last_is_taken_back_and_what_was_drawn_before_it_stays(self, reviewed, monkeypatch):
        words = iter([Remark(0, words="a cross"), Remark(0, words="a barn"), Remark(0, say="stop")])
        painted = iter([np.full((64, 64), 255, np.uint8), None, None])
        monkeypatch.setattr(REVIEWS, "ask", lambda *_: (next(words), next(painted)))
        said = Graph(reviewed).run("end")[1]
        name = said.folder.name
        for kept in (["a cross", "a barn"], ["a cross"]):
            name = run_folders.take_back(name)
            assert [remark.words for remark in read_trajectory(run_folders.runs_folder() / name).remarks] == kept
        monkeypatch.setattr(REVIEWS, "ask", lambda *_: (Remark(0, say="stop"), None))
        again = Graph(reviewed).run("end")[1]
        assert again.folder.name == name and [remark.words for remark in again.trajectory.remarks] == ["a cross", ""]
        assert again.trajectory.steps[:2] == said.trajectory.steps[:2]

    def test_a_run_in_which_nothing_was_said_has_nothing_to_take_back(self, executor):
        run = Graph(loop(scripted(), executor)).run("end")[1]
        with pytest.raises(BadInput, match="you have said nothing in the run"):
            run_folders.take_back(run.folder.name)

    def test_a_verify_before_a_review_leaves_the_question_to_it(self, reviewed):
        graph = Graph(reviewed)
        assert graph.run("verify")[0].trajectory.remarks == () and graph.run("review")[0].trajectory.remarks

    def test_the_one_node_asks_after_each_step(self, executor, monkeypatch):
        seen = []
        monkeypatch.setattr(REVIEWS, "ask", lambda run, folder, *_: (seen.append(folder), (Remark(0), None))[1])
        inputs = {"vlm": scripted(), "executor": executor, "review": 5, **settings()}
        run = Graph({"1": {"class_type": "CLVR_Generate", "inputs": inputs}}).run("1")[1]
        assert set(seen) == {run.folder.name} and len(run.trajectory.remarks) == len(seen) > 0
        assert NODES["CLVR_Review"].define_schema().inputs[1].options["default"] == 120
