"""`clvr merge` from the outside: exit codes, what is printed, what is written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clvr_core.cli import main
from clvr_core.merge.recipe import Lora
from tests.merge import klein
from tests.merge.test_checkpoint import HOSTILE
from tests.merge.test_lowrank import factors, named
from tests.merge.test_merge import written

ROOT = Path(__file__).parents[2]


def words(paths, *more):
    return ["merge", "--base", str(paths[0]), "--aligned", str(paths[1]), "--distilled", str(paths[2]), *map(str, more)]


def test_merge_report_and_verify(tmp_path, capsys):
    paths = written(tmp_path, ("bfl", "comfyui", "diffusers"))
    lora = klein.save(tmp_path / "x.safetensors", named(factors()))
    out = tmp_path / "out.safetensors"
    more = (
        "--lora",
        f"{lora}:0.5",
        "--beta",
        0.8,
        "--blocks",
        "single_blocks.*=0.5,0.9",
        "--exclude",
        "txt_in",
        "--report",
        tmp_path / "r.json",
    )
    assert main(words(paths, "--out", out, *more, "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["out"] == str(out) and out.stat().st_size == said["bytes"] and said["sampled"] is False
    assert Path(said["report"]).exists() and Path(said["plot"]).exists()
    assert main(["merge", "--verify", str(out)]) == 0, "inputs are found beside the file"
    assert "bit for bit" in capsys.readouterr().out
    out = out.rename((tmp_path / "elsewhere").mkdir() or tmp_path / "elsewhere" / "renamed.safetensors")
    assert main(["merge", "--verify", str(out), "--json"]) == 2
    assert "give it with --base" in json.loads(capsys.readouterr().out)["error"]
    given = ["--base", paths[0], "--aligned", paths[1], "--distilled", paths[2], "--lora", lora]
    assert main(["merge", "--verify", str(out), *map(str, given), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"][-1] == ["lora", str(lora)]


def test_text_output_names_what_was_found_and_written(tmp_path, capsys):
    assert main(words(written(tmp_path), "--out", tmp_path / "out.safetensors")) == 0
    text = capsys.readouterr().out
    assert "of the base's norm" in text and "expected" in text and str(tmp_path / "out.safetensors") in text


def test_dry_run_writes_nothing_but_the_report(tmp_path, capsys):
    paths = written(tmp_path)
    before = set(tmp_path.iterdir())
    assert main(words(paths, "--dry-run", "--out", tmp_path / "out.safetensors", "--report", tmp_path / "r.json", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dry_run"] and said["sampled"] and said["tensors"] == len(klein.shapes())
    assert set(tmp_path.iterdir()) - before == {tmp_path / "r.json", tmp_path / "r.png"}
    assert main(words(paths, "--dry-run")) == 0
    assert "nothing written" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_told_and_the_merge_stands(tmp_path, capsys):
    (tmp_path / "r.json").mkdir()
    out = tmp_path / "out.safetensors"
    assert main(words(written(tmp_path), "--out", out, "--report", tmp_path / "r.json")) == 2
    assert f"r.json cannot be written: Is a directory; {out} is written" in capsys.readouterr().err
    assert out.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "--base and --out are needed"),
        (("--out", "{}/x.safetensors", "--blocks", "nonsense"), "is not PATTERN=ALIGN"),
        (("--out", "{}/x.safetensors", "--threads", "0"), "--threads is 0"),
        (("--out", "{}/x.safetensors", "--dtype", "int4"), "invalid choice"),
        (("--out", "{}/x.safetensors", "--report", "{}/no/r.json"), "in a folder that exists"),
        (("--out", "{}/x.safetensors", "--lora", "{}/no.safetensors:0.5"), "cannot be read: No such file"),
        (("--out", "{}/x.ckpt"), "must end in .safetensors"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, capsys, more, said):
    paths = written(tmp_path)
    before = set(tmp_path.iterdir())
    assert main(words(paths, *(each.format(tmp_path) for each in more), "--json")) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1
    assert json.loads(printed.out)["exit"] == 2
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("role", [0, 1])
@pytest.mark.parametrize("case", [*HOSTILE, "cut short"])
def test_a_hostile_input_is_one_line_and_exit_2(tmp_path, capsys, case, role):
    paths = written(tmp_path)
    if case == "cut short":
        paths[role].write_bytes(paths[role].read_bytes()[:-7])
    else:
        header, data, length, _ = HOSTILE[case]
        klein.raw_file(paths[role], header, data, length)
    before = set(tmp_path.iterdir())
    assert main(words(paths, "--out", tmp_path / "out.safetensors")) == 2
    printed = capsys.readouterr()
    assert str(paths[role]) in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("x.safetensors", "x.safetensors", 1.0),
        ("a:b/x.safetensors:-.5", "a:b/x.safetensors", -0.5),
        ("x:1e-2", "x", 0.01),
        ("C:/x", "C:/x", 1.0),
    ],
)
def test_a_lora_and_its_strength(text, path, strength):
    assert Lora.parse(text) == Lora(Path(path), strength)


def test_an_interrupt_is_exit_130_and_leaves_nothing(tmp_path):
    paths = written(tmp_path)
    code = (
        "import sys, time; from clvr_core.merge import target; from clvr_core.cli import main;"
        "target.Target.write = lambda *_: (print('writing', flush=True), time.sleep(2));"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words(paths, "--out", tmp_path / "out" / "x.safetensors", "--threads", 1)]
    (tmp_path / "out").mkdir()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == "clvr: interrupted; go on with: the same command\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_help_and_dry_run_do_not_load_torch(tmp_path):
    paths = written(tmp_path)
    code = "import sys; from clvr_core.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *words(paths, "--dry-run", "--json")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert torch is not None


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, clvr_core.merge; print(*sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == ""
