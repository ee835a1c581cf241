"""What is left when a merge is refused, cancelled, killed or runs out of disk: the target as it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.merge import stream, target
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Block, MergeRecipe
from clvr_core.merge.run import made_before, merge, verify
from clvr_core.merge.stream import Cancelled
from tests.merge import klein
from tests.merge.test_merge import merged, written
from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]


@pytest.fixture
def paths(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return written(folder)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "out.safetensors").write_bytes(b"what was there")
    return folder / "out.safetensors"


def untouched(out):
    return out.read_bytes() == b"what was there" and [path.name for path in out.parent.iterdir()] == [out.name]


def refused(paths, out, words, **how):
    with make_plan(MergeRecipe(*paths)) as plan, pytest.raises(BadInput, match=words) as caught:
        merge(plan, out, **how)
    assert "\n" not in str(caught.value) and str(out) in str(caught.value)


def test_an_existing_file_is_replaced_only_when_asked(paths, out):
    refused(paths, out, "exists; choose another name, or give --overwrite")
    assert untouched(out)
    merged(out.parent, MergeRecipe(*paths), overwrite=True)
    assert out.stat().st_size > 1000


def test_a_link_is_written_through(paths, tmp_path):
    disk, folder = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    folder.mkdir()
    (real := disk / "m.safetensors").write_bytes(b"what was there")
    (link := folder / "link.safetensors").symlink_to(real)
    refused(paths, link, "exists; choose another name")
    found = merged(folder, MergeRecipe(*paths), link.name, overwrite=True)
    assert link.is_symlink() and link.resolve() == real and load_file(real).keys() == found.keys()
    assert [path.name for path in disk.iterdir()] == [real.name] and [path.name for path in folder.iterdir()] == [
        link.name
    ]


@pytest.mark.parametrize("links", [True, False])
def test_of_two_merges_to_one_name_the_later_does_not_replace_the_earlier(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no hard links")))
    out = tmp_path / "x.safetensors"
    made = [target.Target(out, 8, 0) for _ in range(2)]
    for number, each in enumerate(made):
        each.seal(bytes([number]) * 8)
    made[1].place()
    with pytest.raises(BadInput, match=r"x\.safetensors was written meanwhile, .* or give --overwrite"), made[0]:
        made[0].place()
    assert out.read_bytes() == b"\1" * 8 and list(tmp_path.iterdir()) == [out]
    with target.Target(out, 8, 0, overwrite=True) as asked:
        asked.seal(b"\2" * 8)
        asked.place()
    assert out.read_bytes() == b"\2" * 8 and list(tmp_path.iterdir()) == [out]


def test_names_and_texts_that_are_no_utf8_give_a_file_that_can_be_read(tmp_path):
    """Linux allows any byte in a file name, and JSON allows halves of characters in metadata."""
    base, aligned, _ = klein.three()
    paths = [tmp_path / os.fsdecode(name.encode() + b"\xe8.safetensors") for name in ("base", "aligned")]
    for path, each in zip(paths, (base, aligned)):
        path.write_bytes(klein.save(tmp_path / "x.safetensors", each, {"author": "nobody"}).read_bytes())
    # A text of the same length, so that the header keeps its length.
    paths[0].write_bytes(paths[0].read_bytes().replace(b'"nobody"', rb'"\ud83d"'))
    out = tmp_path / os.fsdecode(b"out\xe8.safetensors")
    with make_plan(MergeRecipe(*paths)) as plan:
        merge(plan, out)
    with safe_open(shutil.copy(out, tmp_path / "read.safetensors"), "pt") as file:
        texts = file.metadata()
        assert set(file.keys()) == base.keys()
    assert texts["author"] == r"\ud83d" and texts["modelspec.title"] == r"out\udce8"
    assert json.loads(texts["dswm.recipe"])["inputs"][0]["name"] == r"base\udce8.safetensors"
    assert [path for _, path in verify(out, {})] == [str(path) for path in paths], "found beside it under its own name"
    with make_plan(MergeRecipe(*paths)) as plan:
        assert made_before(plan, out)


def test_the_output_must_not_be_an_input_by_any_name(paths, tmp_path):
    before = paths[1].read_bytes()
    other = tmp_path / "other.safetensors"
    os.link(paths[1], other)
    link = tmp_path / "link.safetensors"
    link.symlink_to(paths[1])
    for out in (paths[1], other, link):
        refused(paths, out, "is the input", overwrite=True)
    assert paths[1].read_bytes() == before


def test_a_read_only_target_is_refused(paths, out):
    out.chmod(0o444)
    refused(paths, out, "is read-only; choose another name", overwrite=True)
    assert untouched(out)


def test_places_that_cannot_be_written_are_refused(paths, tmp_path):
    refused(paths, tmp_path / "no" / "x.safetensors", "there is no folder")
    refused(paths, tmp_path / "x.ckpt", "must end in .safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    refused(paths, tmp_path / "folder.safetensors", "is a folder")
    loop = tmp_path / "loop.safetensors"
    loop.symlink_to(loop)
    refused(paths, loop, "is a link that leads nowhere")
    if Path("/proc/self").is_dir():
        refused(paths, Path("/proc/x.safetensors"), "/proc/x.safetensors")


def test_too_little_room_is_found_before_anything_is_written(paths, out, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, 20_000))
    refused(paths, out, r"needs [45]\.\d+e-05 GB and 16 MB to spare, and 2e-05 GB are free; make room", overwrite=True)
    assert untouched(out)


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "ftruncate", "fsync"])
def test_a_full_disk_leaves_the_target_and_no_other_file(paths, out, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full, raising=False)  # macOS has no posix_fallocate
    refused(paths, out, "No space left on device; make room", overwrite=True)
    assert untouched(out)


def test_a_limit_of_the_system_on_file_sizes_is_met_for_real(paths, out):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); from clvr_core.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [
        sys.executable,
        "-c",
        code,
        "merge",
        "--base",
        paths[0],
        "--aligned",
        paths[1],
        "--out",
        out,
        "--overwrite",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "File too large" in done.stderr and done.stderr.count("\n") == 1
    assert untouched(out)


def test_direct_writes_give_the_same_bytes(paths, tmp_path, monkeypatch):
    plain, direct = tmp_path / "plain", tmp_path / "direct"
    for folder, size in ((plain, 1 << 40), (direct, 0)):
        folder.mkdir()
        monkeypatch.setattr(target, "DIRECT", size)
        with make_plan(MergeRecipe(*paths)) as plan:
            merge(plan, folder / "out.safetensors")
    assert (plain / "out.safetensors").read_bytes() == (direct / "out.safetensors").read_bytes()


def test_a_file_system_without_direct_writes_or_preallocation_is_written_all_the_same(paths, tmp_path, monkeypatch):
    real = os.open

    def without(path, flags, *more):
        if flags & getattr(os, "O_DIRECT", 0):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags, *more)

    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(target, "DIRECT", 0)
    monkeypatch.setattr(os, "open", without)
    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    assert merged(tmp_path, MergeRecipe(*paths))


def test_progress_comes_in_the_callers_thread_and_ends_at_all_bytes(paths, tmp_path):
    calls = []
    merged(
        tmp_path, MergeRecipe(*paths), progress=lambda done, total: calls.append((threading.get_ident(), done, total))
    )
    assert {ident for ident, *_ in calls} == {threading.get_ident()}
    assert calls[-1][1] == calls[-1][2] > 0
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


@pytest.fixture
def held(monkeypatch):
    """The windows begun, and those written: each waits until the merge is told to stop."""
    begun, written, work = [], [], stream.Stream._work
    monkeypatch.setattr(stream, "WINDOW", 4096)

    def working(self, numbers, sink):
        def hold(start, *what):
            begun.append(start)
            assert self._stop.wait(HUNG)
            written.append(start)
            sink(start, *what)

        work(self, numbers, hold)

    monkeypatch.setattr(stream.Stream, "_work", working)
    return begun, written


def test_cancel_stops_after_the_window_at_work_and_leaves_the_target(paths, out, held):
    begun, written = held
    with make_plan(MergeRecipe(*paths)) as plan, pytest.raises(Cancelled):
        merge(plan, out, overwrite=True, threads=1, cancel=lambda: bool(begun))
    assert untouched(out) and written == [0]
    assert threading.active_count() == 1 or not any("_guarded" in thread.name for thread in threading.enumerate())


def test_an_interrupt_leaves_the_target(paths, out, held):
    begun, written = held

    def interrupt(*_):
        if begun:
            raise KeyboardInterrupt

    with make_plan(MergeRecipe(*paths)) as plan, pytest.raises(KeyboardInterrupt):
        merge(plan, out, overwrite=True, threads=1, progress=interrupt)
    assert untouched(out) and written == [0]


KILLED = """
import sys
from pathlib import Path
from clvr_core.merge import stream, target
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Block, MergeRecipe
from clvr_core.merge.run import merge
stream.WINDOW = 4096
write = target.Target.write
def once(self, *what):
    write(self, *what)
    print("wrote", flush=True)
    sys.stdin.read()
