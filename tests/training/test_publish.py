"""The weights of a training into a package, on tiny weights in each role."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from clvr_core.cli import main
from clvr_core.executor.klein import KleinExecutor
from clvr_core.models.executors import with_settings
from clvr_core.protocols import DrawRequest
from clvr_core.stickers.reader import Reader
from clvr_core.training import publish as publishing
from clvr_core.weights.shared import FILE, files_of
from clvr_core.world import world_of


@pytest.fixture
def made(tiny, tmp_path):
    """What a training leaves: a student of other steps, a merge of another text encoder."""
    for name in ("student", "merged"):
        shutil.copytree(tiny, tmp_path / name)
        (tmp_path / name / "clvr_files.json").unlink()
    encoder = tmp_path / "merged" / "text_encoder" / "model.safetensors"
    save_file({name: value * 2 for name, value in load_file(encoder).items()}, encoder, {"format": "pt"})
    (tmp_path / "lora").mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    save_file(Reader().state_dict(), tmp_path / "reader.safetensors")
    (tmp_path / "out" / "merged").mkdir(parents=True)
    (tmp_path / "out" / "merged" / "old").touch()
    (tmp_path / "out" / "__init__.py").touch()
    (tmp_path / "base").symlink_to(tiny)
    return tmp_path


def command(made, **other) -> list[str]:
    given = {"base": made / "base", "student": made / "student", "lora": made / "lora", "merged": made / "merged"}
    given |= {"reader": made / "reader.safetensors", "out": made / "out"} | other
    return [
        "train",
        "stickers",
        "publish",
        *(str(text) for name, value in given.items() for text in (f"--{name}", value)),
    ]


def test_what_is_alike_lies_there_once_and_draws_as_before(made, capsys):
    assert main(command(made)) == 0
    out = made / "out"
    assert {each.name for each in out.iterdir()} == {
        *("weights", "distilled", "merged", "aligned", "reader.safetensors", "__init__.py")
    }
    assert json.loads((out / "distilled" / FILE).read_text())["parts"] == ["vae", "text_encoder", "tokenizer"]
    assert json.loads((out / "merged" / FILE).read_text())["parts"] == ["vae", "tokenizer"]
    assert not (out / "weights" / FILE).exists() and not (out / "merged" / "old").exists()
    assert set(files_of(out / "merged")) == set(files_of(made / "merged"))
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert f"{written / 1e6:.1f} MB  all" in capsys.readouterr().out
    for name in ("student", "merged"):
        place = out / {"student": "distilled"}.get(name, name)
        assert world_of(place).name == "stickers"
        request = [DrawRequest("a large red cat", 3, width=192, height=192)]
        before, after = map(KleinExecutor.load, (made / name, place))
        before.recipe = after.recipe = with_settings(before.recipe, 1, 1.0)
        np.testing.assert_array_equal(*(each.draw(request)[0].picture for each in (before, after)))


def test_nothing_is_written_where_something_is_missing_or_too_large(made, capsys, monkeypatch):
    (made / "lora" / "pytorch_lora_weights.safetensors").rename(made / "lora" / "other")
    assert main(command(made)) == 2 and "there is no pytorch_lora_weights.safetensors in" in capsys.readouterr().err
    assert main(command(made, merged=made / "none")) == 2 and "cannot be loaded" in capsys.readouterr().err
    (made / "lora" / "other").rename(made / "lora" / "pytorch_lora_weights.safetensors")
    monkeypatch.setattr(publishing, "MOST", 1000)
    assert main(command(made)) == 2 and "and may take 1,000; make a part smaller" in capsys.readouterr().err
    assert {each.name for each in (made / "out").iterdir()} == {"merged", "__init__.py"}
    assert (made / "out" / "merged" / "old").exists()
