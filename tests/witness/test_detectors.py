"""Detectors of the real classes with tiny random weights, loaded from folders."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from clvr_core.brief import Goal
from clvr_core.errors import BadInput
from clvr_core.trajectory import Finding
from clvr_core.witness import detectors, florence2
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


@pytest.fixture(scope="module")
def sam3(tmp_path_factory):
    """As it is published: the detector inside of the model of videos."""
    from transformers import CLIPTokenizer, Sam3Config, Sam3Model

    plain = tmp_path_factory.mktemp("sam3")
    letters = [chr(code) for code in range(97, 123)]
    tokens = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (plain / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (plain / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(plain / "vocab.json"), str(plain / "merges.txt"), pad_token="!").save_pretrained(plain)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    layer = {**small, "num_layers": 1}
    sight = {"image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1], "num_hidden_layers": 2}
    frames = {"fpn_hidden_size": 32, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    ids = {"vocab_size": len(tokens), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    words = {**small, **ids, "num_hidden_layers": 1, "projection_dim": 16, "max_position_embeddings": 32}
    config = Sam3Config(
        vision_config={"backbone_config": {"model_type": "sam3_vit_model", **small, **sight}, **frames},
        text_config={"model_type": "clip_text_model", **words},
        geometry_encoder_config=layer,
        detr_encoder_config=layer,
        detr_decoder_config={**layer, "num_queries": 6},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    torch.manual_seed(SEED)
    model = Sam3Model(config)
    model.save_pretrained(plain)
    frame = {"size": {"height": 56, "width": 56}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    (plain / "processor_config.json").write_text(json.dumps({"image_processor": frame}))
    published = tmp_path_factory.mktemp("sam3_published")
    shutil.copytree(plain, published, dirs_exist_ok=True)
    whole = {"model_type": "sam3_video", "architectures": ["Sam3VideoModel"], "detector_config": config.to_dict()}
    (published / "config.json").write_text(json.dumps(whole))
    tensors = {f"detector_model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file({**tensors, "tracker_model.some": torch.zeros(1)}, published / "model.safetensors", {"format": "pt"})
    return plain, published


@pytest.fixture(scope="module")
def florence(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    out = tmp_path_factory.mktemp("florence")
    words = ["<s>", "<pad>", "</s>", "<unk>", "Locate", "in", "the", "image", ".", "cat", "dog"]
    pieces = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, extra_special_tokens={"image_token": "<image>"}, **marks
    )
    tokenizer.add_tokens([*(f"<loc_{step}>" for step in range(1000)), "<poly>", "</poly>", "<sep>"])
    sight = {"depths": [1] * 4, "embed_dim": [8, 8, 8, 16], "num_heads": [1, 1, 1, 2], "num_groups": [1, 1, 1, 2]}
    sight |= {"window_size": 2, "projection_dim": 16, "max_position_embeddings": 8, "max_temporal_embeddings": 2}
    sizes = {
        f"{part}_{what}": size
        for part in ("encoder", "decoder")
        for what, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
    }
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    reply = {"model_type": "bart", "vocab_size": len(tokenizer), "d_model": 16, "max_position_embeddings": 64}
    config = Florence2Config(
        image_token_id=tokenizer.image_token_id, vision_config=sight, text_config={**reply, **sizes, **ids}
    )
    torch.manual_seed(SEED)
    model = Florence2ForConditionalGeneration(config)
    with torch.no_grad():  # it says places alone: the greatest of a thousand logits is above those of the words, 0
        model.get_output_embeddings().weight[: len(words) + 1] = 0
    model.save_pretrained(out)
    frames = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False, image_seq_length=5)
    Florence2Processor(frames, tokenizer, post_processor_config={}).save_pretrained(out)
    return out


@pytest.fixture
def of_words(sam3, florence, monkeypatch):
    monkeypatch.setattr(florence2, "LONGEST", 16)
    return {"sam3": sam3[1], "florence": florence}


@pytest.mark.parametrize("kind", ["sam3", "florence"])
def test_the_newer_ones_find_any_words_too(kind, of_words):
    detector = load_detector(of_words[kind])
    found = detector.find(PICTURE, ["cat", "dog"])
    assert {one.name for one in found} == {"cat", "dog"} and detector.knows("unicorn")
    for one in found:
        left, top, right, bottom = one.box
        assert 0 <= one.score <= 1 and 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1
    assert detector.find(PICTURE, []) == [] and "/" not in detector.name


def test_sam_3_alone_and_as_published_are_one(sam3):
    plain, published = (load_detector(folder).find(PICTURE, ["cat", "dog"]) for folder in sam3)
    assert plain == published and len(plain) == 12


def test_sam_3_says_what_its_own_classes_say(sam3):
    """The picture is prepared as transformers' own processor does it, which needs torchvision."""
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    from transformers import Sam3ImageProcessor, Sam3Model, Sam3Processor

    folder = sam3[0]
    detector = load_detector(folder)
    theirs = Sam3Processor(Sam3ImageProcessor(size={"height": 56, "width": 56}), detector.run._words)
    inputs = theirs(images=Image.fromarray(PICTURE), text="cat", return_tensors="pt")
    with torch.inference_mode():
        told = Sam3Model.from_pretrained(folder).eval()(**inputs)
    (want,) = theirs.post_process_object_detection(told, threshold=0.0, target_sizes=[PICTURE.shape[:2]])
    mine = detector.detect(PICTURE, ["cat"])
    assert [one.score for one in mine] == pytest.approx(want["scores"].tolist(), abs=1e-3)
    assert np.array([one.box for one in mine]) == pytest.approx(want["boxes"].numpy(), abs=0.1)


def test_florence_2_with_code_of_its_own_is_refused(florence, tmp_path):
    for path in florence.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((florence / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "code.Config"}}))
    with pytest.raises(BadInput, match=r"brings code of its own, which is not run; take .*florence-community"):
        load_detector(tmp_path)


@pytest.mark.parametrize(
    "kind, name, version", [("sam3", "Sam3Model", "5.0"), ("florence", "Florence2ForConditionalGeneration", "4.56")]
)
def test_an_older_transformers_is_told_which_one_to_install(kind, name, version, of_words, monkeypatch):
    import transformers

    monkeypatch.setattr(transformers, name, None)
    with pytest.raises(
        BadInput, match=rf"which transformers .* does not have; install transformers {version} or newer"
    ):
        load_detector(of_words[kind])


@pytest.mark.parametrize("kind", ["sam3", "florence"])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "processor_config.json", "config.json"])
def test_a_damaged_folder_of_the_newer_ones_is_refused(kind, file, of_words, tmp_path):
    for path in of_words[kind].iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[:50] if path.name == file else content)
    with pytest.raises(BadInput, match="cannot be loaded from"):
        load_detector(tmp_path)


def test_a_reply_of_florence_2_becomes_boxes_with_scores():
    words = "cat 1 2 3 4 5 6 7 8 dog <poly> 10 1 5 9 7 30 <sep> 1 1 2 2 </poly> 9 9 1 1 2 </s>".split()
    tokens = [f"<loc_{word}>" if word.isdigit() else word for word in words]
    chances = [1.0, 0.9, 0.9, 0.9, 0.9, 0.4, 0.9, 0.4, 0.9, *[1.0] * (len(words) - 9)]
    found = florence2.placed(tokens, chances)
    boxes = [box for box, _ in found]
    assert boxes == [(1, 2, 3, 4), (5, 6, 7, 8), (5, 1, 10, 30), (1, 1, 2, 2)], "the last one is turned about"
    assert [round(score, 3) for _, score in found] == [0.9, 0.6, 1.0, 1.0]


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
