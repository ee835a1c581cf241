"""The implementations of the merge formula give the same bits, and the optional compiled kernel is used only if it
does.

formula.py lists the four implementations. The fourth, nodes/merge/live_patch.py, needs a running ComfyUI:
tests/comfy/test_merge.py.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

import numpy as np
import pytest

from clvr_core.errors import BadInput
from clvr_core.merge import engine, formula
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Lora, MergeRecipe
from clvr_core.merge.run import merge
from clvr_core.weights import dtypes
from tests.merge import klein
from tests.merge.test_formula import hard_values
from tests.merge.test_lowrank import factors, named
from tests.merge.test_merge import written

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def extension():
    """What the package's own build compiles, and how."""
    (found,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    return found


def test_the_build_makes_the_kernel_where_it_can_and_goes_on_where_it_cannot(extension):
    assert extension["name"] == "clvr_core.merge._kernel" and extension["optional"] is True
    assert "-ffp-contract=off" in extension["extra-compile-args"], "a fused multiply-add would change bits"


@pytest.fixture(scope="module")
def built(tmp_path_factory, extension):
    compiler, headers = shutil.which("cc"), Path(sysconfig.get_paths()["include"])
    if not compiler or not (headers / "Python.h").exists():
        pytest.skip("no C compiler or no headers of Python here")
    out = tmp_path_factory.mktemp("kernel") / "_kernel.so"
    flags = [*extension["extra-compile-args"], "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{headers}"]
    subprocess.run([compiler, *flags, *(ROOT / source for source in extension["sources"]), "-o", out], check=True)
    spec = importlib.util.spec_from_file_location("clvr_core.merge._kernel", out)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installed(built, monkeypatch):
    monkeypatch.setitem(sys.modules, "clvr_core.merge._kernel", built)
    monkeypatch.setattr("clvr_core.merge._kernel", built, raising=False)
    engine.kernel.cache_clear()
    yield built
    engine.kernel.cache_clear()


STRENGTHS = ((0.7, 0.85), (1.0, -0.3), (1.3,), (1.0,), ())
"""Of none to two inputs beside the base; a strength of 1 has a path of its own in torch."""


def hard_block(dtype: str, inputs: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The raw bytes of the base and of `inputs` others in a dtype, and a low-rank delta, of values that are hard to
    round."""
    random, largest = np.random.default_rng(1), {"F16": 1000.0, "F8_E4M3": 400.0}.get(dtype, 1e37)
    values = hard_values()
    values = random.permutation(values[np.abs(values) < largest])[: engine.BLOCK]
    return [dtypes.encode(random.permutation(values), dtype) for _ in range(1 + inputs)], random.permutation(values)


def merged_bytes(made: engine.Engine, dtype: str, raw: list[np.ndarray], strengths, low: np.ndarray | None) -> bytes:
    """The output of an engine for these inputs, written behind 64 other bytes of its window."""
    count, size = len(raw[0]) // dtypes.FLOATS[dtype], len(raw[0])
    rows = [memoryview(data) for data in raw]
    assert made.merge(rows, [(dtype, None)] * len(raw), strengths, low, count, 64, dtype) is True
    return bytes(made.window[64 : 64 + size])


@pytest.mark.parametrize("low_rank", [False, True], ids=["", "low-rank"])
@pytest.mark.parametrize("strengths", STRENGTHS, ids=str)
@pytest.mark.parametrize(
    "implementation, dtype", [("torch", "F32"), ("torch", "F16"), ("torch", "BF16"), ("c", "BF16")]
)
def test_every_implementation_gives_the_bits_of_the_reference(request, implementation, dtype, strengths, low_rank):
    made = engine.TorchEngine() if implementation == "torch" else engine.KernelEngine(request.getfixturevalue("built"))
    raw, low = hard_block(dtype, len(strengths))
    low = low if low_rank else None
    base, *others = (dtypes.decode(each, dtype) for each in raw)
    right = formula.combine(base, *(*others, None, None)[:2], *(*strengths, 1.0, 1.0)[:2], low)
    assert merged_bytes(made, dtype, raw, strengths, low) == dtypes.encode(right, dtype).tobytes()


@pytest.mark.parametrize("scales", [(0.5, 0.5), (2.0**-9, 0.013)], ids=str)
def test_scaled_fp8_is_read_with_the_bits_of_the_reference(scales):
    raw, low = hard_block("F8_E4M3", 1)
    made, count = engine.TorchEngine(), len(low)
    rows = [memoryview(data) for data in raw]
    assert made.merge(rows, [("F8_E4M3", scale) for scale in scales], (0.7,), low, count, 0, "") is True
    base, other = (dtypes.decode(each, "F8_E4M3", scale) for each, scale in zip(raw, scales))
    assert made.merged(count).tobytes() == formula.combine(base, other, alpha=0.7, low_rank=low).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 4095, 4096, 9998])
def test_values_that_are_not_finite_are_reported(built, value, place):
    sources = [np.zeros(9999, np.float32) for _ in range(3)]
    for source in sources:
        source[place] = value
        raw = [(each.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8) for each in sources]
        assert built.merge(np.empty(2 * 9999, np.uint8), *raw, 0.0, 1.0, None, 9999) is False
        source[place] = 0


def test_short_buffers_are_refused(built):
    whole, short = np.zeros(20, np.uint8), np.zeros(18, np.uint8)
    for arguments in ((short, whole, None), (whole, short, None), (whole, whole, short)):
        with pytest.raises(ValueError, match="shorter"):
            built.merge(arguments[0], arguments[1], arguments[2], None, 1.0, 1.0, None, 10)
    with pytest.raises(ValueError, match="shorter"):
        built.merge(whole, whole, None, whole, 1.0, 1.0, None, 10)


def test_a_merge_with_the_kernel_gives_the_file_of_a_merge_with_torch(tmp_path, installed, monkeypatch):
    paths = written(tmp_path, ("bfl", "diffusers", "comfyui"))
    lora = klein.save(tmp_path / "l.safetensors", named(factors()))
    used = []
    monkeypatch.setattr(installed, "merge", lambda *args, real=installed.merge: used.append(1) or real(*args))
    for number, recipe in enumerate(
        (
            MergeRecipe(*paths),
            MergeRecipe(*paths, alpha=0.7, beta=0.8, loras=(Lora(lora, 0.6),)),
            MergeRecipe(paths[0], lora),
        )
    ):
        files = []
        for name in ("torch", "kernel"):
            with monkeypatch.context() as patch:
                if name == "torch":
                    patch.setattr(engine, "kernel", lambda: None)
                (folder := tmp_path / f"{name}{number}").mkdir()
                before = len(used)
                with make_plan(recipe) as plan:
                    merge(plan, folder / "out.safetensors")
                assert (len(used) > before) is (name == "kernel")
                files.append((folder / "out.safetensors").read_bytes())
        assert files[0] == files[1]


def test_the_kernel_finds_what_is_not_finite(tmp_path, installed):
    tensors = klein.three()
    tensors[1]["txt_in.weight"][3, 4] = float("inf")
    with (
        make_plan(MergeRecipe(*written(tmp_path, tensors=tensors))) as plan,
        pytest.raises(BadInput, match=r"aligned-bfl\.safetensors: txt_in\.weight holds 1 values"),
    ):
        merge(plan, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_kernel_of_other_bits_is_not_used(installed, monkeypatch):
    assert engine.kernel() is installed
    engine.kernel.cache_clear()
    monkeypatch.setattr(installed, "merge", lambda out, *_: out.fill(0))
    assert engine.kernel() is None
