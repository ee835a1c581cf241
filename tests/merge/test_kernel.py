"""The implementations of the merge formula give the same bits, and the optional compiled kernel is used only if it
does.

formula.py lists the four implementations. The fourth, nodes/merge/live_patch.py, needs a running ComfyUI:
tests/comfy/test_merge.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.merge import engine, formula, native
from clvr_core.merge import run as runs
from clvr_core.merge import survey as surveys
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Lora, MergeRecipe
from clvr_core.merge.run import merge
from clvr_core.weights import dtypes
from tests.merge import klein
from tests.merge.test_formula import hard_values
from tests.merge.test_lowrank import factors, named
from tests.merge.test_merge import written


def test_the_build_makes_the_kernel_where_it_can_and_goes_on_where_it_cannot(extension):
    assert extension["name"] == "clvr_core.merge._kernel" and extension["optional"] is True
    assert extension["py-limited-api"] is True, "the library knows nothing of Python, so one serves every version"
    assert "-ffp-contract=off" in extension["extra-compile-args"], "a fused multiply-add would change bits"


@pytest.fixture
def installed(built, monkeypatch):
    monkeypatch.setattr(native, "kernel", lambda: built)
    return built


STRENGTHS = ((0.7, 0.85), (1.0, -0.3), (1.3,), (1.0,), ())
"""Of none to two inputs beside the base; a strength of 1 has a path of its own in torch."""


def engine_of(request, implementation: str) -> engine.Engine:
    if implementation == "c":
        return engine.KernelEngine(request.getfixturevalue("built"))
    return engine.TorchEngine() if implementation == "torch" else engine.Engine()


def hard_block(dtype: str, inputs: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The raw bytes of the base and of `inputs` others in a dtype, and a low-rank delta, of values that are hard to
    round."""
    random, largest = np.random.default_rng(1), {"F16": 1000.0, "F8_E4M3": 400.0}.get(dtype, 1e37)
    values = hard_values()
    values = random.permutation(values[np.abs(values) < largest])[: 1 << 15]
    return [dtypes.encode(random.permutation(values), dtype) for _ in range(1 + inputs)], random.permutation(values)


def block_of(raw: list[np.ndarray], forms, strengths, low: np.ndarray | None, copy: str = "") -> engine.Block:
    count = len(raw[0]) // dtypes.FLOATS[forms[0][0]]
    rows = [memoryview(data) for data in raw]
    return engine.Block(rows, forms, ("aligned", "distilled")[: len(raw) - 1], strengths, low, count, copy)


