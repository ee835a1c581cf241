"""Detectors of the real classes with tiny random weights, loaded from folders."""

import json

import numpy as np
import pytest
import torch

from clvr_core.brief import Goal
from clvr_core.errors import BadInput
from clvr_core.trajectory import Finding
from clvr_core.witness import detectors
from clvr_core.witness.detectors import ObjectDetector, load_detector
from clvr_core.witness.objects import ObjectWitness
from clvr_core.witness.things import Limits

SEED = 1
"""Of the random weights: one with which the detector of words gives boxes to both names."""
PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def owl(tmp_path_factory):
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    out = tmp_path_factory.mktemp("owl")
    letters = [chr(code) for code in range(97, 123)]
    tokens = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (out / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (out / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(out / "vocab.json"), str(out / "merges.txt"), model_max_length=32, pad_token="!")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": len(tokens), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = Owlv2Config(
        text_config={**small, **ids, "max_position_embeddings": 32},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(SEED)
    Owlv2ForObjectDetection(config).save_pretrained(out)
    Owlv2Processor(Owlv2ImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        SwinConfig,
    )
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    out = tmp_path_factory.mktemp("dino")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "a", "cat", "dog"]
    (out / "vocab.txt").write_text("\n".join(words))
    swin = SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )
    bert = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    sizes = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        num_queries=6,
        d_model=32,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_text_len=64,
        **sizes,
    )
    torch.manual_seed(SEED)
    GroundingDinoForObjectDetection(config).save_pretrained(out)
    frames = GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 192})
    GroundingDinoProcessor(frames, BertTokenizer(vocab=str(out / "vocab.txt"))).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def yolos(tmp_path_factory):
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    out = tmp_path_factory.mktemp("yolos")
    names = {0: "Cats", 1: "dog"}
    config = YolosConfig(
        image_size=[32, 32],
        patch_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_detection_tokens=5,
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    torch.manual_seed(SEED)
    YolosForObjectDetection(config).save_pretrained(out)
    YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 32}).save_pretrained(out)
    return out


@pytest.mark.parametrize("kind", ["owl", "dino", "yolos"])
def test_each_class_finds_boxes_inside_the_picture(kind, request):
    detector = load_detector(request.getfixturevalue(kind))
    found = detector.find(PICTURE, ["cat", "dog"])
    assert found and {one.name for one in found} <= {"cat", "dog"}
    for one in found:
        left, top, right, bottom = one.box
        assert 0 <= one.score <= 1 and 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1
    assert detector.knows("cat") and detector.knows("unicorn") == (kind != "yolos")
    assert "/" not in detector.name


def test_an_owl_without_scipy_is_refused_with_the_package_to_install(owl, yolos, monkeypatch):
    monkeypatch.setattr(detectors, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"is an OWLv2.*scipy is not installed; pip install scipy, .*clvr\[objects\]$"):
        load_detector(owl)
    assert load_detector(yolos).knows("cat"), "which needs none"


def test_of_the_owl_each_name_gets_its_own_boxes(owl):
    found = load_detector(owl).find(PICTURE, ["cat", "dog"])
    assert {one.name for one in found} == {"cat", "dog"}


def test_the_witness_of_a_real_class_speaks_or_is_silent_by_its_scores(owl):
    detector = load_detector(owl)
    highest = max(one.score for one in detector.find(PICTURE, ["cat"]))
    goals = [Goal("g1", "no cats")]
    sure = ObjectWitness(detector, Limits(seen=highest - 1e-6, perhaps=0.0)).look(PICTURE, goals)
    blind = ObjectWitness(detector, Limits(seen=1.1, perhaps=1.1)).look(PICTURE, goals)
    assert sure["g1"].says == "no" and blind["g1"] == Finding("objects", "yes", 1.0, 'finds 0 "cat"')


def test_a_folder_without_a_detector_is_refused(tmp_path, owl):
    (tmp_path / "config.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(BadInput, match="give the folder of a transformers model"):
            load_detector(folder)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in owl.iterdir():
        content = path.read_bytes()
        (damaged / path.name).write_bytes(content[:100] if path.suffix == ".safetensors" else content)
    with pytest.raises(BadInput, match=r"cannot be loaded from .*damaged"):
        load_detector(damaged)


def test_a_mask_becomes_its_box():
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:45] = 255
    rows = [{"label": "cat", "score": 0.9, "mask": mask}, {"label": "cat", "score": 0.8, "mask": 0 * mask}]
    (found,) = ObjectDetector("masks", lambda image, names: rows).find(PICTURE, ["cat"])
    assert found.box == (0.5, 0.25, 0.75, 0.5)
