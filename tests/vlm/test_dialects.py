"""What one server takes and another refuses, and where each puts what the model said."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from clvr_core.controller.prompts import GOALS_SCHEMA, action_schema, fused_schema
from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.protocols import Message, Question
from clvr_core.synthesis.proxy import SCHEMA as PROXY
from clvr_core.vlm.dialect import NO_THOUGHT
from clvr_core.vlm.replies import ask
from clvr_core.vlm.server import Endpoint, ServerVlm
from tests.vlm.servers import Asked, Said, completion, pictures_in, said_in, serving
from tests.vlm.test_server import ASK, BLUE, RED, SCHEMA, model, seeing

PARTS = {"type": "object", "properties": {"part": {"type": "integer"}}, "required": ["part"]}


@dataclass(frozen=True)
class Part:
    part: int


def refusing(test, words=lambda _: completion('{"a": 1}')):
    """A server that refuses what the test says of the body, and sees."""

    def answer(asked: Asked) -> Said:
        if asked.body is not None and test(asked.body):
            return Said({"error": {"message": "not supported"}}, status=400)
        return seeing(asked) if "logprobs" in asked.body else words(asked)

    return answer


def roles(body) -> list[str]:
    return [message["role"] for message in body["messages"]]


class TestDialects:
    """What one server takes and another refuses: found once, by asking otherwise."""

    QUESTION = (Question("Is it red?"),)

    @pytest.mark.parametrize("first", ["chat", "decision"])
    @pytest.mark.parametrize(
        ("refuses", "sent"),
        [
            (lambda body: "max_tokens" in body, {"max_completion_tokens": 1536, "temperature": 0}),
            (lambda body: "temperature" in body, {"max_tokens": 1536}),
            (lambda body: "max_tokens" in body or "temperature" in body, {"max_completion_tokens": 1536}),
            (lambda body: "system" in roles(body), {"max_tokens": 1536, "temperature": 0}),
        ],
        ids=["max_tokens", "temperature", "both", "system"],
    )
    def test_a_request_is_asked_otherwise_until_it_is_taken_and_so_from_then_on(self, refuses, sent, first):
        words = lambda _: completion('{"answers": [{"question": 1, "answer": "yes"}], "a": 1}')  # noqa: E731
        with serving(refusing(refuses, words=words)) as server:
            vlm = model(server)
            if first == "chat":
                vlm.chat(ASK, SCHEMA)
            else:
                assert vlm.decide((RED,), self.QUESTION)[0].yes == pytest.approx(0.9)
            before = len(server.asked)
            vlm.chat(ASK, SCHEMA)
            vlm.decide((RED,), self.QUESTION)
            later = [asked.body for asked in server.asked[before:]]
        assert before < 12 and len(later) == 2 and "response_format" in later[0], "the schema was not at fault"
        names = {"max_tokens", "max_completion_tokens", "temperature"}
        assert {name: later[0][name] for name in names & later[0].keys()} == sent
        said = said_in(later[0])
        assert said.index("be brief") < said.index("what is this?") and "logprobs" in later[1]

    @pytest.mark.parametrize(
        ("refuses", "name", "value"),
        [
            (lambda body: body.get("top_logprobs", 0) > 5, "top_logprobs", 5),
            (lambda body: body.get("max_tokens", 16) < 16, "max_tokens", 16),
        ],
    )
    def test_probabilities_are_asked_for_in_smaller_numbers(self, refuses, name, value):
        with serving(refusing(refuses)) as server:
            vlm = model(server)
            for _ in range(2):
                assert vlm.decide((RED,), self.QUESTION)[0].yes == pytest.approx(0.9)
            assert server.asked[-1].body[name] == value and len(server.asked) <= 4

    @pytest.mark.parametrize("more", NO_THOUGHT, ids=str)
    def test_a_model_that_thinks_first_is_asked_not_to(self, more):
        def answer(asked: Asked) -> Said:
            if not more.items() <= asked.body.items():
                return completion("", logprobs=[("<think>", 0.99), ("Yes", 0.005)])
            return seeing(asked)

        with serving(answer) as server:
            vlm = model(server)
            assert vlm.decide((RED,), self.QUESTION)[0].yes == pytest.approx(0.9)
            before = len(server.asked)
            assert vlm.decide((BLUE,), self.QUESTION)[0].yes == pytest.approx(0.2) and len(server.asked) == before + 1

    def test_two_messages_of_one_role_are_never_sent_in_a_row(self):
        with serving(refusing(lambda body: "response_format" in body)) as server:
            vlm = model(server)
            ask(vlm, ASK, SCHEMA, Part)
            vlm.decide((RED,), self.QUESTION)
            for asked in server.asked:
                assert all(one != other for one, other in zip(roles(asked.body), roles(asked.body)[1:]))

    def test_a_schema_that_is_taken_and_not_held_to_is_said_in_words_from_the_second_try_on(self):
        """transformers serve answers 200 and says in its log that it ignores the field."""

        def answer(asked: Asked) -> Said:
            return completion('{"part": 1}' if json.dumps(PARTS) in said_in(asked.body) else "a thing")

        with serving(answer) as server:
            vlm = model(server)
            assert ask(vlm, ASK, PARTS, Part).value == Part(1)
            assert ask(vlm, ASK, PARTS, Part).calls == 1, "kept for the session"
            first, second, third = (asked.body for asked in server.asked)
        assert roles(second) == ["system", "user", "assistant", "user"] and "response_format" in third
        last = second["messages"][-1]["content"]
        assert last.startswith("That reply cannot be used") and last.endswith(json.dumps(PARTS))
        assert [part["type"] for part in third["messages"][-1]["content"]] == ["text", "image_url"]
        assert json.dumps(PARTS) not in said_in(first)

    def test_a_refusal_of_one_schema_is_none_of_another(self):
        refuses = lambda body: "part" in json.dumps(body.get("response_format", ""))  # noqa: E731
        with serving(refusing(refuses)) as server:
            vlm = model(server)
            for schema in (PARTS, SCHEMA, PARTS, SCHEMA):
                vlm.chat(ASK, schema)
            with_format = ["response_format" in asked.body for asked in server.asked]
        assert with_format == [True, False, True, False, True]

    def test_no_schema_has_the_number_that_llama_cpp_cannot_parse(self):
        """2000, of all: llama.cpp#27087."""
        schemas = [GOALS_SCHEMA, action_schema(["EDIT"], ["g1"], [0]), fused_schema(["EDIT"], ["g1"], [0]), PROXY]
        assert not any("2000" in json.dumps(schema) for schema in schemas)

    def test_a_reply_that_loops_in_white_space_is_asked_for_once_without_the_schema(self):
        """vllm#38696: a constrained reply may be white space for ever."""

        def answer(asked: Asked) -> Said:
            looping = completion('{"a":' + " \n\t" * 60, finish="length", tokens=7)
            return looping if "response_format" in asked.body else completion('{"a": 1}', tokens=5)

        with serving(answer) as server:
            reply = model(server).chat(ASK, SCHEMA)
            assert len(server.asked) == 2
        assert (reply.text, reply.tokens, reply.finished) == ('{"a": 1}', 12, True)


