"""Replies held to a schema: whatever the model would say, the document is valid, and what is forced is not asked of the model."""

from __future__ import annotations

import json

import pytest
import torch

from clvr_core.controller.prompts import GOALS_SCHEMA, GoalsReply, action_schema
from clvr_core.vlm.constrain import Document, Grammars
from clvr_core.vlm.replies import parse

pytest.importorskip("llguidance", reason="replies are held to a schema by llguidance, which is not installed")

SCHEMA = {
    "type": "object",
    "properties": {
        "note": {"type": "string", "maxLength": 9},
        "kind": {"type": "string", "enum": ["GENERATE", "EDIT"]},
        "places": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 40}, "maxItems": 3},
        "share": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]},
    },
    "required": ["note", "kind", "places", "share"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def words():
    from tests.vlm import tiny

    return tiny.tokenizer()


@pytest.fixture(scope="module")
def grammars(words) -> Grammars:
    return Grammars(words, len(words) + 7, [words.eos_token_id])


def written(document: Document, words, seed: int, most: int = 4000) -> tuple[str, int]:
    """The document that random logits write, and how many tokens were asked of them."""
    random, tokens, asked = torch.Generator().manual_seed(seed), document.forced(), 0
    while not document.complete and len(tokens) < most:
        token = document.take(torch.randn(len(words) + 7, generator=random))
        asked += 1
        if token != words.eos_token_id:
            tokens += [token, *document.forced()]
    return words.decode(tokens), asked


def valid(text: str) -> dict:
    said = json.loads(text)
    assert list(said) == ["note", "kind", "places", "share"]
    assert len(said["note"]) <= 9 and said["kind"] in ("GENERATE", "EDIT")
    assert len(said["places"]) <= 3 and all(type(place) is int and 1 <= place <= 40 for place in said["places"])
    assert said["share"] is None or 0 <= said["share"] <= 1
    return said


@pytest.mark.parametrize("seed", range(8))
def test_random_logits_write_a_valid_document(grammars, words, seed):
    text, _ = written(grammars.start(SCHEMA), words, seed)
    valid(text)


def test_what_must_come_is_not_asked_of_the_model(grammars, words):
    document = grammars.start(SCHEMA)
    begin = words.decode(document.forced())
    assert begin.startswith('{"not'), begin
    text, asked = written(grammars.start(SCHEMA), words, 0)
    assert asked < len(words(text)["input_ids"]) / 2


def test_the_document_is_complete_at_its_last_brace_and_not_before(grammars, words):
    document = grammars.start({"type": "object", "properties": {}, "additionalProperties": False})
    tokens = document.forced()
    assert words.decode(tokens) == "{}" and document.complete
    assert not grammars.start(SCHEMA).complete


def test_two_documents_at_once_do_not_disturb_each_other(grammars, words):
    one, other = grammars.start(SCHEMA), grammars.start(SCHEMA)
    one.forced()
    one.take(torch.randn(len(words) + 7))
    valid(written(other, words, 3)[0])


@pytest.mark.parametrize(
    "schema", [GOALS_SCHEMA, action_schema(("GENERATE", "EDIT", "END"), ["g1", "g2"], [0, 3])], ids=["goals", "action"]
)
def test_the_schemas_of_the_controller_are_understood(grammars, schema):
    assert grammars.start(schema) is not None


def test_a_model_that_repeats_itself_for_ever_still_ends_a_list_of_goals(grammars, words):
    """The likeliest token is always the same: a digit in numbers, a letter in texts."""
    schema = json.loads(json.dumps(GOALS_SCHEMA))
    schema["properties"]["goals"]["maxItems"] = 2
    document, tokens = grammars.start(schema), []
    logits = torch.zeros(len(words) + 7)
    for rank, letter in enumerate("3,a"):
        logits[words.convert_tokens_to_ids(letter)] = 3 - rank
    tokens += document.forced()
    while not document.complete and len(tokens) < 6000:
        tokens += [document.take(logits), *document.forced()]
    assert document.complete
    assert parse(words.decode(tokens, skip_special_tokens=True), True, GoalsReply).goals


def test_a_schema_that_cannot_be_held_is_left_to_words(grammars):
    assert (
        grammars.start(
            {"type": "object", "properties": {"a": {"$ref": "https://example.com/other"}}, "required": ["a"]}
        )
        is None
    )


def test_a_tokenizer_that_cannot_be_followed_is_left_to_words(words):
    class Slow:
        is_fast = False

    assert Grammars(Slow(), 10, [0]).start(SCHEMA) is None


def test_the_table_of_tokens_is_made_once_for_a_tokenizer_and_anew_for_other_ends(words, monkeypatch):
    import llguidance.hf

    made, real = [], llguidance.hf.from_tokenizer
    monkeypatch.setattr(
        llguidance.hf, "from_tokenizer", lambda *given, **named: (made.append(named), real(*given, **named))[1]
    )
    ends = [words.eos_token_id, words.eos_token_id + 1]
    documents = [Grammars(words, len(words) + 7, ends).start(SCHEMA) for _ in range(3)]
    assert len(made) == 1 and all(documents)
    Grammars(words, len(words) + 8, ends).start(SCHEMA)
    assert len(made) == 2
