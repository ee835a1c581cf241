"""The files made from the schemas of the nodes, held against a real ComfyUI: its schemas are those of the stub, and it
serves the files."""

from __future__ import annotations

import json

import pytest

from tests.nodes.papers import LOCALE, OPEN, PAGES, ROOT, SCHEMAS, made, object_info, unreplaced


@pytest.fixture(scope="module")
def info(comfy):
    return {name: node for name, node in comfy.get("/object_info").items() if name.startswith("CLVR_")}


def closed(node: dict) -> dict:
    """The node without the choices that depend on the files of the machine."""
    node = json.loads(json.dumps(node))
    for group in node["input"].values():
        for name, (_, *rest) in group.items():
            if (node["name"], name) in OPEN:
                rest[0].pop("options")
    return node


def test_the_stub_makes_the_schemas_that_comfyui_makes(info):
    stubbed = object_info()
    assert info.keys() == stubbed.keys()
    for name, node in stubbed.items():
        assert {key: closed(info[name])[key] for key in node} == closed(node), name


def test_every_id_that_no_longer_exists_is_replaced(comfy):
    known = json.loads((ROOT / SCHEMAS).read_text(encoding="utf-8"))
    assert unreplaced(known, comfy.get("/node_replacements")) == set()


def test_comfyui_serves_the_help_pages_and_the_locale(comfy):
    files = made()
    assert comfy.get("/extensions/clvr/docs/CLVR_Generate.md").decode() == files[f"{PAGES}/CLVR_Generate.md"]
    served, locale = comfy.get("/i18n")["en"]["nodeDefs"], json.loads(files[LOCALE])
    assert {name: served[name] for name in locale} == locale
