"""What is written about the nodes is what they are."""

from __future__ import annotations

import json

import pytest

from tests.comfy.papers import LOCALE, PAGES, SCHEMAS, papers, unreplaced, with_the_gone
from tests.comfy.server import ROOT

RENEW = "save /object_info of a running ComfyUI to a file, and run python -m tests.comfy.papers FILE"


@pytest.fixture(scope="module")
def made(comfy) -> dict[str, str]:
    made = papers(comfy.get("/object_info"))
    return made | {SCHEMAS: with_the_gone(made[SCHEMAS], (ROOT / SCHEMAS).read_text())}


def test_no_saved_workflow_is_broken_by_a_change_of_a_schema(made):
    """A widget that moves, goes or changes its type shifts the values of every workflow that was saved with the node."""
    assert json.loads(made[SCHEMAS]) == json.loads((ROOT / SCHEMAS).read_text()), f"if it is meant: {RENEW}"


def test_every_id_that_ever_was_is_there_or_replaced(comfy, made):
    known = json.loads(made[SCHEMAS])
    assert unreplaced(known, comfy.get("/node_replacements")) == set()
    renamed = json.loads(with_the_gone(json.dumps({"CLVR_New": {}}), json.dumps({"CLVR_Old": {}})))
    told = {"CLVR_Old": [{"new_node_id": "CLVR_New"}]}
    assert unreplaced(renamed, {}) == {"CLVR_Old"} and unreplaced(renamed, told) == set()
    assert unreplaced(renamed, {"CLVR_Old": [{"new_node_id": "CLVR_Never"}]}) == {"CLVR_Old"}


def test_the_help_pages_and_the_english_locale_are_not_stale(made):
    for path, text in made.items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is stale: {RENEW}"
    known = {path for path in made if path.startswith(PAGES)}
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / PAGES).glob("CLVR_*.md")} == known


def test_comfyui_hands_them_out(comfy, made):
    help_page = comfy.get("/extensions/clvr/docs/CLVR_Generate.md").decode()
    assert help_page == made[f"{PAGES}/CLVR_Generate.md"]
    told = comfy.get("/i18n")["en"]["nodeDefs"]
    assert {name: told[name] for name in json.loads(made[LOCALE])} == json.loads(made[LOCALE])
    aliases = {
        name: node["search_aliases"] for name, node in comfy.get("/object_info").items() if name.startswith("CLVR_")
    }
    assert all(len(listed) >= 3 for listed in aliases.values()), aliases
