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


STRING = r'"((?:[^"\\]|\\.)*)"'
CALLS = (
    re.compile(rf"\b(?:t|mark|pieces)\(\s*{STRING}"),
    re.compile(rf'\bmany\(\s*[^"]*?,\s*{STRING},\s*{STRING}'),
)
"""How the modules of web/ name words: see web/viewer/language.js."""


def words_in_the_code() -> set[str]:
    texts = [path.read_text("utf-8") for path in (FOLDER.parent / "web").rglob("*.js")]
    return {
        json.loads(f'"{words}"')
        for text in texts
        for pattern in CALLS
        for found in pattern.finditer(text)
        for words in found.groups()
    }


def notes_of_the_workflows() -> set[str]:
    """Lines of the notes, and titles that the workflows give to nodes and groups."""
    found: set[str] = set()
    for path in (FOLDER.parent / "workflows").glob("*.json"):
        workflow = json.loads(path.read_text("utf-8"))
        things = [*workflow["nodes"], *workflow["groups"]]
        found |= {thing["title"] for thing in things if thing.get("title")}
        notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"].endswith("Note")]
        found |= {line for text in notes for line in text.split("\n") if line}
    return found


def own(language: str) -> dict:
    return json.loads((FOLDER / language / "main.json").read_text("utf-8"))["clvr"]


def test_every_word_of_the_front_end_is_in_the_locales_and_no_other():
    words = own("en")["words"]
    assert words.keys() == words_in_the_code()
    assert all(key == text for key, text in words.items()), "the English words are the keys"


def test_every_line_of_the_workflows_notes_is_in_the_locales_and_no_other():
    notes = own("en")["notes"]
    assert notes.keys() == notes_of_the_workflows()
    assert all(key == text for key, text in notes.items())


def test_every_value_that_is_translated_is_one_of_a_widget():
    schemas = json.loads((FOLDER.parent / "tests" / "comfy" / "schemas.json").read_text("utf-8"))
    # Beside the files in lists of LoRAs and of models; "more": more_3 and so on, in a list of LoRAs that grows.
    text = json.dumps(schemas) + '"none""embedded (no download)""one more""more"'
    for widget, values in own("en")["values"].items():
        assert f'"{widget}"' in text
        assert [value for value in values if f'"{value}"' not in text] == [], widget


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_has_the_values_of_the_english_words_in_it(language):
    blanks = re.compile(r"\{\w+\}")
    words = own(language)["words"]
    assert {key: sorted(blanks.findall(text)) for key, text in words.items()} == {
        key: sorted(blanks.findall(key)) for key in words
    }
    # Names of things in the field are the same in each language.
    untranslated = {key for key, text in words.items() if key == text}
    assert untranslated <= {
        ", ",
        "DiT",
        "UNet",
        "VAE",
        "{n} GB",
        "{n} MB",
        "{n} NFE",
        "{device}: {sizes}; {free}: {how}",
    }
