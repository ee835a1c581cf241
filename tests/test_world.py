"""The embedded worlds: both keep the contract of World, and models are found by name or by folder."""

from __future__ import annotations

import random
import shutil
from dataclasses import fields, replace
from inspect import isfunction, signature
from pathlib import Path

import numpy as np
import pytest

from clvr_core import world as worlds
from clvr_core.errors import BadInput
from clvr_core.evaluation.prompt_parse import of_world
from clvr_core.models.registry import load_judge, load_models
from clvr_core.stickers import perceive
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.neural import FOLDER, NeuralVlm
from clvr_core.world import EMBEDDED, WORLDS, World, embedded_weights, full_name, names, world_named, world_of
from tests.stickers import eyes

EARLY = Path(__file__).parent / "data" / "stickers"
BRIEFS = {
    "shapes": "a small red circle at the top left and two blue squares",
    "stickers": 'a small red cat at the top left, two blue cars and a sign that says "HI" at night',
}


@pytest.fixture(params=WORLDS)
def world(request) -> World:
    return world_named(request.param)


@pytest.fixture
def no_reader(monkeypatch, tmp_path):
    """The sticker world's reader has no weights."""
    monkeypatch.setattr(perceive, "WEIGHTS", tmp_path / "reader.safetensors")
    monkeypatch.delenv("CLVR_READER", raising=False)
    perceive.reader.cache_clear()
    yield
    perceive.reader.cache_clear()


def test_every_world_takes_what_the_others_take():
    """What is called without knowing the world has the same arguments in each."""
    worlds = [world_named(name) for name in WORLDS]
    loose = {"check_edit"}  # of one, a tolerance that nobody gives
    for field in fields(World):
        several = [getattr(world, field.name) for world in worlds]
        if isfunction(several[0]) and field.name not in loose:
            assert len({tuple(signature(each).parameters) for each in several}) == 1, field.name
    for name in ("random_brief", "brief_of", "grouped_scene", "random_scene", "random_edit", "tell"):
        several = [getattr(world.sampling, name) for world in worlds]
        assert len({tuple(signature(each).parameters) for each in several}) == 1, name


def test_a_brief_is_met_where_its_spec_holds_and_nothing_is_unclear(world):
    """`held` says of each statement what the spec says of all."""
    rng, met = random.Random(3), 0
    for number in range(120):
        scene, spec, prompt = world.sampling.random_brief(rng, rng.randint(1, 8))
        if number % 2:
            scene = world.apply(world.sampling.random_edit(rng, scene), scene)
        seen = (
            eyes.perceive(eyes.picture_of(scene)) if world.name == "stickers" else world.perceive(world.render(scene))
        )
        holds = spec.holds(scene if world.name == "stickers" else scene.things)
        assert seen.scene() == scene and world.meets(prompt, seen) == holds
        met += holds
    assert 60 <= met < 100


def test_briefs_of_the_probe_are_as_long_as_their_world_says(world):
    low, high = world.bits
    prompt = BRIEFS[world.name]
    assert 0 < low < world.parse(prompt).bits < high and len(world.tokens_of(prompt)) < world.longest


def test_the_complexity_of_a_brief_is_read_by_the_grammar_of_a_world(world):
    prompt = BRIEFS[world.name]
    found = of_world(prompt, world)
    assert found is not None and found.bits == world.parse(prompt).bits
    assert found.entities == {"shapes": 3, "stickers": 4}[world.name]
    assert found.attributes == {"shapes": 3, "stickers": 4}[world.name] and found.relations == 1
    assert found.glyphs == {"shapes": (), "stickers": (2,)}[world.name]
    assert of_world("a photograph of nothing in particular", world) is None


def test_errors_of_the_planner_hang_together_as_was_asked(world):
    prompt = BRIEFS[world.name]
    for kind in ("independent", "correlated"):
        vlm = world.load_vlm(0.0, 3, "independent", 1.0, kind)
        specs = [world.parse(vlm.plan(prompt, 1, attempt)) for attempt in range(8)]
        understood = {tuple(sorted((item.count, item.key) for item in spec.items)) for spec in specs}
        assert len(understood) == 1 if kind == "correlated" else len(understood) > 1


