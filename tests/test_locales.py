"""Every language says the same, and says whether a person or a machine translated it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "locales"
FILES = ("main.json", "nodeDefs.json")
TRANSLATED = ("ja", "ko", "zh")


def told(language: str, file: str) -> dict[str, str]:
    """Path of keys -> text."""

    def walk(value, path):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, f"{path}/{key}")
        else:
            yield path, value

    return dict(walk(json.loads((FOLDER / language / file).read_text(encoding="utf-8")), ""))


def test_these_languages_are_there():
    assert sorted(path.name for path in FOLDER.iterdir()) == ["en", *TRANSLATED]


@pytest.mark.parametrize("language", TRANSLATED)
@pytest.mark.parametrize("file", FILES)
def test_a_translation_has_all_that_english_has_and_no_more(language, file):
    english, other = told("en", file), told(language, file)
    assert other.keys() == english.keys()
    assert all(text.strip() for text in other.values())
    names = re.compile(r"\b(?:clvr/saved|director|strokes|oneshot|best-of-n|LoRA|96 x 96)\b", re.ASCII)
    assert {path: sorted(names.findall(text)) for path, text in other.items()} == {
        path: sorted(names.findall(text)) for path, text in english.items()
    }, "names are not translated"


@pytest.mark.parametrize("language", TRANSLATED)
def test_it_is_in_its_own_script_and_says_that_a_machine_made_it(language):
    said = "".join(told(language, "nodeDefs.json").values())
    assert re.search({"zh": "[\u4e00-\u9fff]", "ja": "[\u3040-\u30ff]", "ko": "[\uac00-\ud7af]"}[language], said)
    assert (
        told(language, "main.json")["/clvr/translation"] == "machine"
        and told("en", "main.json")["/clvr/translation"] == "source"
    )
