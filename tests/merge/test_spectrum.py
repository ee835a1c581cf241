"""`clvr spectrum`: the participation ratio of each matrix, in every form that a merge reads, and the power law."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.merge import spectrum as module
from clvr_core.merge.spectrum import power_law, spectrum
from tests.merge import klein
from tests.merge.test_merge import FORMS


def by_svd(matrix: torch.Tensor) -> tuple[float, float]:
    squares = torch.linalg.svdvals(matrix.double().reshape(len(matrix), -1)) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum()), float(squares.sum() / squares.max())


def saved(folder, **tensors: torch.Tensor):
    return klein.save(folder / "model.safetensors", tensors)


def with_values(values, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """A matrix of these singular values."""
    random = np.random.default_rng(seed)
    left, right = (np.linalg.qr(random.standard_normal((side, len(values))))[0] for side in (rows, columns))
    return torch.from_numpy(((left * np.array(values)) @ right.T).astype(np.float32))


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16), (12, 4, 3, 3)])
@pytest.mark.parametrize("read_at_once", [64, 1 << 22])
def test_is_what_the_singular_values_say_however_much_is_read_at_once(shape, read_at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", read_at_once)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (found,) = spectrum(saved(tmp_path, weight=matrix)).matrices
    assert (found.rank, found.stable) == pytest.approx(by_svd(matrix), rel=1e-5)
    assert found.rows * found.columns == matrix.numel()


def test_equal_values_count_all_and_one_value_counts_one(tmp_path):
    found = {
        each.name: each.rank
        for each in spectrum(
            saved(tmp_path, flat=with_values([2.0] * 10, 20, 10), one=with_values([3.0], 20, 10))
        ).matrices
    }
    assert found == {"flat": pytest.approx(10, rel=1e-4), "one": pytest.approx(1, rel=1e-4)}


def test_the_mean_weighs_by_weights_and_passes_vectors_and_small_tensors_by(tmp_path):
    found = spectrum(
        saved(
            tmp_path,
            wide=with_values([1.0] * 8, 8, 24),
            tall=with_values([1.0] * 16, 32, 16),
            norm=torch.ones(64),
            few=torch.ones(4, 64),
        )
    )
    assert found.capacity == pytest.approx((8 * 192 + 16 * 512) / 704, rel=1e-4)
    assert found.weights == 704 and found.share == pytest.approx(1.0, rel=1e-4) and len(found.matrices) == 2


def test_a_scale_changes_nothing(tmp_path):
    matrix = torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
    one = spectrum(saved(tmp_path, weight=matrix)).capacity
    assert spectrum(saved(tmp_path, weight=1000 * matrix)).capacity == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_layout_of_one_model_has_the_same_spectrum(form, tmp_path):
    weights = klein.weights(dtype=torch.float32)
    plain = spectrum(klein.save(tmp_path / "plain.safetensors", weights))
    found = spectrum(klein.save(tmp_path / "model.safetensors", FORMS[form](weights)))
    assert found.capacity == pytest.approx(plain.capacity, rel=1e-6) and found.weights == plain.weights


def test_encoders_beside_the_diffusion_model_do_not_count(tmp_path):
    weights = klein.weights(dtype=torch.float32)
    alone = spectrum(klein.save(tmp_path / "alone.safetensors", weights))
    whole = spectrum(klein.save(tmp_path / "all.safetensors", klein.all_in_one(weights)))
    assert whole.weights == alone.weights and whole.capacity == pytest.approx(alone.capacity, rel=1e-6)


def test_patterns_choose(tmp_path):
    path = saved(tmp_path, first=with_values([1.0] * 8, 8, 8), second=with_values([1.0], 8, 8))
    assert spectrum(path, include=["first"]).capacity == pytest.approx(8, rel=1e-4)
    assert spectrum(path, exclude=["first"]).capacity == pytest.approx(1, rel=1e-4)
    with pytest.raises(BadInput, match="no matrix"):
        spectrum(path, include=["third"])


def test_values_that_are_not_finite_are_refused_by_name(tmp_path):
    broken = torch.ones(8, 8)
    broken[3, 3] = torch.nan
    with pytest.raises(BadInput, match="weight has values that are not finite"):
        spectrum(saved(tmp_path, weight=broken))


def test_a_matrix_of_zeros_uses_no_direction(tmp_path):
    (found,) = spectrum(saved(tmp_path, weight=torch.zeros(8, 8))).matrices
    assert (found.rank, found.stable) == (0.0, 0.0)


def test_the_power_law_is_found_again_and_few_points_have_none():
    x = [2.0, 3.0, 5.0, 9.0]
    law = power_law(x, [7 * value**1.5 for value in x])
    assert law is not None
    assert (law.exponent, law.scale, law.fit, law.order) == pytest.approx((1.5, 7.0, 1.0, 1.0))
    assert power_law(x[:2], x[:2]) is None and power_law([2.0] * 4, x) is None and power_law(x, [0.0, *x[1:]]) is None
    # Not in order, and not on the line.
    other = power_law([1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 2.0, 3.0])
    assert other is not None and other.order == pytest.approx(0.4) and 0 < other.fit < 1


def test_the_command_tells_each_file_and_the_law(tmp_path, capsys):
    paths = []
    for side in (8, 16, 32):
        (tmp_path / str(side)).mkdir()
        paths.append(str(saved(tmp_path / str(side), weight=with_values([1.0] * side, side, side))))
    assert main(["spectrum", *paths, "--auc", "4", "16", "64"]) == 0
    said = capsys.readouterr().out
    assert said.count("I_v1") == 4 and "area ~ I_v1^2.000, R^2 1.000" in said
    assert main(["spectrum", "--json", paths[0]]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["law"] is None and told["files"][0]["capacity"] == pytest.approx(8, rel=1e-4)
    assert main(["spectrum", *paths, "--auc", "4"]) == 2 and "1 numbers for 3 files" in capsys.readouterr().err
