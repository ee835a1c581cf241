"""The embedded world keeps the contract of World, and models are found by name or by folder."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clvr_core import world as worlds
from clvr_core.errors import BadInput
from clvr_core.evaluation.prompt_parse import of_world
from clvr_core.executor.small_klein import save_pipeline
from clvr_core.models.registry import load_judge, load_models
from clvr_core.stickers import perceive
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.model import RECIPE
from clvr_core.stickers.neural import FOLDER, NeuralVlm
from clvr_core.world import (
    EMBEDDED,
    EXACT,
    KINDS,
    NEURAL,
    World,
    embedded_weights,
    full_name,
    names,
    world_named,
    world_of,
)
from tests.executor.small import klein
from tests.stickers import eyes
from tests.training.world import tiny_weights

BRIEF = 'a small red cat at the top left, two blue cars and a sign that says "HI" at night'


@pytest.fixture
def world() -> World:
    return world_named()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Small random weights of the world, whose encoder reads."""
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture
def no_reader(monkeypatch, tmp_path):
    """The sticker world's reader has no weights."""
    monkeypatch.setattr(perceive, "WEIGHTS", tmp_path / "reader.safetensors")
    monkeypatch.delenv("CLVR_READER", raising=False)
    perceive.reader.cache_clear()
    yield
    perceive.reader.cache_clear()


def test_a_brief_is_met_where_its_spec_holds_and_nothing_is_unclear(world):
    """`held` says of each statement what the spec says of all."""
    rng, met = random.Random(3), 0
    for number in range(120):
        scene, spec, prompt = world.sampling.random_brief(rng, rng.randint(1, 8))
        if number % 2:
            scene = world.apply(world.sampling.random_edit(rng, scene), scene)
        seen, holds = eyes.perceive(eyes.picture_of(scene)), spec.holds(scene)
        assert seen.scene() == scene and world.meets(prompt, seen) == holds
        met += holds
    assert 60 <= met < 100


def test_briefs_of_the_probe_are_as_long_as_their_world_says(world):
    low, high = world.bits
    assert 0 < low < world.parse(BRIEF).bits < high and len(world.tokens_of(BRIEF)) < world.longest


def test_the_complexity_of_a_brief_is_read_by_the_grammar_of_a_world(world):
    found = of_world(BRIEF, world)
    assert found is not None and found.bits == world.parse(BRIEF).bits
    assert (found.entities, found.attributes, found.relations, found.glyphs) == (4, 4, 1, (2,))
    assert of_world("a photograph of nothing in particular", world) is None


def test_errors_of_the_planner_hang_together_as_was_asked(world):
    for kind in ("independent", "correlated"):
        vlm = world.load_vlm(0.0, 3, "independent", 1.0, kind)
        specs = [world.parse(vlm.plan(BRIEF, 1, attempt)) for attempt in range(8)]
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

    def test_the_name_of_the_former_world_means_this_one_and_says_so_once(self, capsys):
        worlds._say_former.cache_clear()
        assert [full_name(f"shapes{kind}") for kind in KINDS] == [f"{EMBEDDED}{kind}" for kind in KINDS]
        assert full_name("shapeshifter") == "shapeshifter"
        assert capsys.readouterr().err.count("shapes now means the stickers world, whose briefs have other words") == 1
        assert embedded_weights("shapes-base") == embedded_weights("stickers-base")

    def test_another_folder_may_stand_for_what_is_installed(self, tmp_path):
        assert embedded_weights("stickers", str(tmp_path)) == (world_named(), tmp_path)

    def test_a_folder_of_weights_says_its_world(self, weights, tmp_path):
        assert embedded_weights(str(weights)) == (world_named("stickers"), weights)
        (tmp_path / "vae").mkdir()
        config = tmp_path / "vae" / "config.json"
        with pytest.raises(BadInput, match="does not say what the weights draw"):
            world_of(tmp_path)
        config.write_text('{"sample_size": 1024}')
        with pytest.raises(BadInput, match=r"draw 1024 px, so they are of no embedded world \(stickers 192\)"):
            world_of(tmp_path)