target.Target.write = once
*paths, out = map(Path, sys.argv[1:])
merge(make_plan(MergeRecipe(*paths)), out, overwrite=True, threads=1)
"""


def test_a_killed_merge_leaves_the_target_and_a_file_that_is_named_as_a_part_and_is_none(paths, out):
    words = [sys.executable, "-c", KILLED, *paths, out]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "wrote\n"
        process.send_signal(signal.SIGKILL)
    assert out.read_bytes() == b"what was there"
    (part,) = [path for path in out.parent.iterdir() if path != out]
    assert part.name.startswith(".out.safetensors.") and part.name.endswith(".part")
    assert part.read_bytes()[:8] == b"\0" * 8, "a torn file has no header"
    merged(out.parent, MergeRecipe(*paths), overwrite=True)
    assert [path.name for path in out.parent.iterdir()] == [out.name], "the next merge removes it"


def test_what_another_merge_is_writing_is_not_removed(paths, out):
    with target.Target(out, 8, 100) as another:
        merged(out.parent, MergeRecipe(*paths), overwrite=True)
        assert another.part.exists()


@pytest.mark.skipif(target.fcntl is None, reason="without locks nothing is known to be left over")
def test_room_that_a_killed_merge_takes_up_counts_as_free(paths, out, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, target.RESERVE + 20_000)
    )
    refused(paths, out, "make room", overwrite=True)
    left, other = (out.with_name(f".{name}.safetensors.0123456789abcdef.part") for name in ("out", "other"))
    for path in (left, other):
        path.write_bytes(b"\0" * (1 << 20))
    merged(out.parent, MergeRecipe(*paths), overwrite=True)
    assert not left.exists() and other.exists()


def test_an_input_that_changes_meanwhile_is_noticed(paths, out, monkeypatch):
    place = target.Target.write

    def changing(self, *what):
        place(self, *what)
        os.utime(paths[1], (1, 1))

    monkeypatch.setattr(target.Target, "write", changing)
    with make_plan(MergeRecipe(*paths)) as plan, pytest.raises(BadInput, match="was changed while it was merged"):
        merge(plan, out, overwrite=True)
    assert untouched(out)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("role", [0, 1, 2])
@pytest.mark.parametrize("seen", [True, False])
def test_values_that_are_not_finite_are_refused_with_file_tensor_and_number(tmp_path, value, role, seen, monkeypatch):
    """Whether the sample before the merge sees them or only the pass over all weights does."""
    from clvr_core.merge import survey

    if not seen:
        monkeypatch.setattr(survey, "SLICE", 2)
        monkeypatch.setattr(survey, "SLICES", 2)
    tensors = klein.three()
    tensors[role]["single_blocks.1.linear1.weight"][70, 3:5] = value
    paths = written(tmp_path, tensors=tensors)
    with make_plan(MergeRecipe(*paths)) as plan, pytest.raises(BadInput) as caught:
        merge(plan, tmp_path / "out.safetensors")
    assert str(caught.value).startswith(
        f"{paths[role]}: single_blocks.1.linear1.weight holds 2 values that are NaN or infinite;"
    )
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"} and not (
        tmp_path / "out.safetensors"
    ).exists()


def test_overflow_of_the_output_is_refused(tmp_path):
    base = {"blocks.0.weight": torch.full((4, 4), 60000.0)}
    other = {"blocks.0.weight": torch.full((4, 4), 64000.0)}
    paths = [klein.save(tmp_path / f"{name}.safetensors", each) for name, each in (("b", base), ("d", other))]
    with (
        make_plan(MergeRecipe(*paths, paths[1], dtype="fp16")) as plan,
        pytest.raises(BadInput, match=r"blocks\.0\.weight holds values that F16 cannot, when merged"),
    ):
        merge(plan, tmp_path / "out.safetensors")
    with make_plan(MergeRecipe(*paths, paths[1], dtype="fp8")) as plan:
        merge(plan, tmp_path / "fp8.safetensors")
    assert load_file(tmp_path / "fp8.safetensors")["blocks.0.weight_scale"] == 68000 / 448
    assert not (tmp_path / "out.safetensors").exists()


def test_memory_does_not_grow_with_the_model(tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; import torch; from clvr_core.merge.plan import make_plan;"
        "from clvr_core.merge.recipe import MergeRecipe; from clvr_core.merge.run import merge;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; *paths, out = map(Path, sys.argv[1:]);"
        "merge(make_plan(MergeRecipe(*paths)), out, threads=2, sha256=False);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    base = {
        f"blocks.{index}.weight": torch.full((2048, 2048), 0.5, dtype=torch.bfloat16) for index in range(12)
    }  # 100 MB
    path = klein.save(tmp_path / "b.safetensors", base)
    words = [sys.executable, "-c", code, path, path, path, tmp_path / "out.safetensors"]
    grown = int(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    grown //= 1024 if sys.platform == "darwin" else 1  # there it is told in bytes
    assert grown < 80_000, f"{grown} KiB"


def test_a_merge_that_was_made_before_is_known_by_recipe_inputs_and_clock(paths, tmp_path):
    recipe = MergeRecipe(*paths, beta=0.8)
    merged(tmp_path, recipe)
    out = tmp_path / "out.safetensors"

    def known(recipe, file=out):
        with make_plan(recipe) as plan:
            return made_before(plan, file)

    assert known(recipe)
    assert not known(MergeRecipe(*paths, beta=0.9)) and not known(MergeRecipe(paths[0], paths[1], beta=0.8))
    assert not known(recipe, paths[0]) and not known(recipe, tmp_path / "no.safetensors")
    later = out.stat().st_mtime_ns + 10**9
    os.utime(paths[1], ns=(later, later))
    assert not known(recipe), "an input was written after it"
    data = out.read_bytes()
    os.utime(paths[1], (1, 1))
    out.write_bytes(data.replace(rb"\"size\"", rb"\"sise\""))
    assert not known(recipe), "a damaged recipe"
    (tmp_path / "cut.safetensors").write_bytes(data[:-9])
    assert not known(recipe, tmp_path / "cut.safetensors")


def test_verify_finds_the_file_as_it_was_made_and_says_what_was_changed(paths, tmp_path):
    merged(tmp_path, MergeRecipe(*paths, beta=0.8))
    out = tmp_path / "out.safetensors"
    with pytest.raises(BadInput, match=r"base-bfl\.safetensors, which is not beside it; give it with --base"):
        verify(out, {})
    given = dict(zip(("base", "aligned", "distilled"), paths))
    assert verify(out, given) == [(role, str(path)) for role, path in given.items()]
    for path in paths:
        shutil.copy(path, tmp_path)
    assert len(verify(out, {})) == 3
    data = bytearray(out.read_bytes())
    data[-5] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(data)
    with pytest.raises(BadInput, match=r"bad\.safetensors: [\w.]+ is not what its recipe gives, first in its byte \d+"):
        verify(tmp_path / "bad.safetensors", given)
    klein.save(paths[1], klein.moved(klein.weights(), 9, 0.02))
    with pytest.raises(
        BadInput, match=r"aligned-bfl\.safetensors is not the aligned that .* was merged from, its sha256 differs"
    ):
        verify(out, given)
    with pytest.raises(BadInput, match=r"was not merged by clvr"):
        verify(paths[0], given)


@pytest.mark.parametrize(
    "more",
    [
        {"dtype": "fp8"},
        {"rounding": "stochastic", "seed": 5},
        {"blocks": (Block("txt_in", 0.5, 0.2),), "layout": "diffusers"},
    ],
)
def test_verify_makes_it_again_whatever_the_recipe(paths, tmp_path, more):
    merged(tmp_path, MergeRecipe(*paths, alpha=0.6, **more))
    given = dict(zip(("base", "aligned", "distilled"), paths))
    assert len(verify(tmp_path / "out.safetensors", given)) == 3


def test_verify_finds_a_recipe_that_was_changed(paths, tmp_path):
    merged(tmp_path, MergeRecipe(*paths, alpha=0.6))
    out = tmp_path / "out.safetensors"
    given = dict(zip(("base", "aligned", "distilled"), paths))
    data = out.read_bytes()
    out.write_bytes(data.replace(rb"\"alpha\":0.6", rb"\"alpha\":0.7"))
    with pytest.raises(BadInput, match="is not what its recipe gives"):
        verify(out, given)
    out.write_bytes(data.replace(b"clvr-f32-1", b"clvr-f32-9"))
    with pytest.raises(BadInput, match=r"its metadata dswm\.contract is not what its recipe gives"):
        verify(out, given)
    out.write_bytes(data.replace(b"dswm.recipe", b"dswm.xecipe"))
    with pytest.raises(BadInput, match="was not merged by clvr"):
        verify(out, given)
