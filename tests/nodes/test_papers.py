"""Help pages, English locale and schemas.json are what the schemas of the nodes make of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.nodes.papers import (
    GONE,
    PAGES,
    ROOT,
    SCHEMAS,
    made,
    object_info,
    page,
    unreplaced,
    with_new_strategies,
    with_the_gone,
)

RENEW = "run python -m tests.nodes.papers"


@pytest.fixture(scope="module")
def files():
    return made()


def test_no_saved_workflow_is_broken_by_a_change_of_a_schema(files):
    """A widget that moves, goes or changes its type shifts the values of every workflow that was saved with the
    node.
    """
    committed = json.loads((ROOT / SCHEMAS).read_text(encoding="utf-8"))
    assert json.loads(files[SCHEMAS]) == committed, f"if it is meant: {RENEW}"


def test_the_committed_files_are_what_the_command_makes(files):
    for path, text in files.items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is stale: {RENEW}"
    pages = {path for path in files if path.startswith(PAGES)}
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / PAGES).glob("CLVR_*.md")} == pages


def test_an_id_that_is_gone_stays_listed_until_a_node_replaces_it():
    renamed = json.loads(with_the_gone(json.dumps({"CLVR_New": {}}), json.dumps({"CLVR_Old": {}})))
    assert renamed["CLVR_Old"] == {GONE: True} and renamed["CLVR_New"] == {}
    assert unreplaced(renamed, {}) == {"CLVR_Old"}
    assert unreplaced(renamed, {"CLVR_Old": [{"new_node_id": "CLVR_New"}]}) == set()
    assert unreplaced(renamed, {"CLVR_Old": [{"new_node_id": "CLVR_Never"}]}) == {"CLVR_Old"}


def test_a_page_says_what_an_input_takes_and_where_it_is_shown():
    lines = page(object_info()["CLVR_Executor"]).splitlines()
    width = next(line for line in lines if line.startswith("- **width**"))
    steps = next(line for line in lines if line.startswith("- **steps**"))
    assert width.startswith("- **width** (64 to 4096, default 1024): ")
    assert steps.endswith("Shown under the advanced inputs.")


@pytest.mark.parametrize("node", ["CLVR_Brief", "CLVR_Generate"])
def test_the_front_end_expands_the_choices_of_a_prompt(node):
    assert object_info()[node]["input"]["required"]["prompt"][1]["dynamicPrompts"] is True


@pytest.mark.parametrize(
    ("words", "node"),
    [
        *((words, "CLVR_Generate") for words in ("fix hands", "critique", "improve prompt", "self correct")),
        *((words, "CLVR_Generate") for words in ("quality check", "inpaint", "image edit", "flux", "qwen")),
        *((words, "CLVR_Executor") for words in ("inpaint", "image edit", "flux", "qwen")),
        *((words, "CLVR_Verify") for words in ("critique", "quality check")),
        ("improve prompt", "CLVR_Reason"),
    ],
)
def test_words_of_artists_find_a_node(words, node):
    assert words in object_info()[node]["search_aliases"]


def test_every_node_is_found_by_three_other_names():
    assert {
        name: node["search_aliases"] for name, node in object_info().items() if len(node["search_aliases"]) < 3
    } == {}


def test_a_new_strategy_is_named_in_every_language_until_it_is_translated(monkeypatch):
    from clvr_core.policy import POLICIES

    known = (ROOT / "locales" / "ja" / "nodeDefs.json").read_text(encoding="utf-8")
    assert with_new_strategies(known) == known, "all of today's are translated"

    monkeypatch.setitem(POLICIES, "patient", SimpleNamespace(name="patient", hint="waits"))
    found = json.loads(with_new_strategies(known))
    tooltips = [node["inputs"]["strategy"]["tooltip"] for node in found.values() if "strategy" in node["inputs"]]
    assert len(tooltips) > 1 and all(tooltip.endswith(" patient: waits.") for tooltip in tooltips)
