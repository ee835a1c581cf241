"""The command line: what it refuses, what it prints, how it exits."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clvr_core import cli, doctor
from clvr_core.brief import MAX_PROMPT, STRATEGIES
from clvr_core.models import registry as models
from clvr_core.models.registry import Models
from clvr_core.policy import BASELINES
from clvr_core.run.run_folder import BEST, JOURNAL, REPORT, RunFolder
from clvr_core.stickers import CANVAS, model
from clvr_core.stickers.scene import Scene
from clvr_core.storage.png import read_png
from clvr_core.synthesis import engine
from clvr_core.world import EMBEDDED, KINDS, names
from tests.stickers.oracle import WORLD, OracleExecutor, load_vlm
from tests.test_package import readme_blocks
from tests.waiting import until

ROOT = Path(__file__).parents[1]
BRIEF = (
    "a small red circle at the top left, two blue squares and a green cross. the green cross is right of the red circle"
)


class Interrupted(OracleExecutor):
    """Ctrl-C at the given draw."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def draw(self, requests):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().draw(requests)


class Idle(OracleExecutor):
    """Draws nothing."""

    def _scene(self, request):
        return Scene()


def use(monkeypatch: pytest.MonkeyPatch, executor: OracleExecutor) -> OracleExecutor:
    vlm = load_vlm()
    monkeypatch.setitem(models.MODELS, EMBEDDED, lambda: Models(vlm, executor, CANVAS, CANVAS, vlm.require_readable))
    return executor


@pytest.fixture
def world(monkeypatch) -> OracleExecutor:
    """The embedded models are the sticker world with its oracle for a hand."""
    return use(monkeypatch, OracleExecutor())


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory) -> Path:
    """A folder as the embedded weights are, of the smallest size and untrained."""
    from clvr_core.executor.klein import RECIPE

    folder = tmp_path_factory.mktemp("weights")
    model.build_pipeline(width=32, double=1, single=1, text_width=32, vae_channels=(4,) * 6).save_pretrained(folder)
    sampling = {"steps": 2}
    recipe = {"generate": sampling, "edit": sampling}
    recipe |= {"text_layers": model.TEXT_LAYERS, "text_lengths": model.TEXT_BUCKETS}
    (folder / RECIPE).write_text(json.dumps(recipe))
    return folder