class TestNames:
    def test_embedded_is_the_usual_world(self):
        assert world_named("embedded") is world_named() is world_named(EMBEDDED)
        assert full_name("embedded-base") == f"{EMBEDDED}-base" and full_name("klein") == "klein"
        assert embedded_weights("embedded") == embedded_weights(EMBEDDED)

    def test_each_names_a_world_and_the_folder_of_its_weights(self, world):
        kinds = {"": "merged", "-base": "weights", "-distilled": "distilled"}
        for kind, folder in kinds.items():
            assert world.name + kind in names()
            assert embedded_weights(world.name + kind) == (world, world.folder / folder)
        assert embedded_weights("qwen") is None and embedded_weights("stickers-small") is None

    def test_another_folder_may_stand_for_what_is_installed(self, tmp_path):
        assert embedded_weights("shapes", str(tmp_path)) == (world_named("shapes"), tmp_path)

    def test_a_folder_of_weights_says_its_world(self, tmp_path):
        assert embedded_weights(str(EARLY)) == (world_named("stickers"), EARLY)
        assert world_of(world_named("shapes").base) is world_named("shapes")
        (tmp_path / "vae").mkdir()
        config = tmp_path / "vae" / "config.json"
        with pytest.raises(BadInput, match="does not say what the weights draw"):
            world_of(tmp_path)
        config.write_text('{"sample_size": 1024}')
        with pytest.raises(
            BadInput, match=r"draw 1024 px, so they are of no embedded world \(shapes 96, stickers 192\)"
        ):
            world_of(tmp_path)


class TestWhatIsMissing:
    def test_weights_that_are_not_installed(self, monkeypatch):
        with pytest.raises(
            BadInput, match=r"the stickers world has no weights in .*merged yet; name a folder.*--weights"
        ):
            load_models("stickers")

    def test_weights_of_another_world(self):
        with pytest.raises(BadInput, match="draw 192 px; those of the shapes world draw 96"):
            load_models("shapes", str(EARLY))

    def test_the_reader(self, no_reader):
        with pytest.raises(
            BadInput, match=r"weights are not in .*clvr train stickers reader.*Until then.*no independent"
        ):
            world_named("stickers").vlm()

    def test_the_layer_of_weights_that_are_to_read(self, no_reader, monkeypatch, tmp_path):
        shutil.copytree(EARLY / "vae", tmp_path / "bare" / "vae")
        monkeypatch.setenv("CLVR_READER", str(tmp_path / "bare"))
        with pytest.raises(BadInput, match=r"readout\.safetensors cannot be read"):
            perceive.perceive(np.zeros((192, 192, 3), np.uint8))


@pytest.fixture
def taught(tmp_path, monkeypatch):
    """The sticker world as it is once its learned model has weights: here random ones."""
    from tests.stickers.untrained import save_untrained

    world = replace(world_named("stickers"), learned=save_untrained(tmp_path / "vlm", small=True))
    made = worlds._made
    monkeypatch.setattr(worlds, "_made", lambda name: world if name == "stickers" else made(name))
    return world


def test_the_learned_models_are_the_usual_ones_as_soon_as_they_have_weights(taught, monkeypatch):
    monkeypatch.setenv("CLVR_READER", str(EARLY))
    perceive.reader.cache_clear()
    try:
        assert world_named("stickers").neural
        usual, exact = load_judge("stickers"), load_judge("stickers-exact")
        assert isinstance(usual, NeuralVlm) and usual.name == "stickers (neural, vlm)"
        assert isinstance(exact, StickersVlm) and isinstance(world_named("stickers").vlm(exact=True), StickersVlm)
        for names, kind in ((("stickers", "stickers-base"), NeuralVlm), (("stickers-exact",), StickersVlm)):
            for name in names:
                models = load_models(name, str(EARLY))
                assert isinstance(models.vlm, kind) and models.width == 192 and models.check is not None
                models.check("a blue cow and two green cars")
                with pytest.raises(BadInput):
                    models.check("a portrait in oil")
    finally:
        perceive.reader.cache_clear()
    for file in taught.learned.glob("*.safetensors"):
        file.unlink()
    assert not taught.neural


def test_until_then_they_are_the_programs_and_the_control_has_a_name_in_every_world():
    assert not world_named("shapes").neural and isinstance(load_judge("shapes"), type(load_judge("shapes-exact")))
    assert {"shapes-exact", "stickers-exact"} <= set(names()) and full_name("embedded-exact") in names()
    world = world_named("stickers")
    assert world.neural == any(FOLDER.glob("*.safetensors")) and world.learned == FOLDER
    with pytest.raises(BadInput, match="unknown judge"):
        load_judge("elsewhere-exact")
