"""What a goal asks to be written, and what a reading says of it."""

import pytest

from clvr_core.brief import Goal
from clvr_core.witness.lettering import Asked, Limits, Line, asked, finding_on

BOX = (0.1, 0.2, 0.5, 0.3)


def goal(text, kind="text"):
    return Goal("g1", text, kind)


def read(*lines, score=0.99):
    return [Line(text, score, BOX) for text in lines]


def found(text, lines, kind="text"):
    wanted = asked(goal(text, kind))
    return None if wanted is None else finding_on(wanted, lines, Limits())


def side(text, *lines, score=0.99, kind="text"):
    said = found(text, read(*lines, score=score), kind)
    return said and said.says


@pytest.mark.parametrize(
    ("text", "texts", "case"),
    [
        ('a sign that says "FRESH BREAD"', ("FRESH BREAD",), ""),
        ("the words \u201cOpen late\u201d in neon", ("Open late",), ""),
        ("a banner reading 'SALE'", ("SALE",), ""),
        ('"GO" on one door and "STOP" on the other', ("GO", "STOP"), ""),
        ('the title "The Fox" in capital letters', ("The Fox",), "upper"),
        ('the word "fox" in lowercase', ("fox",), "lower"),
        ("a shop sign that reads OPEN", ("OPEN",), ""),
        ("the poster says HAPPY NEW YEAR in gold", ("HAPPY NEW YEAR",), ""),
        ("the child's name \u300c\u685c\u9910\u300d", ("\u685c\u9910",), ""),
        ("no text anywhere", (), ""),
        ("the label is free of lettering", (), ""),
    ],
)
def test_what_is_asked_for(text, texts, case):
    assert asked(goal(text)) == Asked(texts, case)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('a sign that says "OPEN" at the bottom right', "text"),
        ('"OPEN" on the left door and a lamp above it', "text"),
        ('nothing but: two cats and a sign that says "OPEN"', "global"),
        ('the sign that says "OPEN" is left of the door', "layout"),
    ],
)
def test_of_a_goal_that_says_more_only_wrong_words_tell_something(text, kind):
    assert side(text, "OPEN", kind=kind) is None
    assert side(text, "OPFN", kind=kind) == "no"


@pytest.mark.parametrize(
    "text",
    [
        "a red car",
        "elegant lettering",
        'either "YES" or "NO" on the sign',
        'the sign does not say "OPEN"',
        'a sign "X"',
        "the word \u00ab\u041c\u041e\u0421\u041a\u0412\u0410\u00bb",
        "the word \u00ab\u0634\u0644\u0627\u0645\u00bb",
        "a dog's bowl and a cat's bed",
        "it is the artist's own style",
    ],
)
def test_what_a_text_reader_has_no_say_in(text):
    assert asked(goal(text)) is None


def test_quotation_marks_alone_ask_for_no_lettering_unless_the_goal_is_about_text():
    assert asked(goal('a "wild" sky', "local")) is None
    assert asked(goal('a sign with "OPEN" written on it', "local")) == Asked(("OPEN",))
    assert asked(goal("the light SAYS MORNING", "global")) is None


@pytest.mark.parametrize(
    "lines",
    [
        ("FRESH BREAD DAILY",),
        ("fresh bread", "daily"),
        ("DAILY", "BREAD", "FRESH"),
        ("FRESHBREAD DAILY",),
        ("FRESHBREADDAILY",),
        ("FR ESH BREAD DAILY",),
        ("-FRESH- BREAD!", "since 1890", "DAILY."),
    ],
)
def test_the_right_words_are_a_yes_in_any_order_and_with_any_spaces(lines):
    assert side('a sign that says "Fresh bread daily"', *lines) == "yes"


@pytest.mark.parametrize(
    "lines", [("FRESH BRWE DAILY",), ("FRESH", "BRED", "DAILY"), ("FRESH BREAD DALY",), ("FRESH DAILY",)]
)
def test_other_letters_are_a_no(lines):
    assert side('a sign that says "FRESH BREAD DAILY"', *lines) == "no"


@pytest.mark.parametrize(
    "lines",
    [(), ("8",), ("HOTEL",), ("FRESH", "DAILY", "Xylophone")],
)
def test_what_was_not_read_says_nothing(lines):
    assert side('a sign that says "FRESH BREAD DAILY"', *lines) is None


def test_signs_that_look_alike_are_neither_right_nor_wrong():
    assert side('the word "HELLO"', "HELL0") is None
    assert side('the word "CAF\u00c9"', "CAFE") is None
    assert side('the word "Film"', "Flim") is None
    assert side('the word "FILM"', "F1LM") is None
    assert side('the word "FILM"', "FLIM") == "no", "among capitals L is no I"


def test_twice_the_same_word_needs_two_places():
    assert side('"GO" left and "GO" right', "GO", "GO") == "yes"
    assert side('"GO" left and "GO" right', "GO") is None


def test_the_case_counts_where_the_brief_says_so():
    assert side('the title "The Fox" in capital letters', "THE FOX") == "yes"
    assert side('the title "The Fox" in capital letters', "the fox") == "no"
    assert side('the title "The Fox"', "the fox") == "yes"


def test_a_poor_score_is_no_yes_and_a_poorer_one_no_no():
    assert side('the word "OPEN"', "OPEN", score=0.7) is None
    assert side('the word "OPEN"', "OPNE", score=0.7) == "no"
    assert side('the word "OPEN"', "OPNE", score=0.5) is None


def test_text_where_none_is_wanted():
    assert side("no text", "Stock photo") == "no"
    assert side("no text", "8", "II") is None
    assert side("no text") is None


def test_the_words_and_the_place_are_told():
    lines = [Line("FRESH BRWE", 0.9, BOX), Line("DAILY", 0.99, (0.5, 0.2, 0.7, 0.3)), Line("est. 1890", 0.99, BOX)]
    said = found('a sign that says "FRESH BREAD DAILY"', lines)
    assert said is not None
    assert (said.says, said.words, said.strength, said.boxes) == (
        "no",
        'reads "FRESH BRWE / DAILY"',
        0.9,
        (BOX, (0.5, 0.2, 0.7, 0.3)),
    )
    assert said.fault == (0.1, 0.2, 0.7, 0.3), "an edit mends it around all lines that are misspelt"
    assert found('a sign that says "FRESH BRWE"', lines).fault is None


def test_japanese_and_chinese_have_no_spaces():
    assert side("the sign reads \u300c\u55b6\u696d\u4e2d\u300d", "\u672c\u65e5\u55b6\u696d\u4e2d\u3067\u3059") == "yes"


def test_a_thousand_lines_cost_no_more_than_a_thousand_times_one():
    lines = read(*[f"line {number} of words" for number in range(1000)])
    assert found('the words "FRESH BREAD DAILY"', lines) is None
