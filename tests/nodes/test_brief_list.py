"""Briefs from a List: what each line becomes, and which files are read."""

from __future__ import annotations

import pytest
from clvr_pack.nodes.loop.brief_list_node import briefs_of, list_files

from clvr_core.errors import BadInput
from tests.nodes.graph import Graph


def give(**inputs: object):
    return Graph({"1": {"class_type": "CLVR_BriefList", "inputs": inputs}}).run("1")


def test_each_line_has_a_prompt_a_seed_and_a_name():
    lines = give(briefs="a cat\n\na dog", seed=5)
    assert lines == (["a cat", "a dog"], [5, 5], ["1", "3"], 2)
    csv = give(briefs="id,prompt,seed\nx,a cat,7\n,a dog,\n", seed=5)
    assert csv == (["a cat", "a dog"], [7, 5], ["x", "3"], 2)
    json = give(briefs='{"prompt": "a cat", "seed": 7, "id": "x"}\n"a dog"', seed=5)
    assert json == (["a cat", "a dog"], [7, 5], ["x", "2"], 2)


def test_a_part_of_the_list_is_given():
    assert give(briefs="a\nb\nc\nd", first=2, most=2)[0] == ["b", "c"]
    with pytest.raises(BadInput, match="first is 5, and the list has 4 briefs"):
        give(briefs="a\nb\nc\nd", first=5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "prompt,strategy\na cat,clvr",
            "line 2 of the list: 'strategy' is not known here; a list has prompt, seed and id",
        ),
        ("prompt,seed\na cat,many", "line 2 of the list: .*seed"),
        ('{"prompt": "a"}\n{"prompt": " "}', "line 2 of the list: its prompt is empty"),
        ('{"prompt": "a", "seed": -1}', "line 1 of the list: its seed is -1"),
        ('{"prompt": "a"}\n[1]', "line 2 of the list: it is \\[1\\]"),
        ("x" * 200_000, "line 1 of the list: its prompt has 200,000 characters"),
    ],
)
def test_a_line_that_is_no_brief_is_named(text, says):
    with pytest.raises(BadInput, match=says):
        briefs_of(text)


def test_a_file_of_the_input_folder_takes_the_place_of_the_text(host):
    inside = host.base / "input"
    (inside / "list.CSV").write_text("prompt\na cat\n", "utf-8")
    (inside / "picture.png").write_bytes(b"")
    (host.base / "secret.txt").write_text("secret")
    (inside / "link.txt").symlink_to(host.base / "secret.txt")
    assert list_files() == ["none", "link.txt", "list.CSV"]
    assert give(briefs="a dog", file="list.CSV")[0] == ["a cat"]
    for file in ("../secret.txt", "link.txt", "picture.png", "gone.txt", ""):
        with pytest.raises(BadInput, match=r"it must be one of .* in ComfyUI's input folder"):
            give(file=file)
    (inside / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match="cannot be read as UTF-8"):
        give(file="latin.txt")