class TestWhatIsMissing:
    def test_weights_that_are_not_installed(self, world, monkeypatch):
        monkeypatch.setitem(KINDS, "", "none")
        with pytest.raises(
            BadInput, match=r"the stickers world has no weights in .*none yet; name a folder.*--weights"
        ):
            world.load_executor()

    def test_weights_of_another_model(self, world, tmp_path):
        save_pipeline(klein(), tmp_path / "small", RECIPE)
        with pytest.raises(BadInput, match="draw 96 px; those of the stickers world draw 192"):
            world.load_executor(tmp_path / "small")

    def test_the_reader(self, no_reader):
        with pytest.raises(BadInput, match=r"weights are not in .*; reinstall clvr.*Until then.*no independent"):
            world_named("stickers").vlm()

    def test_the_layer_of_weights_that_are_to_read(self, no_reader, weights, monkeypatch, tmp_path):
        shutil.copytree(weights / "vae", tmp_path / "bare" / "vae")
        monkeypatch.setenv("CLVR_READER", str(tmp_path / "bare"))
        with pytest.raises(BadInput, match=r"readout\.safetensors cannot be read"):
            perceive.perceive(np.zeros((192, 192, 3), np.uint8))


@pytest.fixture
def taught(tmp_path, monkeypatch):
    """The sticker world as it is once its learned model has weights: here random ones."""
    from tests.stickers.untrained import save_untrained

    world = replace(world_named("stickers"), learned=save_untrained(tmp_path / "vlm", small=True))
    (world.learned / "run.json").write_text('{"usual": true}')
    monkeypatch.setitem(worlds._MAKE, EMBEDDED, lambda: world)
    return world


def test_the_learned_models_are_the_usual_ones_once_they_are_published_as_such(taught, weights, monkeypatch):
    monkeypatch.setenv("CLVR_READER", str(weights))
    perceive.reader.cache_clear()
    try:
        assert world_named("stickers").neural
        usual, exact = load_judge("stickers"), load_judge("stickers-exact")
        assert isinstance(usual, NeuralVlm) and usual.name == "stickers (neural, vlm)"
        assert isinstance(exact, StickersVlm) and isinstance(world_named("stickers").vlm(EXACT), StickersVlm)
        assert isinstance(load_judge("stickers-neural"), NeuralVlm)
        for names, kind in ((("stickers", "stickers-neural"), NeuralVlm), (("stickers-exact",), StickersVlm)):
            for name in names:
                models = load_models(name, str(weights))
                assert isinstance(models.vlm, kind) and models.width == 192 and models.check is not None
                models.check("a blue cow and two green cars")
                with pytest.raises(BadInput):
                    models.check("a portrait in oil")
    finally:
        perceive.reader.cache_clear()
    run = taught.learned / "run.json"
    run.write_text(run.read_text().replace("true", "false"))
    assert not taught.neural and isinstance(taught.vlm(NEURAL), NeuralVlm)
    run.write_text(run.read_text().replace("false", "true"))
    for file in taught.learned.glob("*.safetensors"):
        file.unlink()
    assert not taught.neural
    with pytest.raises(BadInput, match="no weights of the learned model"):
        taught.vlm(NEURAL)


def test_a_makeshift_reader_stands_in_every_name(weights, world, monkeypatch):
    monkeypatch.setenv("CLVR_READER", str(weights))
    read_by = "read by the encoder of tiny"
    assert world.reads_by() == read_by and world.load_vlm().name == f"stickers ({read_by})"
    assert world.load_vlm(0.05, 3).name == f"stickers (flip 0.05 independent, seed 3, {read_by})"


def test_the_programs_are_the_usual_ones_until_then_and_have_a_name_as_control(world, weights, monkeypatch, tmp_path):
    untaught = replace(world, learned=tmp_path)
    monkeypatch.setitem(worlds._MAKE, EMBEDDED, lambda: untaught)
    monkeypatch.setenv("CLVR_READER", str(weights))
    perceive.reader.cache_clear()
    try:
        assert not untaught.neural and isinstance(load_judge("stickers"), StickersVlm)
    finally:
        perceive.reader.cache_clear()
    assert full_name("embedded-exact") == "stickers-exact" and "stickers-exact" in names()
    assert not world.neural and world.learned == FOLDER
    with pytest.raises(BadInput, match="unknown judge"):
        load_judge("elsewhere-exact")