class TestSettings:
    def test_fields_and_headers_are_added_and_a_field_of_the_same_name_is_replaced(self, monkeypatch):
        monkeypatch.setenv("TEAM", "the-secret-team")
        echoing = lambda asked: completion(f'{{"a": "{asked.headers["X-Team"]}"}}')  # noqa: E731
        extra = {"temperature": 0.2, "provider": {"require_parameters": True}}
        with serving(echoing) as server:
            reply = model(server, extra=extra, headers={"X-Team": "TEAM"}).chat(ASK, SCHEMA)
            (asked,) = server.asked
        assert extra.items() <= asked.body.items() and asked.headers["X-Team"] == "the-secret-team"
        assert reply.text == '{"a": "***"}', "it is kept out of records as a key is"
        monkeypatch.delenv("TEAM")
        with pytest.raises(BadInput, match="TEAM is to hold"):
            model(server, headers={"X-Team": "TEAM"})

    def test_a_header_that_cannot_be_one_is_refused(self, monkeypatch):
        monkeypatch.setenv("TEAM", "the-secret-team")
        with pytest.raises(BadInput, match="'X: Y' cannot name a header"):
            ServerVlm(Endpoint("http://127.0.0.1:9/v1", "eye", headers={"X: Y": "TEAM"}))

    @pytest.mark.parametrize(
        ("side", "setting", "kind"), [(512, "jpeg", "png"), (514, "jpeg", "jpeg"), (514, "png", "png")]
    )
    def test_large_pictures_are_sent_as_jpeg(self, side, setting, kind):
        picture = np.full((side, 64, 3), (200, 30, 90), np.uint8)
        with serving(lambda _: completion("{}")) as server:
            model(server, picture=setting).chat([Message("user", "look", (picture,))], SCHEMA)
            body = server.asked[0].body
        assert f"data:image/{kind};base64," in json.dumps(body)
        assert np.abs(pictures_in(body)[0].astype(int) - picture).max() <= (2 if kind == "jpeg" else 0)

    @pytest.mark.parametrize(
        ("words", "kind"),
        [("Is the sky #e34234?", "png"), ("Is it in RGB (1, 2, 3)?", "png"), ("Is goal #1 met, in red?", "jpeg")],
    )
    def test_a_picture_whose_exact_colors_are_asked_for_is_sent_as_it_is(self, words, kind):
        picture = np.full((600, 64, 3), (200, 30, 90), np.uint8)
        with serving(lambda _: completion("{}", logprobs=[("Yes", 0.9), ("No", 0.1)])) as server:
            vlm = model(server)
            vlm.decide((picture,), (Question("Is it warm?"), Question(words)))
            vlm.chat([Message("user", words), Message("user", "look", (picture,))], SCHEMA)
        assert len(server.asked) == 3
        assert all(f"data:image/{kind};base64," in json.dumps(asked.body) for asked in server.asked)


