"""A folder of a vision-language model as teacher, judge and reward, with random weights of the embedded one's class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.models.registry import load_judge, load_vlm
from clvr_core.stickers.neural import NeuralVlm
from clvr_core.training.rewards import VlmReward, named
from clvr_core.vlm.decisions import word
from clvr_core.vlm.local import Local, load_local
from tests.training.small_vlm import save_small, small_config
from tests.training.test_tuning import PPRL

pytestmark = pytest.mark.usefixtures("oracle_world")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its words Yes and No are opposite and long, so that each answer begins with one of them."""
    folder = save_small(tmp_path_factory.mktemp("vlm") / "small")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    (embedding,) = (tensors[name] for name in tensors if name.endswith("embed_tokens.weight"))
    towards = 100 * torch.nn.functional.normalize(torch.randn(embedding.shape[1]), dim=0)
    for text, token in AutoTokenizer.from_pretrained(folder).get_vocab().items():
        if word(text) in ("yes", "no"):
            embedding[token] = towards if word(text) == "yes" else -towards
    save_file(tensors, file, {"format": "pt"})
    return folder


def test_pprl_asks_the_model_of_the_folder_for_its_rewards(tiny, rows, folder, tmp_path, monkeypatch):
    """Each picture of a group gets what this model decides about it."""
    asked: list[str] = []
    said: list[float] = []
    decide = NeuralVlm.decide

    def heard(self: NeuralVlm, images: Any, questions: Any) -> Any:
        decisions = decide(self, images, questions)
        asked.append(self.name)
        said.extend(decision.yes for decision in decisions if decision.yes is not None)
        return decisions

    monkeypatch.setattr(NeuralVlm, "decide", heard)
    schedule = PPRL["schedule"] | {"steps": 2}
    settings = PPRL | {"groups": 1, "size": 2, "measured": 1, "generate": 1.0, "schedule": schedule}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings))
    options = ["--from", tiny, "--data", rows, "--reward", folder, "--config", config, "--out", tmp_path / "out"]
    assert main(["train", "stickers", "pprl", *map(str, options)]) == 0
    assert asked == ["stickers (neural, small)"] * 2 and len(said) == 2
    lines = [json.loads(line) for line in (tmp_path / "out" / "measures.jsonl").read_text().splitlines()]
    (drawn,) = [line for line in lines if "reward" in line]
    assert drawn["unanswered"] == 0 and drawn["reward"] == pytest.approx(sum(said) / 2, abs=1e-5)


def test_a_folder_is_one_model_wherever_one_is_named(folder):
    judge, reward = load_judge(str(folder)), named(str(folder))
    assert isinstance(judge, NeuralVlm) and judge.name == "stickers (neural, small)"
    assert isinstance(load_vlm(str(folder), "controller"), NeuralVlm)
    assert isinstance(reward, VlmReward) and isinstance(reward.vlm, NeuralVlm)


def test_a_model_of_another_make_is_shown_pictures_first(folder, tmp_path):
    """Random weights see nothing, and a blind judge would be found out by nobody."""
    other = save_small(tmp_path / "other")
    config = small_config()
    config.vision_config.patch_size = 16
    Qwen3VLForConditionalGeneration(config).save_pretrained(other)
    processor = other / "preprocessor_config.json"
    processor.write_text(json.dumps(json.loads(processor.read_text()) | {"patch_size": 16}))
    load_local(Local(str(other), "cpu"))
    with pytest.raises(BadInput, match="give another folder than"):
        load_vlm(str(other), "verifier")


def test_what_holds_no_such_model_is_told_in_a_sentence(folder, tmp_path, capsys):
    gone, empty, bare = tmp_path / "gone", tmp_path / "empty", tmp_path / "bare"
    empty.mkdir()
    bare.mkdir()
    (bare / "config.json").write_text((folder / "config.json").read_text())
    words = tmp_path / "words"
    words.mkdir()
    (words / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(BadInput, match=r"unknown judge .*gone.*folder of a vision-language model"):
        load_judge(str(gone))
    for wrong, sentence in (
        (gone, "no folder is there"),
        (empty, "there is no config.json in it"),
        (bare, "there are no weights of the learned model"),
        (words, "has no vision part"),
    ):
        with pytest.raises(BadInput, match=sentence):
            named(str(wrong))
    options = ["--out", tmp_path / "out", "--data", tmp_path, "--teacher"]
    for wrong, sentence in ((gone, f"unknown controller {str(gone)!r}"), (empty, f"the folder {empty} holds no")):
        assert main(["train", "vlm", "sft", *map(str, options), str(wrong)]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