def clvr(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with the bytes of each file."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


REFUSED = {
    "empty brief": (["generate", ""], "the brief is empty"),
    "blank brief": (["generate", " \n "], "the brief is empty"),
    "over-long brief": (["generate", "a red circle " * (MAX_PROMPT // 13 + 1)], "at most 20,000"),
    "unknown strategy": (
        ["generate", BRIEF, "--strategy", "magic"],
        "unknown strategy 'magic'; choose one of clvr, director",
    ),
    "unknown models": (
        ["generate", BRIEF, "--models", "magic"],
        f"unknown models 'magic'; choose one of {', '.join(names())}, simulated, klein-4b",
    ),
    "negative seed": (["generate", BRIEF, "--seed", "-1"], "seed is -1"),
    "seed out of range": (["generate", BRIEF, "--seed", str(2**63)], "seed is 9223372036854775808"),
    "seed in words": (["generate", BRIEF, "--seed", "seven"], "--seed"),
    "no candidates": (["generate", BRIEF, "--candidates", "0"], "candidates is 0"),
    "unknown flag": (["generate", BRIEF, "--sed", "1"], "clvr --help"),
    "outside the grammar": (
        ["generate", "a photo at night"],
        "no thing that the sticker world can draw was found in the brief.",
    ),
    "a word outside the grammar": (["generate", "a shiny red circle"], "the word 'shiny'"),
    "more than fits": (["generate", "nine red circles"], "at most 8"),
    "not enough cells": (["generate", "four red circles in the top row"], "do not fit"),
} | {
    f"{flag} {value}": (["generate", BRIEF, f"--{flag}", value], f"budget: {flag.replace('-', '_')} is {value}")
    for flag, values in {
        "rounds": "0 -1",
        "images": "0 -3",
        "evaluations": "0 -24",
        "seconds": "0.0 -1.5 nan inf",
        "vlm-tokens": "0 -1",
        "patience": "0 -1",
    }.items()
    for value in values.split()
}


@pytest.mark.parametrize(("arguments", "says"), REFUSED.values(), ids=REFUSED)
def test_a_brief_that_is_refused_leaves_nothing_behind(world, arguments, says, tmp_path, capsys):
    assert clvr(*arguments, "--out", tmp_path / "run") == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("clvr: ")
    assert says in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert world.requests == []


@pytest.mark.parametrize(
    "name", ["empty brief", "negative seed", "seed in words", "rounds 0", "unknown models", "outside the grammar"]
)
def test_a_refusal_is_one_line_of_json(world, name, tmp_path, capsys):
    arguments, says = REFUSED[name]
    assert clvr(*arguments, "--out", tmp_path / "run", "--json") == cli.BAD_INPUT
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    assert answer["exit"] == cli.BAD_INPUT
    assert says in answer["error"]


def test_a_brief_outside_the_grammar_is_shown_the_grammar(world, tmp_path, capsys):
    assert clvr("generate", "a portrait of my grandmother", "--out", tmp_path / "run") == cli.BAD_INPUT
    err = capsys.readouterr().err
    assert "[small | large] [COLOR] NOUN" in err
    assert "real model" in err


def test_a_brief_longer_than_the_weights_read_is_refused_before_the_run(random_weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(KINDS, "", random_weights)
    assert clvr("generate", "please " * 200 + BRIEF, "--out", tmp_path / "run") == cli.BAD_INPUT
    assert "these weights read at most 128" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_below_a_file_is_refused(world, tmp_path, capsys):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for out in (file / "run", file):
        assert clvr("generate", BRIEF, "--out", out) == cli.BAD_INPUT
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert f"output folder {out} cannot be written" in err
    assert tree(tmp_path) == {"notes.txt": b"mine"}


def test_an_output_folder_that_holds_something_is_not_touched(world, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / BEST).write_bytes(b"mine")
    before = tree(tmp_path)
    assert clvr("generate", BRIEF, "--out", tmp_path / "run") == cli.BAD_INPUT
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "is not empty" in err
    assert tree(tmp_path) == before


WEIGHTS_FILES = (
    "transformer/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


SPOILS: dict[str, Callable[[Path], object]] = {
    "no folder": shutil.rmtree,
    "no recipe": lambda folder: (folder / "clvr_recipe.json").unlink(),
    "recipe is not JSON": lambda folder: (folder / "clvr_recipe.json").write_text("{"),
    "recipe of another kind": lambda folder: (folder / "clvr_recipe.json").write_text("[]"),
    "no index": lambda folder: (folder / "model_index.json").unlink(),
    **{f"{Path(file).parent} is cut": lambda folder, file=file: cut(folder / file) for file in WEIGHTS_FILES},
    **{f"{Path(file).parent} is gone": lambda folder, file=file: (folder / file).unlink() for file in WEIGHTS_FILES},
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_weights_that_are_missing_or_damaged_are_named(spoil, random_weights, monkeypatch, tmp_path, capfd):
    weights = shutil.copytree(random_weights, tmp_path / "weights")
    spoil(weights)
    monkeypatch.setitem(KINDS, "", weights)
    assert clvr("generate", BRIEF, "--out", tmp_path / "run") == cli.BAD_INPUT
    err = capfd.readouterr().err
    assert err.startswith(f"clvr: the weights in {weights} cannot be loaded: ")
    assert err.count("\n") == 1
    assert "reinstall clvr" in err
    assert not (tmp_path / "run").exists()


def test_untrained_weights_draw_but_do_not_meet_the_goals(random_weights, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(KINDS, "", random_weights)
    assert clvr("generate", BRIEF, "--rounds", 2, "--out", tmp_path / "run", "--json") == cli.NOT_MET
    (line,) = capsys.readouterr().out.splitlines()
    summary = json.loads(line)
    assert not summary["met"]
    assert summary["exit"] == cli.NOT_MET
    assert Path(summary["best"]).exists()


@pytest.mark.parametrize("strategy", ["clvr", "director", "strokes"])
def test_goals_that_are_met_exit_with_0(world, strategy, tmp_path, capsys):
    assert clvr("generate", BRIEF, "--strategy", strategy, "--out", tmp_path / "run", "--json") == cli.DONE
    (line,) = capsys.readouterr().out.splitlines()
    summary = json.loads(line)
    assert summary["met"]
    assert summary["goals_met"] == summary["goals"]
    for part, name in {"best": BEST, "trajectory": JOURNAL, "report": REPORT}.items():
        assert summary[part] == str(tmp_path / "run" / name)
        assert Path(summary[part]).stat().st_size


def test_without_json_a_run_tells_what_came_out(world, tmp_path, capsys):
    assert clvr("generate", BRIEF, "--out", tmp_path / "run") == cli.DONE
    out, err = capsys.readouterr()
    assert "goals met in" in out
    assert str(tmp_path / "run" / BEST) in out
    assert err == ""


def test_a_budget_spent_without_the_goals_exits_with_3(monkeypatch, tmp_path, capsys):
    use(monkeypatch, Idle())
    assert clvr("generate", BRIEF, "--rounds", 1, "--out", tmp_path / "run", "--json") == cli.NOT_MET
    (line,) = capsys.readouterr().out.splitlines()
    assert not json.loads(line)["met"]
    assert (tmp_path / "run" / BEST).exists()


@pytest.mark.parametrize("strategy", BASELINES)
def test_a_baseline_has_done_its_work_when_it_has_drawn(monkeypatch, strategy, tmp_path, capsys):
    use(monkeypatch, Idle())
    assert clvr("generate", BRIEF, "--strategy", strategy, "--out", tmp_path / "run", "--json") == cli.DONE
    assert not json.loads(capsys.readouterr().out)["met"]


def pictures(folder: Path) -> dict[str, bytes]:
    from PIL import Image

    return {path.name: Image.open(path).tobytes() for path in sorted(folder.glob("canvas-*.png"))}


def test_an_interrupted_run_goes_on_to_the_same_pictures(monkeypatch, tmp_path, capsys):
    request = ["generate", BRIEF, "--strategy", "strokes", "--seed", 3, "--json", "--out"]
    use(monkeypatch, OracleExecutor())
    assert clvr(*request, tmp_path / "whole") == cli.DONE
    use(monkeypatch, Interrupted(at=2))
    assert clvr(*request, tmp_path / "run") == cli.INTERRUPTED
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["exit"] == cli.INTERRUPTED
    assert f"interrupted; go on with: clvr resume {tmp_path / 'run'}" in err
    use(monkeypatch, OracleExecutor())
    assert clvr("resume", tmp_path / "run", "--json") == cli.DONE
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert pictures(tmp_path / "run") == pictures(tmp_path / "whole")
    assert len(pictures(tmp_path / "whole")) > 1


def test_an_interruption_before_the_run_names_no_folder_to_go_on_with(monkeypatch, tmp_path, capsys):
    def load() -> Models:
        raise KeyboardInterrupt

    monkeypatch.setitem(models.MODELS, EMBEDDED, load)
    assert clvr("generate", BRIEF, "--out", tmp_path / "run") == cli.INTERRUPTED
    assert capsys.readouterr().err == "clvr: interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(world, tmp_path, capsys) -> Path:
    """The folder of a finished run."""
    clvr("generate", BRIEF, "--strategy", "strokes", "--seed", 3, "--out", tmp_path / "run")
    capsys.readouterr()
    return tmp_path / "run"


def test_a_clean_copy_has_the_picture_and_no_metadata(run, tmp_path, capsys):
    assert clvr("clean", run / "best.png", "--out", tmp_path / "clean.png") == cli.DONE
    (picture, texts), (best, own) = read_png(tmp_path / "clean.png"), read_png(run / "best.png")
    assert np.array_equal(picture, best) and not texts and {"clvr", "clvr_canvas", "parameters"} <= own.keys()
    assert clvr("clean", run / "best.png", "--out", tmp_path / "clean.png", "--json") == cli.BAD_INPUT
    assert "is there already" in capsys.readouterr().out
    assert (
        clvr("clean", run / JOURNAL, "--out", tmp_path / "x.png") == cli.BAD_INPUT and not (tmp_path / "x.png").exists()
    )


def test_a_last_line_that_was_cut_is_done_again(run, capsys):
    whole, drawn = (run / JOURNAL).read_bytes(), pictures(run)
    (run / JOURNAL).write_bytes(whole[:-20])
    assert clvr("resume", run) == cli.DONE
    assert len((run / JOURNAL).read_bytes().splitlines()) == len(whole.splitlines())
    assert pictures(run) == drawn


def no_first_line(run: Path) -> None:
    (run / JOURNAL).write_bytes((run / JOURNAL).read_bytes()[:30])


def damaged_line(run: Path) -> None:
    lines = (run / JOURNAL).read_bytes().splitlines(keepends=True)
    (run / JOURNAL).write_bytes(b"".join([lines[0], lines[1][:20] + b"\n", *lines[2:]]))


def no_canvas(run: Path) -> None:
    lines = (run / JOURNAL).read_bytes().splitlines(keepends=True)
    drawn = next(index for index, line in enumerate(lines) if json.loads(line)["event"] == "drawn")
    (run / JOURNAL).write_bytes(b"".join(lines[: drawn + 1]))
    for canvas in run.glob("canvas-*.png"):
        canvas.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "holds no run"),
    "no journal": (lambda run: (run / JOURNAL).unlink(), "holds no run"),
    "an empty journal": (lambda run: (run / JOURNAL).write_bytes(b""), "no complete first line"),
    "the first line is cut": (no_first_line, "no complete first line"),
    "a line is damaged": (damaged_line, "line 2 is damaged"),
    "a newer schema": (
        lambda run: (run / JOURNAL).write_text((run / JOURNAL).read_text().replace('"schema":', '"schema":99', 1)),
        "update clvr",
    ),
    "canvases are gone": (no_canvas, "is missing or damaged"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE)
def test_what_cannot_be_resumed_says_why(run, damage, says, capsys):
    damage(run)
    before = tree(run) if run.exists() else None
    assert clvr("resume", run, "--json") == cli.BAD_INPUT
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert says in err
    assert says in json.loads(out)["error"]
    assert (tree(run) if run.exists() else None) == before


def test_a_file_for_a_run_folder_says_so(world, tmp_path, capsys):
    (tmp_path / "picture.png").write_bytes(b"")
    assert clvr("resume", tmp_path / "picture.png") == cli.BAD_INPUT
    assert "holds no run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["probe", "--per-tier", "0"], "--per-tier is 0; it must be at least 1"),
        (["probe", "--per-tier", "-4"], "--per-tier is -4"),
        (["probe", "--judge", "kind"], "--judge is 'kind'; choose one of exact, independent, correlated"),
        (["probe", "--planner-errors", "2"], "--planner-errors is 2; it must be between 0 and 1"),
        (["probe", "--arms", "clvr"], "the arms lack oneshot, to which the others are compared; add it"),
        (["probe", "--seed", "-1"], "'-1' is not a whole number"),
        (
            ["probe", "--models", "magic"],
            f"the probe needs exact truth, which only {', '.join(names())}",
        ),
        (["train", EMBEDDED, "base", "--seed", str(2**32)], "is not a whole number between 0 and 2**32 - 1"),
        (["train", EMBEDDED, "distil", "--from", "nowhere"], "nowhere"),
        (["train", EMBEDDED], "STAGE"),
    ],
)
def test_probe_and_train_refuse_before_they_start(world, arguments, says, tmp_path, capsys):
    out = [] if arguments[-1] == EMBEDDED else ["--out", tmp_path / "made"]
    assert clvr(*arguments, *out) == cli.BAD_INPUT
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [WORLD.name + kind for kind in KINDS])
def test_every_embedded_model_makes_trajectories_with_a_second_judge_of_its_own(monkeypatch, name, tmp_path, capsys):
    monkeypatch.setitem(models.MODELS, name, lambda: Models(load_vlm(), OracleExecutor(), CANVAS, CANVAS))
    monkeypatch.setattr(engine, "world_named", lambda name: WORLD)
    assert clvr("synthesize", "--models", name, "--count", "2", "--out", tmp_path / "data", "--json") == cli.DONE
    assert json.loads(capsys.readouterr().out)["briefs"] == 2


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, tmp_path, capsys):
    def load() -> Models:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setitem(models.MODELS, EMBEDDED, load)
    assert clvr("generate", BRIEF, "--out", tmp_path / "run") == cli.BAD_INPUT
    assert (
        capsys.readouterr().err
        == "clvr: this needs torch, which is not installed; pip install -c constraints.txt '.[run]'\n"
    )


def test_a_module_of_our_own_that_is_missing_is_a_bug_and_shown_as_one(monkeypatch, tmp_path):
    def load() -> Models:
        raise ModuleNotFoundError("No module named 'clvr_core.gone'", name="clvr_core.gone")

    monkeypatch.setitem(models.MODELS, EMBEDDED, load)
    with pytest.raises(ModuleNotFoundError, match="gone"):
        clvr("generate", BRIEF, "--out", tmp_path / "run")


def test_doctor_measures_the_drift_and_the_next_run_has_its_limits(world, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CLVR_CACHE", str(tmp_path / "cache"))
    assert clvr("doctor", "--drift", "--out", tmp_path / "drift", "--json") == cli.DONE
    told = json.loads(capsys.readouterr().out)
    assert read_png(tmp_path / "drift" / "drift.png")[0].shape == (540, 960, 3)
    assert (
        told == json.loads((tmp_path / "drift" / "drift.json").read_text())
        and len(told["curves"]["edits"]["damage"]) == 10
    )
    assert clvr("generate", BRIEF, "--out", tmp_path / "run") in (cli.DONE, cli.NOT_MET)
    budget = RunFolder.open(tmp_path / "run").lines[0]["brief"]["budget"]
    assert budget["depth"] == told["depth"] and budget.get("tolerance", 1.0) == told["tolerance"]


def test_doctor_prints_one_line_for_each_finding(world, monkeypatch, capsys):
    monkeypatch.delenv("COMFYUI_DIR", raising=False)
    assert clvr("doctor") == cli.DONE
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert len(lines) == len(doctor.examine())
    assert any(f"models: {EMBEDDED}" in line and line.startswith("ok") for line in lines)
    assert any("COMFYUI_DIR is not set" in line and line.startswith("--") for line in lines)
    assert clvr("doctor", "--json") == cli.DONE
    (line,) = capsys.readouterr().out.splitlines()
    assert [finding["name"] for finding in json.loads(line)] == [finding.name for finding in doctor.examine()]


def test_doctor_tells_what_is_missing_instead_of_failing(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(KINDS, "", tmp_path / "nowhere")
    monkeypatch.setitem(doctor.PACKAGES, "no-such-package", "run")
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    assert clvr("doctor", "--json") == cli.DONE
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert not findings[f"models: {EMBEDDED}"]["ok"]
    assert "cannot be loaded" in findings[f"models: {EMBEDDED}"]["detail"]
    assert ".[run]" in findings["no-such-package"]["detail"]
    assert "has no main.py" in findings["ComfyUI"]["detail"]


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clvr_core.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def test_as_a_process_bad_input_exits_with_2(tmp_path):
    done = process("generate", "a red circle", "--strategy", "magic", "--out", tmp_path / "run", "--json")
    sentence = f"unknown strategy 'magic'; choose one of {', '.join(STRATEGIES)}"
    assert done.returncode == cli.BAD_INPUT
    assert done.stderr == f"clvr: {sentence}\n"
    assert json.loads(done.stdout) == {"error": sentence, "exit": cli.BAD_INPUT}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_has_the_arguments_that_it_has_among_all(name, capsys):
    said = []
    for parser in (cli._parser(), cli._parser(name)):
        for words in ([name, "--help"], ["--help"]):
            with pytest.raises(SystemExit):
                parser.parse_args(words)
            said.append(capsys.readouterr().out)
    assert said[:2] == said[2:] and f"usage: clvr {name} " in said[0] and len(said[0].splitlines()) > 4
    others = [each for each in cli.COMMANDS if each != name]
    assert all(f"    {each}" in said[1] for each in others)


def test_as_a_process_help_and_version_need_no_models():
    for arguments in (["--help"], ["--version"], ["generate", "--help"], ["train", EMBEDDED, "base", "--help"]):
        done = process(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "clvr" in done.stdout


def first_command(out: Path) -> list[str]:
    _, _, command = readme_blocks("sh")[0].partition(" && ")
    name, *arguments = shlex.split(command)
    assert name == "clvr"
    arguments[arguments.index("--out") + 1] = str(out)
    return [*arguments, "--json"]


@pytest.mark.weights
def test_the_first_command_of_the_readme_meets_its_goals(tmp_path):
    out = tmp_path / "run"
    done = process(*first_command(out))
    assert (done.returncode, done.stderr) == (cli.DONE, "")
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["met"]
    assert (out / REPORT).stat().st_size


SMALL = """
import sys
from pathlib import Path
from clvr_core import cli, world
world.KINDS[""] = Path(sys.argv.pop(1))
sys.exit(cli.main(sys.argv[1:]))
"""
"""The command line as a process, with the weights of a folder in place of the shipped ones."""


def test_killed_after_its_second_picture_it_resumes_to_the_same_bytes(random_weights, monkeypatch, tmp_path, capsys):
    """With untrained weights, which draw until the budget is spent."""
    monkeypatch.setitem(KINDS, "", random_weights)
    whole, out = tmp_path / "whole", tmp_path / "run"
    request = ["generate", BRIEF, "--rounds", "12", "--patience", "12", "--out"]
    assert clvr(*request, whole) == cli.NOT_MET
    assert (whole / "canvas-008.png").exists(), "the run is long enough to be killed"
    command = [sys.executable, "-c", SMALL, random_weights, *request, out]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        until(lambda: running.poll() is not None or (out / "canvas-001.png").exists(), "the second picture", every=0.01)
        running.kill()
    assert running.returncode and not (out / BEST).exists()
    assert clvr("resume", out) == cli.NOT_MET
    pictures = sorted(path.name for path in whole.glob("*.png"))
    assert sorted(path.name for path in out.glob("*.png")) == pictures
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in pictures)


@pytest.mark.weights
def test_the_python_of_the_readme_runs(tmp_path):
    (block,) = readme_blocks("python")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert "met" in done.stdout
