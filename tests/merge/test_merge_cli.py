"""`clvr merge` from the outside: exit codes, what is printed, what is written."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch

from clvr_core.cli import main
from clvr_core.merge import target
from clvr_core.merge.recipe import Lora
from tests.merge import klein
from tests.merge.test_lowrank import factors, named
from tests.merge.test_merge import written
from tests.weights.test_checkpoint import HOSTILE

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
    assert (
        main(
            words(paths, "--dry-run", "--out", tmp_path / "out.safetensors", "--report", tmp_path / "r.json", "--json")
        )
        == 0
    )
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


def circle(path, like):
    """Two links that lead to each other."""
    path.symlink_to(path.with_name("round.safetensors"))
    path.with_name("round.safetensors").symlink_to(path)


def sparse(length):
    def make(path, like):
        path.write_bytes(length.to_bytes(8, "little"))
        os.truncate(path, length + 16)

    return make


def with_nan(path, like):
    like["single_blocks.0.linear1.weight"][1, 2] = float("nan")
    klein.save(path, like)


BAD = {
    "a pickle with another name": (
        lambda path, like: torch.save(like, path),
        "a PyTorch pickle, not a safetensors file",
    ),
    "GGUF": (lambda path, like: path.write_bytes(b"GGUF" + b"\0" * 64), "is a GGUF file"),
    "nvfp4": (
        lambda path, like: klein.save(
            path, like, {"_quantization_metadata": '{"layers": {"txt_in": {"format": "nvfp4"}}}'}
        ),
        "txt_in is quantised as 'nvfp4'",
    ),
    "a header of 100 MB": (sparse(100_000_000), "has a header of 100000000 bytes"),
    "a header of a terabyte": (sparse(1 << 40), "has a header of 1099511627776 bytes"),
    "NaN": (with_nan, "linear1.weight holds 1 values that are NaN or infinite"),
    "links in a circle": (circle, "symbolic links lead in a circle"),
    "a folder that leads to itself": (
        lambda path, like: path.symlink_to(path, target_is_directory=True),
        "symbolic links lead in a circle",
    ),
    "an empty folder": (lambda path, like: path.mkdir(), "holds no .safetensors"),
    "a missing file": (lambda path, like: None, "No such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_input_that_is_no_checkpoint_is_one_line_and_exit_2(tmp_path, capsys, case):
    make, said = BAD[case]
    paths = written(tmp_path)
    paths[1].unlink()
    make(paths[1], klein.three()[1])
    before = set(tmp_path.iterdir())
    tracemalloc.start()
    try:
        assert main(words(paths, "--out", tmp_path / "out.safetensors")) == 2
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    printed = capsys.readouterr()
    assert said in printed.err and str(paths[1]) in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert set(tmp_path.iterdir()) == before


def test_a_folder_with_links_in_circles_is_refused(tmp_path, capsys):
    paths = written(tmp_path)
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "transformer").symlink_to(tmp_path / "pipe", target_is_directory=True)
    circle(tmp_path / "pipe" / "model.safetensors", None)
    assert main(words([tmp_path / "pipe", *paths[1:]], "--out", tmp_path / "out.safetensors")) == 2
    printed = capsys.readouterr()
    assert (
        printed.err.count("\n") == 1
        and str(tmp_path / "pipe") in printed.err
        and not (tmp_path / "out.safetensors").exists()
    )


@pytest.mark.parametrize("case", ["an input", "a read-only file", "a folder without leave to write"])
def test_an_output_that_must_not_be_written_is_one_line_and_exit_2(tmp_path, capsys, case, monkeypatch):
    paths = written(tmp_path)
    (tmp_path / "out").mkdir()
    out = paths[2] if case == "an input" else tmp_path / "out" / "out.safetensors"
    if case == "a read-only file":
        out.write_bytes(b"precious")
        out.chmod(0o444)
    if case == "a folder without leave to write":
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != out.parent and real(path, mode))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert main(words(paths, "--out", out, "--overwrite")) == 2
    printed = capsys.readouterr()
    assert ("is the input" if case == "an input" else "is read-only") in printed.err
    assert f"--out {out}" in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_bar_of_bytes_is_shown_where_somebody_looks(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    paths = written(tmp_path)
    assert main(words(paths, "--out", tmp_path / "out.safetensors", "--json")) == 0
    shown = sys.stderr.getvalue()
    assert "100%" in shown and "B/s" in shown


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
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"  # a job in the background ignores it
        "from clvr_core.merge import target; from clvr_core.cli import main;"
        "target.Target.write = lambda *_: (print('writing', flush=True), sys.stdin.read());"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words(paths, "--out", tmp_path / "out" / "x.safetensors", "--threads", 1)]
    (tmp_path / "out").mkdir()
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert process.wait() == 130
        assert process.stderr.read() == "clvr: interrupted; go on with: the same command\n"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_merge_that_is_told_to_end_leaves_nothing(tmp_path, capsys, monkeypatch, name):
    paths, number = written(tmp_path), getattr(signal, name)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(target.Target, "write", lambda *_: os.kill(os.getpid(), number))
    # The tests themselves may run under nohup.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert main(words(paths, "--out", tmp_path / "out" / "x.safetensors", "--threads", 1)) == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert f"clvr: ended by {name}; go on with: the same command" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_closed_terminal_does_not_end_what_nohup_started(tmp_path, monkeypatch):
    paths, write = written(tmp_path), target.Target.write
    monkeypatch.setattr(target.Target, "write", lambda *what: (os.kill(os.getpid(), signal.SIGHUP), write(*what)))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(words(paths, "--out", tmp_path / "x.safetensors")) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_a_path_that_the_terminal_cannot_say_is_spelt(tmp_path, monkeypatch, encoding):
    paths = written(tmp_path)
    out = tmp_path / os.fsdecode("m\u6a21".encode() + b"\xe8.safetensors")
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding))
    assert main(words(paths, "--out", out)) == 0
    sys.stdout.flush()
    spelt = (r"m\u6a21\udce8" if encoding == "cp1252" else "m\u6a21\\udce8") + ".safetensors"
    assert spelt in said.getvalue().decode(encoding)


def test_help_and_dry_run_do_not_load_torch(tmp_path):
    paths = written(tmp_path)
    code = "import sys; from clvr_core.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *words(paths, "--dry-run", "--json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert torch is not None


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, clvr_core.merge; print(*sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )


@pytest.mark.parametrize(("layout", "said"), [("bfl", True), ("diffusers", False)])
def test_a_kept_lora_that_diffusers_would_misread_is_warned_of(tmp_path, capsys, layout, said):
    base, _, distilled = written(tmp_path)
    lora = klein.save(tmp_path / "lora.safetensors", named(factors(("final_layer.adaLN_modulation.1",))))
    merge = ["merge", "--base", base, "--distilled", distilled, "--lora", lora, "--keep-lora", "--layout", layout]
    assert main([*map(str, merge), "--out", str(tmp_path / "out.safetensors")]) == 0
    assert ("diffusers exchanges the halves of final_layer.adaLN" in capsys.readouterr().err) is said
