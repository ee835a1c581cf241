"""Eyes and hand on one card: ComfyUI's own manager makes room, and no more often than a round needs."""

from __future__ import annotations

import json
import re
from itertools import groupby

import pytest

from tests.comfy.graphs import begun_by, told
from tests.comfy.server import Comfy
from tests.comfy.test_executor import EXECUTE, FIRST, SCRIPT, SECOND, STOCK, THIRD, in_one, loop
from tests.comfy.test_vision import FILE

ONE, ALL = 10.0, 32.0
"""GiB of the card: either eyes of 8 or a diffusion model of 7.25 besides what ComfyUI keeps for its work, or all there are."""
TWICE = SCRIPT | {
    "actions": [FIRST, SECOND, THIRD | {"references": [2, 0]}],
    "met": ["100", "100", "110", "110", "111"],
}
"""For two pictures a round."""
GRAPHS = {
    "one node": in_one(script=TWICE, seed=70, candidates=2),
    "nodes": loop(EXECUTE, seed=71),
    "stock nodes": loop(STOCK, seed=72),
}


def on_card(prompt: dict, room: float) -> dict:
    """The graph with eyes that are a CLIP of ComfyUI's, and all its models on a card with so much room."""
    text = json.dumps(prompt)
    for node, place in {"2": 1, "1": 2, "3": 3}.items():
        text = text.replace(f'["{node}", 0]', f'["40", {place}]')
    text = text.replace('["4", 0]', '["43", 0]')
    return json.loads(text) | {
        "40": {
            "class_type": "Tiny_Card",
            "inputs": {"room": room, "eyes": ["41", 0], "clip": ["2", 0], "model": ["1", 0], "vae": ["3", 0]},
        },
        "41": {"class_type": "CLIPLoader", "inputs": {"clip_name": FILE, "type": "stable_diffusion"}},
        "42": {
            "class_type": "CLVR_VisionModel",
            "inputs": {"clip": ["40", 0], "reply_limit": 64, "prove_sight": False},
        },
        "43": {"class_type": "Tiny_Prompter", "inputs": {"vlm": ["42", 0], "script": ["4", 0]}},
    }


def moves(comfy: Comfy, prompt: dict) -> list[tuple[str, str, set[str]]]:
    """Who works or leaves, and who is on the card then."""
    before = len(comfy.log.read_text())
    run = told(begun_by(comfy, prompt))
    assert len(run.steps) == 3 and run.outcome.met
    lines = re.findall(r"^card: (.*)$", comfy.log.read_text()[before:], re.M)
    return [(name, what, set(held)) for name, what, held in map(json.loads, lines)]


def turns(found: list[tuple[str, str, set[str]]]) -> list[str]:
    return [name for name, _ in groupby(name for name, what, _ in found if what == "works")]


@pytest.mark.parametrize("graph", GRAPHS)
def test_with_room_for_one_of_them_eyes_and_hand_take_turns_once_a_round(comfy, graph):
    found = moves(comfy, on_card(GRAPHS[graph], ONE))
    # A stock sampler's canvas is encoded again; the executor has kept the latent of its own.
    edit = ["text", *(["vae"] if graph == "stock nodes" else []), "model", "vae"]
    assert turns(found) == ["eyes", "text", "model", "vae", "eyes", *edit, "eyes", *edit, "eyes"]
    for name, what, held in found:
        assert what == "leaves" or name in held
        assert len(held & {"eyes", "text", "model"}) <= 1, (name, what, held)


def test_with_room_for_all_of_them_none_is_ever_unloaded(comfy):
    found = moves(comfy, on_card(in_one(script=TWICE, seed=73, candidates=2), ALL))
    assert {what for _, what, _ in found} == {"works"} and found[-1][2] == {"eyes", "text", "model", "vae"}
