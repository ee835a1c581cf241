"""The sentences that the viewer knows to say in other languages are those that the code records."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from clvr_core.trajectory import Ended, Route, Ruling

from .syntax import tree_of

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r'\bmark\("((?:[^"\\]|\\.)*)"\)')
BLANK = re.compile(r"\{[^{}]*\}")


def forms_of(tree: ast.AST) -> set[str]:
    """The texts in a module, with {} for each value in them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            found.add("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(BLANK.sub("{}", node.value))
    return found


@pytest.fixture(scope="module")
def written() -> set[str]:
    return set().union(*(forms_of(tree_of(path.read_text("utf-8"))) for path in (ROOT / "clvr_core").rglob("*.py")))


def sentences() -> list[str]:
    source = (ROOT / "web" / "viewer" / "sentences.js").read_text("utf-8")
    return [json.loads(f'"{words}"') for words in MARKED.findall(source)]


@pytest.mark.parametrize("sentence", sentences())
def test_the_code_writes_it(sentence, written):
    assert BLANK.sub("{}", sentence) in written


def test_every_code_of_a_run_has_words():
    words = (ROOT / "web" / "viewer" / "words.js").read_text("utf-8")
    table = words[words.index("export const CODES") :]
    named = set(re.findall(r'^  (?:"([^"]+)"|(\w+)): mark', table[: table.index("};")], re.M))
    assert {quoted or bare for quoted, bare in named} == {
        code for codes in (Ruling, Ended, Route) for code in get_args(codes) if code
    }


def test_no_two_are_alike():
    forms = [BLANK.sub("{}", sentence) for sentence in sentences()]
    assert len(forms) == len(set(forms)) > 20
