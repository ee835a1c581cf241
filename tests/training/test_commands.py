"""The stages after the base, by their commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clvr_core.cli import main
from clvr_core.executor.klein import KleinExecutor, Sampling
from clvr_core.executor.small_klein import save_pipeline
from clvr_core.protocols import DrawRequest
from clvr_core.stickers.model import RECIPE
from clvr_core.training import distil, pprl, sft, sticker_command
from clvr_core.training.merged import TRANSFORMER
from clvr_core.training.sticker_command import STAGES, USED, times
from clvr_core.world import world_of
from tests.executor.small import klein
from tests.training.world import WORLD, Brightness

pytestmark = pytest.mark.usefixtures("oracle_world")
SCHEDULE = {"steps": 4, "lr": 0.01, "warmup": 1, "log_every": 1, "save_every": 2, "ema": 0.5}
LORA = {"rank": 2, "alpha": 2}
STUDENT = {
    "generate": {"steps": 4, "guidance": 2.0},
    "edit": {"steps": 4},
    "paths": 4,
    "shard": 2,
    "share": {"t2i": 0.5, "edit": 0.5},
    "batch": 2,
    "schedule": SCHEDULE,
}
SFT = {"batch": 2, "lora": LORA, "replay": 0.5, "schedule": SCHEDULE}
PPRL = {"groups": 1, "size": 2, "measured": 1, "sampling": {"steps": 1}, "lora": LORA, "schedule": SCHEDULE}


def train(folder: Path, stage: str, settings: dict, *options: object) -> int:
    folder.mkdir(exist_ok=True)
    config = folder / f"{stage}.json"
    config.write_text(json.dumps(settings))
    words = ("train", "stickers", stage, "--config", config, "--seed", 3, *options)
    return main([str(word) for word in words])


@pytest.mark.parametrize(
    ("stage", "settings", "objective", "file"),
    [
        ("student", STUDENT, distil.Imitation, f"weights/{TRANSFORMER}"),
        ("sft", SFT, sft.Following, "lora/pytorch_lora_weights.safetensors"),
        ("pprl", PPRL, pprl.Learning, "lora/pytorch_lora_weights.safetensors"),
    ],
)
def test_a_stage_that_was_killed_goes_on_to_the_same_weights(
    tiny, rows, tmp_path, monkeypatch, stage, settings, objective, file
):
    options = ["--from", tiny, *(["--data", rows] if stage != "student" else [])]
    options += ["--reward", f"{Brightness.__module__}:Brightness"] if stage == "pprl" else []
    assert train(tmp_path, stage, settings, "--out", tmp_path / "whole", *options) == 0
    calls, forward = [], objective.forward

    def killed(self, *inputs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(self, *inputs)

    monkeypatch.setattr(objective, "forward", killed)
    assert train(tmp_path, stage, settings, "--out", tmp_path / "cut", *options) == 130
    assert train(tmp_path, stage, settings, "--out", tmp_path / "cut", *options) == 0
    one, other = load_file(tmp_path / "whole" / file), load_file(tmp_path / "cut" / file)
    assert one and all(torch.equal(one[name], other[name]) for name in one)


def test_the_merge_draws_as_the_student_does(tiny, rows, tmp_path):
    few = STUDENT | {"paths": 2, "schedule": SCHEDULE | {"steps": 2}}
    assert train(tmp_path, "student", few, "--from", tiny, "--out", tmp_path / "student") == 0
    tuned = SFT | {"schedule": SCHEDULE | {"steps": 2}}
    assert train(tmp_path, "sft", tuned, "--from", tiny, "--data", rows, "--out", tmp_path / "sft") == 0
    student, lora, out = tmp_path / "student" / "weights", tmp_path / "sft" / "lora", tmp_path / "merged"
    words = ["train", "stickers", "merged", "--from", tiny, "--distilled", student, "--lora", lora, "--out", out]
    assert main([str(word) for word in words]) == 0
    executor = KleinExecutor.load(out / "weights")
    assert world_of(out / "weights") is WORLD and executor.recipe.edit == Sampling(4) and executor.distilled
    assert executor.draw([DrawRequest("a red cat", 1, (), 192, 192)])[0].nfe == 4


def test_weights_of_no_embedded_world_are_refused(tmp_path, capsys):
    save_pipeline(klein(), tmp_path / "small", RECIPE)
    options = ["--out", str(tmp_path / "out"), "--from", str(tmp_path / "small")]
    assert main(["train", "stickers", "student", *options]) == 2
    assert "draw 96 px, so they are of no embedded world (stickers 192)" in capsys.readouterr().err


def test_the_former_world_is_trained_no_more(tmp_path, capsys):
    assert main(["train", "shapes", "pprl", "--out", str(tmp_path / "out"), "--seed", "3"]) == 2
    assert "the shapes world is no longer part of clvr; train the embedded one with `clvr train stickers`" in (
        capsys.readouterr().err
    )


class TestAllStages:
    @pytest.fixture
    def commands(self, tmp_path, monkeypatch) -> dict[str, tuple[list[str], float | None, str | None]]:
        """What would have run, in order: words after the program, seconds, and the reader that was named."""
        found = {}

        def run(several, seconds, environment):
            for log, words in several:
                found[log.stem] = words[3:], seconds, environment.get("CLVR_READER")
                out = log.with_suffix("")
                out.mkdir(exist_ok=True)
                (out / {"reader": "reader.safetensors"}.get(log.stem, "encoder.safetensors")).touch()

        monkeypatch.delenv("CLVR_READER", raising=False)
        monkeypatch.setattr(sticker_command, "_run", run)
        monkeypatch.setattr(sticker_command, "_joined", lambda out: None)
        return found

    def test_follow_each_other_on_what_those_before_have_made(self, commands, tmp_path):
        given = {"trajectories": {"count": 7}, "merged": {"beta": 0.7}, "sft": {"batch": 3}}
        (tmp_path / "given.json").write_text(json.dumps(given))
        words = ["train", "stickers", "all", "--out", tmp_path, "--seconds", 1000, "--config", tmp_path / "given.json"]
        assert main([str(word) for word in words]) == 0
        parts = ["encoder", "decoder", "flow", "reader", "student", "trajectories", "sft", "pprl", "merged"]
        assert list(commands) == parts
        base, reader = str(tmp_path / "base" / "weights"), str(tmp_path / "reader" / "reader.safetensors")
        made, seconds, read_by = commands["trajectories"]
        assert made[:3] == ["synthesize", "--models", base] and made[made.index("--count") + 1] == "7"
        assert seconds == times(STAGES, 1000)["trajectories"] and read_by == reader
        assert commands["student"][2] is None and commands["pprl"][2] == reader
        assert str(tmp_path / "sft" / "lora") in commands["pprl"][0]
        merged = commands["merged"][0]
        assert merged[-2:] == ["--beta", "0.7"] and str(tmp_path / "pprl" / "lora") in merged
        tuned = json.loads((tmp_path / "sft.json").read_text())
        assert tuned["batch"] == 3 and tuned["schedule"]["steps"] > 1 and tuned["schedule"]["seconds"] < 1000

    def test_are_left_out_where_others_are_named(self, commands, tmp_path):
        words = ["train", "stickers", "all", "--out", tmp_path, "--seconds", 10, "--stages", "reader,student"]
        assert main([str(word) for word in words]) == 0
        assert list(commands) == ["reader", "student"]

    def test_are_interrupted_where_their_time_is_a_limit(self, tmp_path):
        """What waits for ever comes back, and what it has done by then is enough."""
        program = "import signal; signal.pause()"
        sticker_command._run([(tmp_path / "log", [sys.executable, "-c", program])], 0.1, os.environ)

    def test_end_with_the_last_lines_of_one_that_fails(self, tmp_path, capsys):
        words = ["train", "stickers", "all", "--out", tmp_path, "--seconds", 10, "--stages", "merged"]
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr().err
        assert "merged did not end well" in said and "base/weights are not there" in said.replace("\\", "/")


class TestTheTimeOfAllStages:
    def test_is_divided_among_those_that_follow_each_other(self):
        found = times(STAGES, 1000)
        assert found["decoder"] == found["flow"] and found["reader"] == found["student"]
        following = ("encoder", "flow", "student", "trajectories", "sft", "pprl")
        assert sum(found[name] for name in following) == pytest.approx(USED * 1000)

    def test_is_longer_for_fewer(self):
        assert set(times(("base",), 1000)) == {"encoder", "decoder", "flow"}
        assert times(("base", "student"), 1000)["flow"] > times(STAGES, 1000)["flow"]

    def test_is_for_each_by_itself_where_nothing_is_side_by_side(self):
        assert sum(times(STAGES, 1000, in_turn=True).values()) == pytest.approx(USED * 1000)

    def test_an_unknown_stage_is_named(self, tmp_path, capsys):
        options = ["--out", str(tmp_path / "out"), "--seconds", "10", "--stages", "base,legs"]
        assert main(["train", "stickers", "all", *options]) == 2
        assert "--stages base,legs: choose of base, reader, student" in capsys.readouterr().err
