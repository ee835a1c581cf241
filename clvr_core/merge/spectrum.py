"""How many directions the matrices of a transformer use: a measure of its capacity, read tensor by tensor.

CLVR's complexity probe (arXiv 2605.14876) puts a "spectral capacity proxy" I_eff of each transformer beside the area under its
pass rate, and prints neither its formula nor the tensors it is taken over. I_v1 here is this project's own and is declared, as
the complexity C_v1 is: of each matrix W with singular values s the participation ratio

    (sum of s^2)^2 / (sum of s^4) = |W|^4 / |W W^T|^2,

which is n if n values are equal, and for random square matrices half their side; then the mean over all matrices, each by its
number of weights. It needs a product and no decomposition, so that a checkpoint of any size is read in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..weights.checkpoint import open_checkpoint
from .inputs import Part, cut, values_of

LEAST = 8
"""Rows and columns that a tensor must have to count as a matrix."""
ROWS = 1 << 22
"""Elements read at a time."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """rows, columns: of the matrix; of a convolution, outputs and all else.

    rank: its participation ratio, 1 to the smaller side.
    stable: its stable rank, (sum of s^2) / (largest s)^2, 1 to the smaller side.
    """

    name: str
    rows: int
    columns: int
    rank: float
    stable: float


@dataclass(frozen=True, slots=True)
class Spectrum:
    """matrices: all that were read.

    capacity: I_v1, the mean participation ratio by weights.
    stable: the mean stable rank by weights.
    share: mean of the participation ratio over the smaller side, by weights, 0 to 1.
    weights: elements of the matrices.
    width: the most frequent smaller side.
    warnings: sentences for the user.
    """

    matrices: tuple[Matrix, ...]
    capacity: float
    stable: float
    share: float
    weights: int
    width: int
    warnings: tuple[str, ...]


def spectrum(
    path: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Spectrum:
    """Measure the diffusion model of a checkpoint in any form that `clvr merge` reads.

    include, exclude: patterns of names; without include all.
    progress: called with the weights read and to be read.

    Raises BadInput for a file that cannot be read, without a matrix, or with values that are not finite.
    """
    warnings: list[str] = []
    with closing(open_checkpoint(path)) as opened:
        model = cut("base", opened, warnings)
        taken = {
            name: part
            for name, part in model.atoms.items()
            if model.is_inside(part)
            and _is_matrix(part)
            and (not include or any(fnmatch(name, pattern) for pattern in include))
            and not any(fnmatch(name, pattern) for pattern in exclude)
        }
        if not taken:
            raise BadInput(
                f"{path} has no matrix of {LEAST} rows and columns that is asked for; give a transformer's weights"
            )
        total, done, found = sum(part.count for part in taken.values()), 0, []
        for name, part in taken.items():
            found.append(_measured(name, part, path))
            done += part.count
            if progress:
                progress(done, total)
    sizes = np.array([each.rows * each.columns for each in found], float)
    least = [min(each.rows, each.columns) for each in found]

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=sizes))

    return Spectrum(
        tuple(found),
        mean([each.rank for each in found]),
        mean([each.stable for each in found]),
        mean([each.rank / side for each, side in zip(found, least)]),
        total,
        max(set(least), key=lambda side: (least.count(side), side)),
        tuple(warnings),
    )


def _is_matrix(part: Part) -> bool:
    return len(part.shape) >= 2 and part.shape[0] >= LEAST and part.count >= LEAST * part.shape[0]


def _measured(name: str, part: Part, path: Path) -> Matrix:
    rows, columns = part.shape[0], part.count // part.shape[0]
    gram, square = _gram(part, rows, columns)
    if not np.isfinite(square):
        raise BadInput(f"{path}: {name} has values that are not finite; get the file from a source you trust")
    if not square:
        return Matrix(name, rows, columns, 0.0, 0.0)
    return Matrix(name, rows, columns, square**2 / float((gram**2).sum()), square / _largest(gram))


def _gram(part: Part, rows: int, columns: int) -> tuple[np.ndarray, float]:
    """Return W^T W or W W^T, whichever is smaller, fp64 [n, n], and the sum of the squares."""
    if rows < columns:
        matrix = values_of(part, 0, part.count).reshape(rows, columns)
        gram = _product(matrix, matrix.T)
    else:
        gram, step = np.zeros((columns, columns)), max(1, ROWS // columns)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            piece = values_of(part, first * columns, count * columns).reshape(count, columns)
            gram += _product(piece.T, piece)
    return gram, float(np.trace(gram))


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left @ right in fp64; the long side in steps, so that little of it is held twice."""
    found, step = np.zeros((left.shape[0], right.shape[1])), max(1, ROWS // left.shape[0])
    for first in range(0, left.shape[1], step):
        found += left[:, first : first + step].astype(np.float64) @ right[first : first + step].astype(np.float64)
    return found


def _largest(gram: np.ndarray, rounds: int = 200) -> float:
    """Return the largest eigenvalue by power iteration."""
    vector = np.random.default_rng(0).standard_normal(len(gram))
    value = 0.0
    for _ in range(rounds):
        vector = gram @ (vector / np.linalg.norm(vector))
        before, value = value, float(np.linalg.norm(vector))
        if abs(value - before) <= 1e-9 * value:
            break
    return value


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """y = scale * x ^ exponent by least squares of the logarithms.

    fit: the share of the variance of log y that it explains, R^2.
    order: Spearman's rank correlation.
    """

    exponent: float
    scale: float
    fit: float
    order: float


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw | None:
    """Fit a power law. None with fewer than three points, without two different x, or with a value that is not above 0."""
    if len(x) < 3 or len(x) != len(y) or min(*x, *y) <= 0 or len(set(x)) < 2:
        return None
    across, up = np.log(x), np.log(y)
    slope, start = np.polyfit(across, up, 1)
    spread = float(((up - up.mean()) ** 2).sum())
    left = float(((up - slope * across - start) ** 2).sum())
    order = float(np.corrcoef(_ranks(across), _ranks(up))[0, 1]) if spread else 0.0
    return PowerLaw(float(slope), float(np.exp(start)), 1 - left / spread if spread else 1.0, order)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse.reshape(-1)]
