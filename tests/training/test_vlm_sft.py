"""Supervised fine-tuning of a vision-language model: what is learnt from, that it is learnt, and that a run goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.stickers.simulated import picture_of
from clvr_core.synthesis.critique import erring_controller, read_critiques, synthesize_critiques
from clvr_core.synthesis.data import read_picture
from clvr_core.synthesis.lessons import FORMS, kept_runs
from clvr_core.training import fit as fitting
from clvr_core.training import vlm_sft as module
from clvr_core.training.vlm_sft import Learning, Rows, VlmSftConfig, vlm_sft
from clvr_core.vlm.local import Local, LocalVlm, load_local
from tests.fakes import FakeVlm
from tests.stickers.untrained import save_untrained
from tests.synthesis.kept import save_kept


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return save_kept(tmp_path_factory.mktemp("data"), count=3)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model") / "vlm", small=True)


@pytest.fixture(scope="module")
def vlm(start) -> LocalVlm:
    return load_local(Local(str(start), "cpu", "float32", image_side=192))


@pytest.fixture(scope="module")
def critiques(tmp_path_factory) -> Path:
    """A small data set of critiques, its pictures blocks of colour."""
    out = tmp_path_factory.mktemp("critiques") / "set"
    synthesize_critiques(out, 8, erring_controller(3), picture_of, seed=3, report=lambda line: None)
    return out


def config(folder: Path, **fields) -> Path:
    schedule = {"steps": 4, "lr": 2e-3, "warmup": 1, "ema": 0.0, "log_every": 1, "save_every": 2}
    path = folder / "given.json"
    path.write_text(json.dumps({"batch": 2, "schedule": schedule, **fields}))
    return path


def curve(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "sft" / "curve.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("form", FORMS)
def test_only_what_the_model_is_to_say_is_learnt_from(vlm, data, form):
    rows = Rows(vlm, data, kept_runs(data)[:1], VlmSftConfig(form=form), None)
    learnt: dict[str, list[str]] = {}
    for task, row in rows.every():
        ids = row.inputs(torch.device("cpu"))["input_ids"][0]
        told = vlm.processor.tokenizer.decode(ids[row.chosen])
        learnt.setdefault(task, []).append(told)
        assert vlm.model.config.image_token_id not in ids[row.chosen]
        assert all(not vlm.processor.tokenizer.decode(ids[: row.chosen[0]]).endswith(end) for end in ("{", "Yes", "No"))
    assert len(learnt["goals"]) == 1 and json.loads(learnt["goals"][0].removesuffix("<|im_end|>"))["goals"]
    said = [json.loads(text) for told in learnt["action"] for text in told.split("<|im_end|>") if text]
    assert [action["kind"] for action in said] == ["GENERATE", "EDIT", "EDIT"], "what was rolled back is not learnt"
    assert [action["edit_prompt"] for action in said] == ["", "add a cat", "hang a moon"]
    assert len(learnt["action"]) == (1 if form == "conversation" else 3)
    assert set(learnt["verdict"]) == {"Yes", "No"}


def test_the_loss_of_a_row_is_that_of_the_model_itself(vlm, data):
    """Against transformers' own loss, with every other token masked out."""
    rows = Rows(vlm, data, kept_runs(data)[:1], VlmSftConfig(), None)
    row = next(row for task, row in rows.every() if task == "action")
    given = row.inputs(torch.device("cpu"))
    labels = torch.full_like(given["input_ids"], -100)
    labels[0, row.chosen] = given["input_ids"][0, row.chosen]
    with torch.no_grad():
        own = vlm.model(**given, labels=labels).loss
        assert float(Learning(vlm.model)(row)) == pytest.approx(float(own), rel=1e-4)


@pytest.mark.parametrize("left_out", [("verdict",), ("goals", "action")])
def test_a_few_steps_lower_the_loss_and_the_weights_are_a_folder_of_the_same_kind(start, data, tmp_path, left_out):
    out = tmp_path / "out"
    schedule = {"steps": 12, "lr": 3e-3, "warmup": 1, "ema": 0.0, "log_every": 1, "save_every": 12}
    shares = dict.fromkeys(left_out, 0.0)
    folder = vlm_sft(out, start, data, config(tmp_path, schedule=schedule, held_out=1, measure_every=12, **shares))
    told = curve(out)
    assert sum(told[-3:]) < 0.8 * sum(told[:3]), told
    before, after = (json.loads(line) for line in (out / "measures.jsonl").read_text().splitlines())
    learnt = {"held_goals", "held_action", "held_verdict"} - {f"held_{task}" for task in left_out}
    assert before.keys() - {"step"} == learnt and all(after[name] < 0.9 * before[name] for name in learnt)
    record = json.loads((folder / "training.json").read_text())
    assert record["stage"] == "vlm sft" and record["runs"] == 2 and record["too_long"] == 0
    loaded = load_local(Local(str(folder), "cpu", "float32"))
    assert type(loaded.model).__name__ == "Qwen3VLForConditionalGeneration"


def test_a_run_that_was_killed_ends_with_the_same_weights(start, data, tmp_path, monkeypatch):
    whole = vlm_sft(tmp_path / "whole", start, data, config(tmp_path), seed=3)
    given, steps = config(tmp_path), []

    class Killed(Exception):
        pass

    draw = Rows.draw

    def killed(self, chance):
        steps.append(chance)
        if len(steps) > 2 * 3:  # in the fourth step, after the save at the second
            raise Killed
        return draw(self, chance)

    with monkeypatch.context() as patch:
        patch.setattr(module.Rows, "draw", killed)
        with pytest.raises(Killed):
            vlm_sft(tmp_path / "out", start, data, given, seed=3)
    assert (tmp_path / "out" / "sft" / fitting.STATE / fitting.COMPLETE).exists()
    resumed = vlm_sft(tmp_path / "out", start, data, given, seed=3)
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert curve(tmp_path / "out") == curve(tmp_path / "whole")


