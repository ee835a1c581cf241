"""The whole course in the sticker world with its early weights, whose pictures are blurred, read by their own encoder."""

from __future__ import annotations

import json

import pytest

from clvr_core.cli import main
from clvr_core.evaluation.probe import Conditions, run_unit
from clvr_core.run.run_folder import JOURNAL
from clvr_core.stickers import perceive
from clvr_core.stickers.comparing import matches
from clvr_core.stickers.render import render
from clvr_core.stickers.scene import NATURAL, Scene, Thing
from clvr_core.world import world_named
from tests.stickers.test_art import needs_art
from tests.test_world import EARLY

pytestmark = pytest.mark.weights
READ_BY = "read by the encoder of stickers"


@pytest.fixture(autouse=True)
def read_by_the_encoder(monkeypatch):
    monkeypatch.setenv("CLVR_READER", str(EARLY))
    perceive.reader.cache_clear()
    yield
    perceive.reader.cache_clear()


def test_a_run_comes_to_its_end_and_says_who_judged(tmp_path, capsys):
    request = ["generate", "a red cat", "--models", "stickers", "--weights", str(EARLY), "--rounds", "2", "--json"]
    assert main([*request, "--out", str(tmp_path / "run")]) in (0, 3)
    told = json.loads(capsys.readouterr().out)
    assert told["images"] >= 1 and told["evaluations"] >= 56
    journal = (tmp_path / "run" / JOURNAL).read_text()
    assert f"stickers ({READ_BY})" in journal and "stickers (stickers)" in journal


@pytest.mark.parametrize(("arm", "evaluations"), [("oneshot", 8), ("clvr", 80)])
def test_the_probe_measures_an_arm(arm, evaluations):
    world = world_named("stickers")
    judge = Conditions("correlated", planner_errors=0.1, planner="correlated")
    found = run_unit(arm, 2, 1, 0, evaluations, weights=EARLY, conditions=judge, world=world)
    assert 0 < found.evaluations[0] <= evaluations and found.passed[0] in (0, 1)


def test_every_name_says_that_the_reader_is_a_makeshift():
    world = world_named("stickers")
    assert world.reads_by() == READ_BY and world.vlm().name == f"stickers ({READ_BY})"
    assert world.load_vlm(0.05, 3).name == f"stickers (flip 0.05 independent, seed 3, {READ_BY})"


@needs_art
def test_the_encoder_reads_drawn_stickers():
    things = Thing("cat", "blue", "small", 0), Thing("bus", NATURAL, "large", 4), Thing("banana", NATURAL, "small", 8)
    scene = Scene(things, "night")
    assert matches(perceive.perceive(render(scene)), scene)
