"""What is shipped draws as it was measured to, and reads what is drawn. By the functions of the benchmarks of the weights
and of the reader, on samples that take seconds."""

from __future__ import annotations

import json
import random
import shlex

import pytest
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from benchmarks import sticker_reader, sticker_weights
from clvr_core.cli import main
from clvr_core.stickers import perceive
from clvr_core.stickers.codes import FIELDS, LOOK, NOUN, SIZE, WORD, codes
from clvr_core.stickers.codes import KINDS as THINGS
from clvr_core.stickers.readout import load_layer
from clvr_core.stickers.scene import SIGN
from clvr_core.training import publish
from clvr_core.training.drawn_latents import drawn_latents
from clvr_core.training.merged import TRANSFORMER
from clvr_core.training.stage import RECORD
from clvr_core.training.sticker_batches import to_uint8
from clvr_core.world import ALIGNED, KINDS, world_named
from tests.stickers.test_art import needs_art

pytestmark = pytest.mark.weights
WORLD = world_named()
BASE, DISTILLED, MERGED = (WORLD.folder / KINDS[kind] for kind in ("-base", "-distilled", ""))
LORA = WORLD.folder / ALIGNED
FEW = 4
"""Evaluations of a picture and of an edit by the few-step weights."""
SILENT = tqdm(disable=True)


def beta() -> float:
    """The strength of the student's delta with which the merge was made."""
    words = shlex.split(json.loads((MERGED / RECORD).read_text())["command"])
    return float(words[words.index("--beta") + 1])


@pytest.fixture(scope="module")
def merged():
    return WORLD.load_executor()


@pytest.mark.parametrize("folder", [BASE, DISTILLED, MERGED], ids=lambda folder: folder.name)
def test_each_part_is_whole_and_says_how_it_samples(folder):
    recipe = WORLD.load_executor(folder).recipe
    few = {recipe.generate.steps, recipe.edit.steps} == {FEW} and recipe.generate.guidance == 1
    assert few == (folder != BASE)


def test_all_parts_take_no_more_than_may_be_published():
    places = (BASE, DISTILLED, MERGED, LORA.parent, perceive.WEIGHTS)
    files = [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= publish.MOST


def test_the_merge_is_the_one_that_the_command_makes_of_the_other_three(tmp_path):
    out = tmp_path / "merged.safetensors"
    given = ["--base", BASE / TRANSFORMER, "--distilled", DISTILLED / TRANSFORMER, "--lora", LORA, "--beta", beta()]
    assert main(["merge", *map(str, given), "--out", str(out), "--json"]) == 0
    made, shipped = load_file(out), load_file(MERGED / TRANSFORMER)
    assert made.keys() == shipped.keys() and all(torch.equal(made[name], shipped[name]) for name in made)


@pytest.mark.parametrize(("things", "count", "least"), [(1, 20, 18), (2, 10, 7)])
def test_easy_briefs_are_drawn_at_once(merged, things, count, least):
    found = sticker_weights.one_shot(merged, things, count, 5, SILENT)
    assert found["words aside"]["found"] >= least and found["unclear"]["found"] <= count - least


@needs_art
@pytest.mark.parametrize("kind", ["put", "remove", "recolor"])
def test_edits_do_what_they_say_and_nothing_else(merged, kind):
    found = sticker_weights.edits(merged, kind, 10, 6, SILENT)
    assert found["target"]["found"] >= 7
    assert found["whole"]["found"] >= 6


@pytest.mark.parametrize(("letters", "least"), [(1, 8), (3, 6)])
def test_words_on_signs_can_be_read(merged, letters, least):
    assert sticker_weights.lettering(merged, letters, 10, 7, SILENT)["word"]["found"] >= least


def test_the_latents_that_the_weights_draw_are_decoded_as_what_they_mean(merged):
    """A decoder that was taught its encoder's latents alone draws other letters from these."""
    drawn = drawn_latents(MERGED, load_layer(BASE), 100, 3, torch.device("cpu"), lambda line: None)
    vae = merged.pipe.vae
    with torch.no_grad():
        shown = torch.cat([vae.decode(part, return_dict=False)[0] for part in drawn.latents[:48].split(16)])
    pictures = list(to_uint8(shown / 2 + 0.5))
    same = [NOUN, LOOK, SIZE, *range(WORD, FIELDS)]
    seen = codes([each.scene() for each in perceive.read(pictures, perceive.reader())])[0][..., same]
    cells = drawn.cells[:48].numpy()[..., same]
    signs = cells[..., 0] == THINGS.index(SIGN)
    right = (seen == cells).all(-1)
    assert signs.sum() > 15 and right[signs].mean() > 0.6 and right[(cells[..., 0] > 0) & ~signs].mean() > 0.9


@needs_art
class TestTheReader:
    def scenes(self, seed: int, count: int = 100):
        rng = random.Random(seed)
        return [sticker_reader.any_scene(rng, 1 + number % 9) for number in range(count)]

    @pytest.mark.parametrize(("condition", "least"), [("clean", 98), ("noise 10", 95), ("4 x up and down", 95)])
    def test_reads_what_is_rendered(self, condition, least):
        found = sticker_reader.reading(self.scenes(11), sticker_reader.CONDITIONS[condition], SILENT)
        assert found["exact"]["found"] >= least

    def test_takes_no_scene_for_another(self):
        assert sticker_reader.false_accepts(120, 12, SILENT)["which"] == []

    def test_calls_damage_unclear_and_what_stands_beside_it_clear(self):
        found = sticker_reader.damage(64, 13, SILENT)
        assert found["unclear"]["share"] >= 0.85 and found["unclear"]["of"] > 40
        assert found["intact cells beside them unclear"]["share"] <= 0.02
