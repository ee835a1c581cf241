"""Briefs as a text: what is taken for lines, CSV or JSON, and what is refused with the number of its line."""

from __future__ import annotations

import pytest

from clvr_core import brief_list
from clvr_core.brief_list import rows_of
from clvr_core.errors import BadInput


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a cat\n\n  a dog, brown \r\n", [(1, "a cat"), (3, "a dog, brown")]),
        ("{red|blue} ball\nprompt, more", [(1, "{red|blue} ball"), (2, "prompt, more")]),
        ('"OPEN" on a door', [(1, '"OPEN" on a door')]),
        ('"a cat"\n{"prompt": "a dog", "seed": 3}', [(1, "a cat"), (2, {"prompt": "a dog", "seed": 3})]),
        (
            '\ufeffid,Prompt,seed\nx,"a cat, black\nand white",7\n\n,a dog,\n',
            [(3, {"id": "x", "prompt": "a cat, black\nand white", "seed": "7"}), (5, {"prompt": "a dog"})],
        ),
        ("prompt;seed\na cat, a dog;7", [(2, {"prompt": "a cat, a dog", "seed": "7"})]),
        ("seed\tprompt\n7\ta cat", [(2, {"prompt": "a cat", "seed": "7"})]),
    ],
)
def test_a_list_is_lines_csv_or_json(text, rows):
    assert rows_of(text) == rows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" \n", "the list holds no briefs"),
        ("prompt,seed\n", "a header and no briefs below it"),
        (
            "prompt,seed\na cat, a dog,7\n",
            "line 2 has 3 values and the header 2 columns; put a prompt .* in double quotes",
        ),
        ('prompt,seed\n"a cat,7\n', "line 2: "),
        ('{"prompt": "a"}\n{"prompt": ', "line 2: "),
        ('{"prompt": ', "line 1: "),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text, says):
    with pytest.raises(BadInput, match=says):
        rows_of(text)


def test_a_list_has_an_end(monkeypatch):
    monkeypatch.setattr(brief_list, "MOST", 2)
    with pytest.raises(BadInput, match="the list has 3 briefs; at most 2 are read"):
        rows_of("a\nb\nc")
