"""The optional compiled kernel: the bits of torch and of numpy, or it is not used."""

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


def test_bits_of_the_contract_for_all_kinds_of_values(built):
    random = np.random.default_rng(1)
    values = hard_values()
    values = values[np.abs(values) < 1e37]
    base, first, second = (dtypes.encode(random.permutation(values), "BF16") for _ in range(3))
    low = random.permutation(values)
    out = np.empty_like(base)
    b, f, s = (dtypes.decode(each, "BF16") for each in (base, first, second))
    for sources, args, right in (
        ((base, first, second), (0.7, 0.85, low), formula.combine(b, f, s, 0.7, 0.85, low)),
        ((base, first, second), (1.0, -0.3, None), formula.combine(b, f, s, 1.0, -0.3)),
        ((base, first, None), (1.3, 9.0, None), formula.combine(b, f, alpha=1.3)),
        ((base, first, None), (1.3, 9.0, low), formula.combine(b, f, alpha=1.3, low_rank=low)),
        ((base, None, None), (9.0, 9.0, low), formula.combine(b, low_rank=low)),
        ((base, None, None), (9.0, 9.0, None), b),
    ):
        assert built.merge(out, *sources, *args, len(values)) is True
        assert (out == dtypes.encode(right, "BF16")).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 4095, 4096, 9998])
def test_values_that_are_not_finite_are_told(built, value, place):
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