@pytest.mark.parametrize("low_rank", [False, True], ids=["", "low-rank"])
@pytest.mark.parametrize("strengths", STRENGTHS, ids=str)
@pytest.mark.parametrize("implementation", ["torch", "c"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F8_E4M3"])
def test_every_implementation_gives_the_bits_of_the_reference(request, implementation, dtype, strengths, low_rank):
    made, scale = engine_of(request, implementation), 0.013 if dtype == "F8_E4M3" else None
    raw, low = hard_block(dtype, len(strengths))
    low = low if low_rank else None
    if dtype == "F8_E4M3" and low is not None:
        low = low * np.float32(0.01)
    base, *others = (dtypes.decode(each, dtype) for each in raw)
    right = formula.combine(base, *(*others, None, None)[:2], *(*strengths, 1.0, 1.0)[:2], low)
    assert made.merge(block_of(raw, [(dtype, None)] * len(raw), strengths, low), dtype, 64, scale) is True
    assert bytes(made.window[64 : 64 + len(raw[0])]) == dtypes.encode(right, dtype, scale).tobytes()


@pytest.mark.parametrize("implementation", ["torch", "c", "numpy"])
@pytest.mark.parametrize("scales", [(0.5, 0.5), (2.0**-9, 0.013)], ids=str)
def test_scaled_fp8_is_read_with_the_bits_of_the_reference(request, implementation, scales):
    raw, low = hard_block("F8_E4M3", 1)
    made, forms = engine_of(request, implementation), [("F8_E4M3", scale) for scale in scales]
    assert made.merge(block_of(raw, forms, (0.7,), low), "") is True
    base, other = (dtypes.decode(each, "F8_E4M3", scale) for each, scale in zip(raw, scales))
    right = formula.combine(base, other, alpha=0.7, low_rank=low)
    assert made.merged(len(low)).tobytes() == right.tobytes()
    assert made.peak(len(low)) == np.abs(right).max()


@pytest.mark.parametrize("implementation", ["torch", "c"])
def test_every_code_of_the_small_dtypes_is_read_and_written_with_its_own_bits(request, implementation):
    for dtype, codes in (("F16", np.arange(1 << 16, dtype=np.uint16)), ("F8_E4M3", np.arange(256, dtype=np.uint8))):
        made, values = engine_of(request, implementation), dtypes.decode(codes.view(np.uint8), dtype)
        codes = codes[np.isfinite(values)]
        block = block_of([codes.view(np.uint8).copy()], [(dtype, None)], (), None)
        assert made.merge(block, "F32") is True
        assert bytes(made.window[: 4 * len(codes)]) == values[np.isfinite(values)].tobytes()
        assert made.merge(block, dtype, 0, 1.0 if dtype == "F8_E4M3" else None) is True
        assert bytes(made.window[: codes.nbytes]) == codes.tobytes()


@pytest.mark.parametrize(
    "roles, copy",
    [
        *((roles, "") for roles in (("aligned", "distilled"), ("distilled",), ("aligned",), ())),
        (("aligned", "distilled"), "aligned"),
        (("aligned",), "base"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_the_kernel_measures_what_numpy_does(built, roles, copy, dtype):
    random = np.random.default_rng(5)
    values = [random.standard_normal(3001).astype(np.float32) * (0.02 if number else 1) for number in range(3)]
    raw = [dtypes.encode(values[0] + (each if number else 0), "BF16") for number, each in enumerate(values)]
    alone = copy or (dtype == "BF16" and roles)  # in one pass
    low = None if alone else (random.standard_normal(3001) * (random.random(3001) < 0.5)).astype(np.float32) * 0.01
    block = engine.Block(
        [memoryview(each) for each in raw[: 1 + len(roles)]],
        [("BF16", None)] * (1 + len(roles)),
        roles,
        (0.7, 0.85)[: len(roles)],
        low,
        3001,
        copy,
    )
    found = []
    for made in (engine.Engine(), engine.KernelEngine(built)):
        assert made.merge(block, dtype, 0, None, True)
        found.append(made.measures("atom", 7, 2.0))
    right, measures = found
    assert measures.count == right.count == 6002 and measures.base == pytest.approx(right.base, rel=1e-5)
    assert list(measures.deltas) == list(right.deltas) and list(measures.sides) == list(right.sides)
    for role, delta in right.deltas.items():
        other = measures.deltas[role]
        assert (other.peak, other.place) == (delta.peak, delta.place)
        assert (other.squares, other.scaled) == pytest.approx((delta.squares, delta.scaled), rel=1e-5)
        assert other.error == pytest.approx(delta.error, rel=1e-3, abs=1e-6)
    assert measures.sides == pytest.approx(right.sides, rel=1e-5) and measures.pairs.keys() == right.pairs.keys()
    for sides, pair in right.pairs.items():
        other = measures.pairs[sides]
        assert (other.signed, other.conflicts) == (pair.signed, pair.conflicts) and 0 < pair.conflicts < pair.signed
        assert other.product == pytest.approx(pair.product, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 511, 512, 9998])
@pytest.mark.parametrize("implementation", ["torch", "c", "numpy"])
def test_values_that_are_not_finite_are_reported(request, implementation, value, place):
    made = engine_of(request, implementation)
    sources = [np.zeros(9999, np.float32) for _ in range(3)]
    for source in sources:
        source[place] = value
        raw = [(each.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8) for each in sources]
        with np.errstate(invalid="ignore"):
            assert made.merge(block_of(raw, [("BF16", None)] * 3, (0.0, 1.0), None), "BF16") is False
        source[place] = 0


@pytest.mark.parametrize("implementation", ["torch", "c", "numpy"])
@pytest.mark.parametrize("dtype, value", [("F16", 65520.0), ("BF16", 3.4e38)])
def test_values_that_overflow_the_dtype_of_the_output_are_reported(request, implementation, dtype, value):
    raw = [np.full(600, value, np.float32).view(np.uint8)]
    assert engine_of(request, implementation).merge(block_of(raw, [("F32", None)], (), None), dtype) is False
    raw = [np.full(600, value * 0.99, np.float32).view(np.uint8)]
    assert engine_of(request, implementation).merge(block_of(raw, [("F32", None)], (), None), dtype) is True


def test_short_buffers_are_refused(built):
    made, whole = engine.KernelEngine(built, 20), np.zeros(20, np.uint8)
    block = engine.Block([memoryview(whole)] * 2, [("BF16", None)] * 2, ("aligned",), (1.0,), None, 10)
    assert made.merge(block, "BF16") is True
    wrong = [
        (replace(block, rows=[memoryview(whole), memoryview(whole)[:18]]), 0),
        (replace(block, low=np.zeros(9, np.float32)), 0),
        (block, 2),
    ]
    for each, offset in wrong:
        with pytest.raises(ValueError, match="shorter than 10"):
            made.merge(each, "BF16", offset)


@pytest.mark.parametrize("dtype", ["base", "fp16", "fp8"])
def test_a_merge_with_the_kernel_gives_the_file_of_a_merge_with_torch(tmp_path, installed, monkeypatch, dtype):
    paths = written(tmp_path, ("bfl", "diffusers", "comfyui"))
    lora = klein.save(tmp_path / "l.safetensors", named(factors()))
    used = calls_of(monkeypatch, "merge", "merge_files")
    for number, recipe in enumerate(
        (
            MergeRecipe(*paths, dtype=dtype),
            MergeRecipe(*paths, alpha=0.7, beta=0.8, loras=(Lora(lora, 0.6),), dtype=dtype),
            MergeRecipe(paths[0], lora, dtype=dtype),
        )
    ):
        files, found = [], []
        for name in ("torch", "kernel"):
            with monkeypatch.context() as patch:
                if name == "torch":
                    patch.setattr(native, "kernel", lambda: None)
                (folder := tmp_path / f"{name}{number}").mkdir()
                before = len(used)
                with make_plan(recipe) as plan:
                    done = merge(plan, folder / "out.safetensors", measured=number == 1)
                assert (len(used) > before) is (name == "kernel")
                files.append((folder / "out.safetensors").read_bytes())
                found.append({name: each.figures() for name, each in done.found.blocks.items()})
        assert files[0] == files[1]
        for left, right in zip(found[0].values(), found[1].values()):
            for key in left:
                assert left[key] == (right[key] and pytest.approx(right[key], rel=2e-3, abs=1e-5)), key


def calls_of(monkeypatch, *names: str) -> list[str]:
    """The calls of these methods of the kernel, from now on."""
    calls = []
    for name in names:
        real = getattr(native.Kernel, name)

        def noted(self, *given, name=name, real=real):
            calls.append(name)
            return real(self, *given)

        monkeypatch.setattr(native.Kernel, name, noted)
    return calls


@pytest.mark.parametrize("dtype", ["base", "fp16", "fp32"])
@pytest.mark.parametrize("combine", ["sum", "ties"])
def test_what_the_kernel_reads_by_itself_makes_the_same_file(tmp_path, installed, monkeypatch, dtype, combine):
    monkeypatch.setattr(engine, "PIECE", 1000)
    paths = written(tmp_path, ("bfl", "diffusers", "comfyui"))
    used, files = calls_of(monkeypatch, "merge_files"), []
    for sha256 in (True, False):
        with make_plan(MergeRecipe(*paths, alpha=0.7, dtype=dtype, combine=combine)) as plan:
            done = merge(plan, tmp_path / f"{sha256}.safetensors", sha256=sha256)
        assert bool(used) is not sha256, "a file that is hashed is read into buffers of Python"
        files.append((load_file(tmp_path / f"{sha256}.safetensors"), done.read))
    (hashed, read), (alone, read_alone) = files
    assert klein.same_bits(hashed["txt_in.weight"], alone["txt_in.weight"]) and read == read_alone
    assert hashed.keys() == alone.keys() and all(klein.same_bits(hashed[name], alone[name]) for name in alone)


def sampled(recipe, monkeypatch, kernel):
    """The survey of a plan with or without a kernel, and its simplified segments."""
    with monkeypatch.context() as patch, make_plan(recipe) as plan:
        patch.setattr(native, "kernel", lambda: kernel)
        found = surveys.survey(plan)
        return found, [(each.atom, each.copy, [role for role, _ in each.sources()]) for each in plan.segments]


@pytest.mark.parametrize("dtype", ["base", "fp16", "fp32", "fp8"])
@pytest.mark.parametrize(
    "how",
    [{}, {"alpha": 0.7, "beta": -0.4}, {"combine": "ties"}, {"aligned": None, "beta": 0.5}, {"lora": True}],
    ids=str,
)
def test_the_kernel_finds_in_samples_what_numpy_does(tmp_path, built, monkeypatch, dtype, how):
    base, aligned, distilled = klein.three()
    wide = torch.randn(301, 97, generator=torch.Generator().manual_seed(3)).bfloat16()
    for number, each in enumerate((base, aligned, distilled)):  # larger than a sample
        each["single_stream_modulation.lin.weight"] = (wide.float() * (1 + 0.02 * number * (number + 1))).bfloat16()
    aligned["img_in.weight"] = base["img_in.weight"].clone()
    paths = dict(zip(("base", "aligned", "distilled"), written(tmp_path, tensors=(base, aligned, distilled))))
    how = dict(how)
    if how.pop("lora", False):
        how["loras"] = (Lora(klein.save(tmp_path / "l.safetensors", named(factors())), 0.6),)
    recipe, used = MergeRecipe(**{**paths, **how}, dtype=dtype), calls_of(monkeypatch, "sample")
    (right, segments), (found, simplified) = (sampled(recipe, monkeypatch, kernel) for kernel in (None, built))
    assert bool(used) is (dtype != "fp8" or bool(found.tensors)) and simplified == segments
    assert list(found.tensors) == list(right.tensors) and list(found.blocks) == list(right.blocks)
    assert found.warnings == right.warnings
    for one, other in zip(
        [*found.tensors.values(), *found.blocks.values()], [*right.tensors.values(), *right.blocks.values()]
    ):
        assert (one.count, list(one.deltas), list(one.sides)) == (other.count, list(other.deltas), list(other.sides))
        assert one.base == pytest.approx(other.base, rel=1e-5) and one.sides == pytest.approx(other.sides, rel=1e-4)
        for role, delta in other.deltas.items():
            mine = one.deltas[role]
            assert (mine.peak, mine.place) == (delta.peak, delta.place)
            assert (mine.squares, mine.scaled) == pytest.approx((delta.squares, delta.scaled), rel=1e-4)
            assert mine.error == pytest.approx(delta.error, rel=1e-2, abs=1e-4 * delta.scaled)
        assert one.pairs.keys() == other.pairs.keys()
        for two, pair in other.pairs.items():
            mine = one.pairs[two]
            assert (mine.signed, mine.conflicts) == (pair.signed, pair.conflicts)
            scale = (other.sides[two[0]] * other.sides[two[1]]) ** 0.5
            assert mine.product == pytest.approx(pair.product, rel=1e-4, abs=1e-5 * scale)


@pytest.mark.parametrize("sha256", [True, False])
@pytest.mark.parametrize("moment", ["before the survey", "after the survey"])
def test_a_file_that_became_shorter_is_refused_by_name(tmp_path, installed, monkeypatch, sha256, moment):
    paths, real = written(tmp_path), surveys.survey

    def shortened(plan, cancel):
        found = None if moment.startswith("before") else real(plan, cancel)
        os.truncate(paths[2], os.stat(paths[2]).st_size - 5000)
        return found or real(plan, cancel)

    monkeypatch.setattr(runs, "survey", shortened)
    with (
        make_plan(MergeRecipe(*paths)) as plan,
        pytest.raises(BadInput, match=r"distilled-bfl\.safetensors became shorter while it was read"),
    ):
        merge(plan, tmp_path / "out.safetensors", sha256=sha256)
    assert not (tmp_path / "out.safetensors").exists()


def test_the_kernel_finds_what_is_not_finite(tmp_path, installed):
    tensors = klein.three()
    tensors[1]["txt_in.weight"][3, 4] = float("inf")
    with (
        make_plan(MergeRecipe(*written(tmp_path, tensors=tensors))) as plan,
        pytest.raises(BadInput, match=r"aligned-bfl\.safetensors: txt_in\.weight holds 1 values"),
    ):
        merge(plan, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_library_of_other_bits_of_another_version_or_of_none_is_not_used(built, tmp_path, monkeypatch):
    assert native.load(built.path).path == built.path
    with monkeypatch.context() as patch:
        patch.setattr(native.Kernel, "merge", lambda self, job: True)
        assert native.load(built.path) is None, "other bits"
    with monkeypatch.context() as patch:
        patch.setattr(native, "VERSION", native.VERSION + 1)
        assert native.load(built.path) is None, "another version"
    (tmp_path / "text.so").write_text("none")
    assert native.load(tmp_path / "text.so") is None and native.load(tmp_path / "absent.so") is None


def test_a_library_from_before_the_version_was_checked_is_not_used(tmp_path):
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler here")
    (tmp_path / "old.c").write_text("void *PyInit__kernel(void) { return 0; }")
    subprocess.run([compiler, "-shared", "-fPIC", tmp_path / "old.c", "-o", tmp_path / "old.so"], check=True)
    assert native.load(tmp_path / "old.so") is None


@pytest.fixture
def nothing_built(monkeypatch, tmp_path):
    """A package without its library, and an empty cache folder."""
    monkeypatch.setenv("CLVR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "NAMES", ())
    for each in (native.kernel, native.build_in_background):
        each.cache_clear()
    yield
    for each in (native.kernel, native.build_in_background):
        each.cache_clear()


def test_where_a_compiler_is_the_kernel_is_built_in_the_background_and_used_from_then_on(nothing_built):
    if not native.compiler():
        pytest.skip("no C compiler here")
    assert native.kernel() is None and native.engine_in_words().startswith("torch (the kernel was not built")
    thread = native.build_in_background()
    assert native.build_in_background() is thread, "once in a process"
    thread.join()
    assert native.kernel().path == native.own_place()
    assert native.engine_in_words() == "the compiled kernel, built here"
    assert os.listdir(native.own_place().parent) == [native.own_place().name]
    native.build_in_background.cache_clear()
    assert native.build_in_background() is None, "it is there"


@pytest.mark.parametrize("case", ["no compiler", "a compiler that fails", "a compiler of other bits", "no place"])
def test_where_the_kernel_cannot_be_built_nothing_is_said_and_nothing_is_left(
    nothing_built, monkeypatch, tmp_path, case
):
    program = tmp_path / "cc"
    program.write_text(
        "#!/bin/sh\nfor out; do :; done\n" + ("echo none > $out\n" if case.endswith("bits") else "exit 1\n")
    )
    program.chmod(0o755)
    monkeypatch.setattr(native, "compiler", lambda: None if case == "no compiler" else str(program))
    if case == "no place":
        (tmp_path / "cache").write_text("a file")
    assert native.build() is False and native.kernel() is None
    assert case == "no place" or not any((tmp_path / "cache").glob("*"))
    if case == "no compiler":
        assert native.build_in_background() is None and "there is no C compiler" in native.engine_in_words()
