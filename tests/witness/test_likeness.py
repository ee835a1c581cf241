"""How near a picture is to a reference: by real classes with tiny random weights, and by vectors made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clvr_core.brief import Goal, Reference, likeness_goals
from clvr_core.errors import BadInput
from clvr_core.models.witnesses import WitnessSettings, read_witnesses
from clvr_core.witness import Comparing, Witnesses
from clvr_core.witness.likeness import LikenessWitness, load_embedder
from tests.fakes import grey

(GOAL,) = likeness_goals([Reference("ann", "00", "face")])
RED, BLUE = (np.zeros((32, 48, 3), np.uint8) for _ in range(2))
RED[..., 0] = BLUE[..., 2] = 200


class Colours:
    """The direction of a picture's mean colour."""

    name = "colours"

    def __init__(self):
        self.seen = []

    def embed(self, pictures):
        self.seen += list(pictures)
        means = np.array([picture.reshape(-1, 3).mean(0) + 1e-6 for picture in pictures], np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def said(picture, goal=GOAL, reference=RED, alike=0.9):
    return LikenessWitness(Colours(), alike).compare(picture, [goal], {"ann": reference}).get(goal.id)


def mixed(share):
    """Red over this share of the width, blue over the rest."""
    picture = BLUE.copy()
    picture[:, : round(48 * share)] = RED[0, 0]
    return picture


def test_the_same_and_another():
    same, other = said(RED), said(BLUE)
    assert (same.says, same.strength, same.boxes) == ("yes", 1.0, ((0.0, 0.0, 1.0, 1.0),))
    assert same.words == '1.00 like the reference "ann", where 0.9 is alike'
    assert (other.says, other.boxes, other.fault) == ("no", (), None)


def test_a_part_of_the_picture_is_enough_and_is_named():
    found = said(mixed(0.5))
    assert found.says == "yes" and found.boxes == ((0.0, 0.0, 0.5, 0.5),)


def test_just_below_the_limit_it_says_nothing():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[...] = (200, 100, 0)
    near = 2 / 5**0.5
    assert said(picture, alike=near + 0.01) is None
    assert said(picture, alike=near - 0.01).says == "yes" and said(picture, alike=0.999).says == "no"


def test_where_the_goal_names_a_place_only_that_and_the_whole_count():
    right = Goal("r1", "kept", "likeness", area=(0.5, 0.0, 1.0, 1.0), reference="ann")
    assert said(mixed(0.5), right).says == "no"
    assert said(mixed(0.5)[:, ::-1].copy(), right).boxes == (right.area,)


def test_other_goals_and_other_references_are_left_alone():
    witness = LikenessWitness(Colours(), 0.9)
    assert witness.look(RED, [GOAL]) == {}
    assert witness.compare(RED, [GOAL], {"ben": RED}) == {}
    assert witness.compare(RED, [Goal("g1", "the face of ann is kept")], {"ann": RED}) == {}
    assert isinstance(witness, Comparing)


def test_a_reference_is_embedded_once_and_a_huge_picture_is_shrunk():
    embedder = Colours()
    witness, huge = LikenessWitness(embedder, 0.9), np.zeros((4000, 60, 3), np.uint8)
    for _ in range(2):
        witness.compare(huge, [GOAL], {"ann": RED})
    assert sum(picture.shape == RED.shape for picture in embedder.seen) == 1
    assert max(max(picture.shape) for picture in embedder.seen) <= 768


def test_among_witnesses_it_gets_the_references():
    witnesses = Witnesses([LikenessWitness(Colours(), 0.9)])
    assert witnesses.look(RED, [GOAL], references={"ann": RED}).said["r1"][0].says == "yes"
    assert not witnesses.look(RED, [GOAL]).said and witnesses.kinds == {"likeness": witnesses.name}


def dinov2(out):
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(image_size=28, patch_size=14, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    Dinov2Model(config).save_pretrained(out)
    size = {"height": 28, "width": 28}
    BitImageProcessor(size={"shortest_edge": 28}, crop_size=size, do_center_crop=True).save_pretrained(out)


def siglip2(out):
    from transformers import Siglip2Config, Siglip2Model
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Siglip2Config(
        text_config={**small, "vocab_size": 32}, vision_config={**small, "num_patches": 16, "patch_size": 8}
    )
    Siglip2Model(config).save_pretrained(out)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(out)


def clip(out):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 32}, vision_config={**small, "image_size": 32, "patch_size": 16}
    )
    CLIPModel(config).save_pretrained(out)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(out)


@pytest.mark.parametrize("make", [dinov2, siglip2, clip])
def test_real_classes_give_a_vector_of_length_1_for_each_picture(make, tmp_path):
    import torch

    torch.manual_seed(0)
    make(tmp_path)
    embedder = load_embedder(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    vectors = embedder.embed([RED, noise, RED])
    assert vectors.dtype == np.float32 and len(vectors) == 3
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[2] > 0.9999 > vectors[0] @ vectors[1]
    assert "/" not in embedder.name and tmp_path.name in embedder.name
    found = LikenessWitness(embedder, 0.98).compare(RED, [GOAL], {"ann": RED})["r1"]
    assert found.says == "yes"


def test_a_folder_without_such_a_model_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(BadInput, match="give the folder of an image model for transformers"):
            load_embedder(folder)
    dinov2(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:100])
    with pytest.raises(BadInput, match="the model of likeness cannot be loaded"):
        load_embedder(tmp_path)


def test_the_similarity_comes_with_the_model():
    assert read_witnesses("likeness=models/dinov2@0.62") == WitnessSettings(likeness="models/dinov2", alike=0.62)
    for words in ("likeness", "likeness=models/dinov2", "likeness=models/dinov2@2"):
        with pytest.raises(BadInput, match=r"likeness=FOLDER@0\.6"):
            read_witnesses(words)
    with pytest.raises(BadInput, match="alike is 0; give the similarity"):
        WitnessSettings(likeness="models/dinov2")
    with pytest.raises(BadInput, match="must lie between 0 and 1"):
        LikenessWitness(Colours(), 1.5)


def test_a_grey_picture_is_like_a_grey_reference_of_another_size():
    assert said(grey(100, 17, 5), reference=grey(50, 64, 64)).says == "yes"