class TestWhatTheModelSaid:
    @staticmethod
    def said(finish: str = "stop", **message) -> Said:
        said = completion("", finish)
        said.body["choices"][0]["message"] = {"role": "assistant", "content": None} | message
        return said

    @pytest.mark.parametrize(
        "message",
        [
            {"reasoning_content": '{"a": 1}', "tool_calls": []},
            {"reasoning": '{"a": 1}'},
            {"tool_calls": [{"type": "function", "function": {"name": "reply", "arguments": '{"a": 1}'}}]},
            {"tool_calls": [{"type": "function", "function": {"name": "reply", "arguments": {"a": 1}}}]},
            {"content": '{"a": 1}', "reasoning_content": "hm", "refusal": None},
        ],
    )
    def test_a_reply_is_found_where_servers_put_it(self, message):
        with serving(lambda _: self.said(**message)) as server:
            assert model(server).chat(ASK, SCHEMA).text == '{"a": 1}'

    @pytest.mark.parametrize(
        ("finish", "message", "says"),
        [
            ("stop", {"refusal": "I can't help with that."}, r"the model refused: I can't help with that\."),
            ("stop", {"provider_specific_fields": {"refusal": "I can't."}}, r"the model refused: I can't\."),
            ("length", {"reasoning": "Wait, " * 700}, "thought until its limit, max_tokens = 1536, .* raise that"),
        ],
    )
    def test_why_there_is_none_is_said(self, finish, message, says):
        with serving(lambda _: self.said(finish, **message)) as server, pytest.raises(JudgeFailure, match=says):
            model(server).chat(ASK, SCHEMA)

    def test_a_model_that_is_listed_first_and_cannot_chat_is_passed_over(self):
        listed = [{"id": "text-embedding-nomic-embed-text-v1.5"}, {"id": "bge-reranker"}, {"id": "qwen3-vl-8b"}]
        for names, taken in ((listed, "qwen3-vl-8b"), (listed[:1], "text-embedding-nomic-embed-text-v1.5")):
            with serving(lambda _, names=names: Said({"data": names})) as server:
                assert model(server, model="").model == taken
