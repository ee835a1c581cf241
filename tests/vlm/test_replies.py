"""From the text of a reply to a typed value: what is accepted, what is mended, what is asked again, what is given up."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from clvr_core.errors import JudgeFailure
from clvr_core.protocols import Message, Reply
from clvr_core.text import clip, one_line
from clvr_core.vlm.replies import MAX_REPLY, Answer, Malformed, ask, parse
from tests.fakes import FakeVlm, grey
from tests.waiting import counting_calls


@dataclass(frozen=True)
class Note:
    title: str
    places: tuple[int, ...] = ()
    weight: float = 1.0
    body: str = ""


SCHEMA = {"type": "object"}
REQUEST = (Message("system", "be brief"), Message("user", "write a note", images=(grey(),), data={"task": "note"}))


def read(text: str, finished: bool = True) -> Note:
    return parse(text, finished, Note)


def asked(*replies: object, check: object = None) -> tuple[Answer[Note], FakeVlm]:
    vlm = FakeVlm(replies)
    return ask(vlm, REQUEST, SCHEMA, Note, check), vlm


class TestFinding:
    @pytest.mark.parametrize(
        "text",
        [
            '{"title": "a"}',
            '  \n{"title": "a"}\n',
            '```json\n{"title": "a"}\n```',
            'Sure, here it is:\n```\n{"title": "a"}\n```\nAnything else?',
            'The note {in braces} for {0} and {name}: {"title": "a"}',
            'A set {"x", "y"} first, then {"title": "a"} and a stray } at the end',
            '[{"title": "a"}]',
        ],
    )
    def test_the_object_is_found_among_fences_and_prose(self, text):
        assert read(text) == Note("a")

    def test_braces_and_quotes_inside_strings_do_not_end_the_object(self):
        text = 'note: {"title": "a } b { c ] \\" d", "places": [1]} and a stray }'
        assert read(text) == Note('a } b { c ] " d', (1,))

    @pytest.mark.parametrize(
        "text",
        [
            'The format is {"title": "x"}.\nMy answer: {"title": "a"}',
            'The format is ```json\n{"title": "x"}\n``` and I write:\n```json\n{"title": "a"}\n```',
            '{"title": "x"} <think>No.</think> {"title": "a"}',
            '{"name": "no title"} {"title": 3} {"title": "a"}',
            '{"title": "x",} is the format, {"title": "a",} the answer.',
            'The format is {"title": ...}. {"title": "a"}',
            '{"title": "a"} {"title": "a"}',
            '{"title": "a"}. It has no {"colour": "red"} and no {"x", "y"}.',
        ],
    )
    def test_of_several_objects_the_last_valid_one_counts(self, text):
        assert read(text) == Note("a")

    @pytest.mark.parametrize("between", ["", " ", "\n\n", ",", "\n```\n```json\n"])
    def test_objects_side_by_side_that_differ_contradict_each_other(self, between):
        with pytest.raises(Malformed, match="contradict each other"):
            read(f'{{"title": "a"}}{between}{{"title": "b"}}')

    @pytest.mark.parametrize(
        "answer",
        [
            '{"title": "a", "title": "b"}',
            '{"title": 3}',
            '{"title": "a" "b"}',
            '{"title": "a re',
            '{"ti',
            "{'title': 'a'}",
            '{title: "a"}',
        ],
    )
    def test_an_example_is_not_taken_for_an_answer_that_cannot_be_read(self, answer):
        with pytest.raises(Malformed):
            read(f'The format is {{"title": "x"}}. My answer: {answer}')

    @pytest.mark.parametrize(
        "text",
        [
            'The format is {"title": "x"}',
            'The format is {"title": "x"}. My ans',
            '{"title": "x"} is the format. My answer: {',
            '{"title": "x"} <think>But no,',
        ],
    )
    def test_an_example_is_not_taken_for_an_answer_that_was_cut_off(self, text):
        with pytest.raises(Malformed, match="cut by the length limit"):
            read(text, finished=False)

    @pytest.mark.parametrize(
        "text", ['{"title": "a", "title": "b"}', '{"title": "a", "title": "a"}', '{"title": "a", "\\u0074itle": "b"}']
    )
    def test_a_key_that_stands_twice_has_no_value(self, text):
        with pytest.raises(Malformed, match="found two values"):
            read(text)

    def test_a_reply_of_too_many_objects_is_not_read(self):
        with pytest.raises(Malformed, match="more than 100 objects"):
            read('{"title": "a"} ' * 101)

    def test_an_object_inside_another_is_not_the_reply(self):
        with pytest.raises(Malformed, match="title is missing"):
            read('{"note": {"title": "a"}}')
        with pytest.raises(Malformed):
            read('{"body": oops, "note": {"title": "a"}}')

    @pytest.mark.parametrize(
        "text",
        [
            '<think>perhaps {"title": "draft"}</think>{"title": "a"}',
            '<think>one</think> so <think>{"title": "draft"}</think> {"title": "a"}',
            'perhaps {"title": "draft"}, no.\n</think>\n{"title": "a"}',
        ],
    )
    def test_what_stands_in_a_thought_is_not_the_reply(self, text):
        assert read(text) == Note("a")

    def test_a_reply_that_never_left_its_thought_is_malformed(self):
        with pytest.raises(Malformed, match="no JSON object"):
            read('<think>perhaps {"title": "draft"}', finished=False)

    def test_a_thought_mark_inside_a_string_is_only_text(self):
        assert read('{"title": "</think> <think>"}') == Note("</think> <think>")

    def test_raw_line_breaks_inside_strings_are_read(self):
        assert read('{"title": "a\nb"}') == Note("a\nb")

    def test_unknown_fields_are_skipped(self):
        assert read('{"title": "a", "colour": {"of": ["ink"]}}') == Note("a")


class TestMending:
    def test_trailing_commas_go_but_not_those_inside_strings(self):
        assert read('{"title": "a,]", "places": [1, 2, ], }') == Note("a,]", (1, 2))

    @pytest.mark.parametrize(
        "text",
        [
            '{"title": "a"',
            '{"title": "a", ',
            '{"title": "a", "bo',
            '{"title": "a", "body"',
            '```json\n{"title": "a"\n```',
        ],
    )
    def test_a_missing_end_is_put_on(self, text):
        assert read(text, finished=False) == Note("a")

    @pytest.mark.parametrize(
        "member",
        [
            '"body": "keep the red',
            '"body": "keep \\',
            '"body": "keep \\"',
            '"places": [1, 2',
            '"places": [1, 2,',
            '"weight": 0.2',
            '"extra": {"body": "b"',
            '"extra": {"body": "b", ',
            '"weight": -',
        ],
    )
    def test_a_member_that_was_cut_is_left_out_since_half_of_it_says_something_else(self, member):
        assert read('{"title": "a", ' + member, finished=False) == Note("a")

    @pytest.mark.parametrize("text", ['{"title": "a red circ', '{"body": "x", "title": "a re', '{"title', "{"])
    def test_a_cut_reply_without_its_required_part_is_malformed_and_told_so(self, text):
        with pytest.raises(Malformed, match="cut by the length limit"):
            read(text, finished=False)

    def test_a_whole_object_in_a_cut_reply_counts(self):
        assert read('{"title": "a"} I also wanted to s', finished=False) == Note("a")

    def test_unescaped_quotes_are_not_guessed_at(self):
        for text in ('{"title": "write "OPEN" on it"}', '{"title": "write "OPEN" on it', '{"title": "write "A", "B'):
            with pytest.raises(Malformed):
                read(text)


class TestRefusing:
    @pytest.mark.parametrize(
        "text",
        ["", "   ", "yes", "I cannot do that.", "null", "[1, 2]", '"title"', "{}", "{title: a}", "{'title': 'a'}"],
    )
    def test_no_object_is_malformed(self, text):
        with pytest.raises(Malformed):
            read(text)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('{"title": 3}', r"reply\.title: expected str, found 3"),
            ('{"title": null}', r"reply\.title"),
            ('{"title": "a", "places": [true]}', r"reply\.places\[0\]"),
            ('{"title": "a", "places": ["../../etc/passwd"]}', r"reply\.places\[0\]"),
            ('{"title": "a", "weight": NaN}', "NaN"),
            ('{"title": "a", "weight": 1e999}', "too large"),
            ('{"title": "a", "weight": 1' + 400 * "0" + "}", "finite number"),
            ('{"title": "a", "weight": 1' + 5000 * "0" + "}", "broken"),
        ],
    )
    def test_a_wrong_value_is_named(self, text, said):
        with pytest.raises(Malformed, match=said):
            read(text)

    def test_a_reply_beyond_all_measure_is_not_read(self):
        with pytest.raises(Malformed, match="at most"):
            read(" " * MAX_REPLY + '{"title": "a"}')

    def test_what_is_said_of_a_monstrous_value_is_one_short_line(self):
        with pytest.raises(Malformed) as caught:
            read(json.dumps({"title": ["x\n"] * 50_000}))
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)

    def test_characters_that_cannot_be_written_to_a_file_are_replaced(self):
        note = read('{"title": "a\\ud800b\\u0000c"}')
        assert note == Note("a\ufffdb\ufffdc")
        note.title.encode("utf-8")

    @pytest.mark.parametrize(
        "unit",
        [
            '{"',
            '{"a":',
            '{"a":"',
            '{"a":[{"b":',
            '{"a":1,',
            "[",
            "{ ",
            '"',
            "\\",
            "<think>",
            "<think></think>",
            "`",
            '{"a":"\\',
        ],
        ids=repr,
    )
    def test_a_hostile_reply_is_refused_by_a_few_calls_a_sign(self, unit):
        with counting_calls() as calls, pytest.raises(Malformed):
            read(unit * (100_000 // len(unit)))
        assert calls[0] < 200_000


class TestAsking:
    def test_a_good_reply_needs_one_call(self):
        answer, vlm = asked(Reply('{"title": "a"}', tokens=7))
        assert answer == Answer(Note("a"), "", tokens=7, calls=1)
        assert vlm.chats[0].messages == REQUEST and vlm.chats[0].schema is SCHEMA

    def test_a_malformed_reply_is_asked_again_with_the_reason(self):
        answer, vlm = asked(Reply("no", tokens=5), Reply('{"title": "a"}', tokens=7))
        assert answer == Answer(Note("a"), "", tokens=12, calls=2)
        *before, bad, again = vlm.chats[1].messages
        assert tuple(before) == REQUEST
        assert (bad.role, bad.text) == ("assistant", "no")
        assert again.role == "user" and "no JSON object" in again.text
        assert again.data == {"task": "again", "error": "there is no JSON object in the reply"}

    def test_a_cut_reply_is_asked_again_more_briefly(self):
        answer, vlm = asked(Reply('{"title": "a re', finished=False), '{"title": "a"}')
        assert answer.value == Note("a")
        assert "Write less" in vlm.chats[1].messages[-1].text

    def test_malformed_twice_is_a_failure_and_no_exception(self):
        answer, vlm = asked("no", '{"name": 1}')
        assert answer.value is None and answer.calls == 2 and len(vlm.chats) == 2
        assert "fake-vlm" in answer.failure and "title is missing" in answer.failure

    @pytest.mark.parametrize(
        "error", [JudgeFailure("the server is loading"), ConnectionError("refused"), TimeoutError()]
    )
    def test_a_transport_error_is_tried_once_more_with_the_same_words(self, error):
        answer, vlm = asked(error, '{"title": "a"}')
        assert answer.value == Note("a") and answer.calls == 2
        assert vlm.chats[1].messages == REQUEST

    def test_a_transport_error_twice_is_a_failure_that_names_it(self):
        answer, _ = asked(ConnectionError("refused"), TimeoutError())
        assert answer.value is None and answer.calls == 2 and "TimeoutError" in answer.failure

    def test_bad_words_and_a_bad_line_together_have_one_second_try(self):
        answer, vlm = asked("no", TimeoutError())
        assert answer.value is None and len(vlm.chats) == 2

    @pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("CUDA"), KeyboardInterrupt()])
    def test_other_errors_are_not_swallowed(self, error):
        with pytest.raises(type(error)):
            asked(error)

    def test_a_value_of_the_right_form_without_sense_is_asked_again(self):
        def check(note: Note) -> None:
            if note.places:
                raise Malformed("places must be empty")

        answer, vlm = asked('{"title": "a", "places": [1]}', '{"title": "a"}', check=check)
        assert answer.value == Note("a")
        assert "places must be empty" in vlm.chats[1].messages[-1].text

    def test_a_huge_bad_reply_is_quoted_in_part(self):
        _, vlm = asked("<think>" + "hm " * 9_000 + "</think>" + "no " * 30_000, '{"title": "a"}')
        quoted = vlm.chats[1].messages[-2].text
        assert quoted.startswith("no no") and len(quoted) <= 4_000

    def test_an_empty_bad_reply_is_not_an_empty_turn(self):
        _, vlm = asked("", '{"title": "a"}')
        assert vlm.chats[1].messages[-2].text

    def test_format_marks_in_a_bad_reply_are_only_text(self):
        answer, vlm = asked("{0} {title!r} %s {", '{"title": "{0} %s"}')
        assert answer.value == Note("{0} %s")
        assert vlm.chats[1].messages[-2].text == "{0} {title!r} %s {"


def test_a_quotation_is_one_bounded_line_and_shows_that_it_was_cut():
    assert one_line("a\n\n  b\tc", 10) == "a b c"
    assert one_line("x" * 100, 10) == "x" * 9 + "\u2026"
    assert clip("a\nb", 10) == "a\nb"