def test_a_lora_is_written_beside_the_whole_and_leaves_the_vision_part_alone(start, data, tmp_path):
    pytest.importorskip("peft")
    folder = vlm_sft(tmp_path / "out", start, data, config(tmp_path, lora={"rank": 4, "alpha": 4}))
    assert (tmp_path / "out" / "lora" / "adapter_model.safetensors").exists()
    before, after = (load_file(each / "model.safetensors") for each in (start, folder))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("language_model" in name for name in moved)


def test_a_critique_teaches_the_inspection_and_the_better_action(vlm, data, critiques):
    known = read_critiques(critiques)
    rows = Rows(vlm, data, [], VlmSftConfig(), None, (critiques, known))
    told = [(row, [vlm.processor.tokenizer.decode(row.tail[:-1] or row.tail)]) for task, row in rows.every()]
    better = [each for each in known if each.request and each.better]
    assert (
        len(told) == len(known) + len(better) and better and {each.part for each in known} == {"instruction", "picture"}
    )
    for each in known:
        images = [read_picture(critiques / name) for name in each.images]
        asked = vlm.question(images, each.question)
        (answers,) = [[said for row, said in told if row.prompt.keys == asked.keys]]
        assert [each.answer] in answers
    for each in better:
        assert each.schema["properties"]["kind"] and [each.better] in [said for _, said in told]
        assert list(json.loads(each.better)) == list(each.schema["properties"])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1e9, 40), (1.0, None)])
def test_the_share_of_critiques_is_that_of_the_config(vlm, data, critiques, share, expected):
    settings = VlmSftConfig(goals=0.5, action=0.5, verdict=0, critique=share)
    rows = Rows(vlm, data, kept_runs(data), settings, None, (critiques, read_critiques(critiques)))
    drawn = [rows.draw(random.Random(n)) for n in range(40)]
    own = {row.keys for task, row in rows.every() if task == "critique"}
    count = sum(row.keys in own for row in drawn)
    assert count == expected if expected is not None else 8 < count < 32
    without = Rows(vlm, data, kept_runs(data), settings, None)
    assert all(task != "critique" for task, _ in without.every())


def test_critiques_are_learnt_beside_runs_and_their_briefs_are_checked(start, data, critiques, tmp_path):
    schedule = {"steps": 2, "lr": 1e-3, "warmup": 1, "ema": 0.0, "log_every": 1, "save_every": 2}
    given = config(tmp_path, schedule=schedule, held_out=1, measure_every=2, critique=1.0)
    options = ["--start", start, "--data", data, "--critiques", critiques, "--config", given]
    assert main(["train", "vlm", "sft", "--out", str(tmp_path / "out"), *map(str, options)]) == 0
    record = json.loads((tmp_path / "out" / "weights" / "training.json").read_text())
    assert record["critiques"] == len(read_critiques(critiques)) - 1
    lines = [json.loads(line) for line in (tmp_path / "out" / "measures.jsonl").read_text().splitlines()]
    assert all("held_critique" in line for line in lines)
    listed = tmp_path / "geneval.txt"
    listed.write_text(f"a cow\n{read_critiques(critiques)[-1].brief}\n")
    with pytest.raises(BadInput, match=r"those of the benchmark geneval\.txt"):
        vlm_sft(tmp_path / "other", start, data, benchmarks=[listed], critiques=critiques)
    with pytest.raises(BadInput, match="other settings"):
        vlm_sft(tmp_path / "out", start, data, given)


def test_rows_that_are_too_long_are_left_out_and_counted(vlm, data):
    rows = Rows(vlm, data, kept_runs(data)[:1], VlmSftConfig(longest=300), None)
    tasks = [task for task, _ in rows.every()]
    assert rows.too_long >= 1 and "action" not in tasks and "verdict" in tasks


def test_a_task_without_lessons_is_named(vlm, tmp_path):
    data = save_kept(tmp_path / "data", count=1)
    rows = Rows(vlm, data, kept_runs(data), VlmSftConfig(goals=0, verdict=0, longest=10), None)
    with pytest.raises(BadInput, match="has no lessons of action"):
        rows.draw(random.Random(1))


def test_briefs_of_a_benchmark_are_refused(start, data, tmp_path):
    listed = tmp_path / "geneval.txt"
    listed.write_text("a cow\nA barn, a cat, and a moon!\n")
    with pytest.raises(BadInput, match=r"those of the benchmark geneval\.txt"):
        vlm_sft(tmp_path / "out", start, data, benchmarks=[listed])
    assert not (tmp_path / "out" / "sft").exists()


def test_the_command_takes_all_of_it(start, data, tmp_path, monkeypatch):
    listed = tmp_path / "geneval.txt"
    listed.write_text("a cow\n")
    teacher = FakeVlm(lambda messages: json.dumps({"reason": "I see what is missing."}))
    monkeypatch.setattr("clvr_core.models.registry.load_vlm", lambda name, part: {"controller": teacher}[part])
    given = config(tmp_path, schedule={"steps": 1, "lr": 1e-3, "ema": 0.0, "save_every": 1, "log_every": 1})
    options = ["--start", start, "--data", data, "--config", given, "--benchmark", listed, "--teacher", "teacher.toml"]
    assert main(["train", "vlm", "sft", "--out", str(tmp_path / "out"), *map(str, options)]) == 0
    assert (tmp_path / "out" / "weights" / "model.safetensors").exists()
    record = json.loads((tmp_path / "out" / "weights" / "training.json").read_text())
    assert record["reasons"] == {"teacher": "fake-vlm", "kept": 0}
