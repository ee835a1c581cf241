"""A LoRA from the difference of two checkpoints: each matrix of the difference cut to its largest singular values.

The singular vectors are found by subspace iteration from a random start (Halko, Martinsson, Tropp, arXiv:0909.4061,
algorithm 4.4). Each iteration reads the two files once, some rows at a time, so a difference is never held as a whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import prod, sqrt
from pathlib import Path
from typing import Literal

import numpy as np

from .. import __version__
from ..errors import BadInput
from ..weights import dtypes
from .inputs import values_of
from .keep import exchanged_warning, lora_file
from .measures import summed
from .plan import MergePlan, Output, Segment, make_plan
from .recipe import DTYPES, MergeRecipe
from .survey import Survey, survey
from .target import check_target

ROWS = 1 << 22
"""Elements of a difference in memory at a time."""
ITERATIONS = 2
SPARE = 8
"""Directions beyond the wanted rank, for the accuracy of the last wanted ones."""
RANK, MOST = 32, 128
"""The rank without a wish, and the largest for a wished share without a rank."""
RECIPE = "dswm.extract"
"""Key of the metadata that says how the LoRA was made."""


@dataclass(frozen=True, slots=True)
class Module:
    """The low-rank part of one matrix of the difference.

    down, up: A [rank, columns] and B [rows, rank], fp32.
    held: squares of the singular values, the largest first.
    whole: sum of all squares of the difference.
    """

    down: np.ndarray
    up: np.ndarray
    held: np.ndarray
    whole: float


@dataclass
class Extracted:
    """The result of an extraction.

    out: the LoRA.
    nbytes: its size.
    rank: of every module.
    held: |LoRA| / |difference|, the share of the norm, from 0 to 1. The share of the energy is its square.
    relative_norm: |difference| / |base| over all weights that are numbers.
    modules: for each module its own `held`.
    left: tensors that differ and that a LoRA cannot hold, such as norms and biases.
    seconds: wall time.
    warnings: sentences for the user.
    """

    out: Path
    nbytes: int
    rank: int
    held: float
    relative_norm: float
    modules: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)


def extract(
    base: Path,
    tuned: Path,
    out: Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    layout: Literal["bfl", "diffusers"] = "bfl",
    dtype: Literal["bf16", "fp16", "fp32"] = "bf16",
    limit: float = 0.5,
    fp8: Literal["refuse", "dequantise"] = "refuse",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Extracted:
    """Write the LoRA that turns `base` into `tuned`, as far as its rank holds the difference.

    rank: of every module, RANK without a wish; with `energy` the largest one, MOST without a wish.
    energy: take the smallest rank that holds this share of the squared norm of the difference, above 0 and below 1.
    include, exclude: patterns of tensors, as in `MergeRecipe`.
    layout: naming of FLUX.2: `bfl` is read by ComfyUI and by diffusers, `diffusers` by diffusers and by clvr.
    dtype: of the factors.
    limit, fp8: as in `MergeRecipe`.
    progress: called with the bytes read and to be read.

    Raises BadInput for wishes out of range, for checkpoints that do not fit or do not differ, and for a file that
    cannot be written.
    """
    if rank is not None and rank < 1:
        raise BadInput(f"--rank is {rank}; it must be at least 1")
    if energy is not None and not 0 < energy < 1:
        raise BadInput(f"--energy is {energy}; it is a share above 0 and below 1")
    started = time.perf_counter()
    recipe = MergeRecipe(base, distilled=tuned, include=include, exclude=exclude, limit=limit, fp8=fp8)
    with _planned(recipe, layout) as plan:
        check_target(plan, out, 0, overwrite)
        found = survey(plan)
        matrices, others = _pieces(plan)
        if not matrices:
            raise BadInput(
                f"{tuned} has the matrices of {base}, so there is nothing to extract; give the tuned weights"
            )
        ranks = rank or (RANK if energy is None else MOST)
        _refuse_noise(plan, found)
        total = sum(prod(output.shape) for output, _ in matrices)
        done, modules = 0, {}
        name_of = naming(plan)
        for output, pieces in matrices:
            modules[name_of(output)] = (output, _low_rank(output, pieces, ranks))
            done += prod(output.shape)
            if progress:
                progress(done, total)
        left = {name: _squares(pieces) for name, pieces in others.items()}
        whole = sum(module.whole for _, module in modules.values()) + sum(left.values())
        if not whole:
            raise BadInput(f"{tuned} has the weights of {base}, so there is nothing to extract; give the tuned weights")
        chosen = ranks if energy is None else _rank_for(energy, [module.held for _, module in modules.values()], whole)
        chosen = min(chosen, max(len(module.held) for _, module in modules.values()))
        shares = {
            name: sqrt(min(float(module.held[:chosen].sum()) / module.whole, 1.0))
            for name, (_, module) in modules.items()
            if module.whole
        }
        held = sqrt(min(sum(float(module.held[:chosen].sum()) for _, module in modules.values()) / whole, 1.0))
        squares = sum(measures.base for measures in found.tensors.values())
        made = Extracted(out, 0, chosen, held, sqrt(whole / squares) if squares else 0.0, shares)
        made.left = [name for name, size in left.items() if size]
        made.warnings = _warnings(plan, made, sqrt(sum(left.values()) / whole), energy)
        made.nbytes = _write(plan, made, {name: modules[name] for name in shares}, DTYPES[dtype], energy, overwrite)
        made.seconds = time.perf_counter() - started
        return made


def naming(plan: MergePlan) -> Callable[[Output], str]:
    """Return the function that names the module of a tensor, by the names that both ComfyUI and diffusers read for the
    family of the base.

    FLUX.1 by Black Forest Labs and the UNets have kohya's names, FLUX.1 by diffusers has diffusers' own, all others
    have ComfyUI's.
    """
    prefix = plan.base.prefix if plan.layout == plan.base.layout else ""
    names = {output.name.removeprefix(prefix) for output in plan.outputs}

    def any_begins(*starts: str) -> bool:
        return plan.layout == "plain" and any(name.startswith(starts) for name in names)

    kohya = any_begins("double_blocks.", "input_blocks.", "down_blocks.")
    own = plan.layout == "diffusers" or any_begins("single_transformer_blocks.")

    def name_of(output: Output) -> str:
        module = output.name.removeprefix(prefix).removesuffix(".weight")
        if kohya:
            return "lora_unet_" + module.replace(".", "_")
        return ("transformer." if own else "diffusion_model.") + module

    return name_of


def _planned(recipe: MergeRecipe, layout: Literal["bfl", "diffusers"]) -> MergePlan:
    plan = make_plan(recipe)
    if plan.layout in ("plain", layout):
        return plan
    plan.close()
    return make_plan(replace(recipe, layout=layout))


def _pieces(plan: MergePlan) -> tuple[list[tuple[Output, list[Segment]]], dict[str, list[Segment]]]:
    """Return the matrices of the diffusion model that may differ, each with its segments from top to bottom, and the
    other tensors that may differ by name."""
    prefix = plan.base.prefix if plan.layout == plan.base.layout else ""
    by_output: dict[str, list[Segment]] = {}
    for segment in sorted(plan.segments, key=lambda each: each.start):
        by_output.setdefault(segment.output.name, []).append(segment)
    matrices, others = [], {}
    for name, pieces in by_output.items():
        if not any(piece.distilled for piece in pieces):
            continue
        output = pieces[0].output
        if len(output.shape) >= 2 and name.endswith(".weight") and name.startswith(prefix):
            matrices.append((output, pieces))
        else:
            others[name] = pieces
    return matrices, others


def _refuse_noise(plan: MergePlan, found: Survey) -> None:
    """Raise BadInput if the difference is one of quantised weights, unless the recipe takes their values."""
    noise = found.findings().noise.get("distilled")
    if noise and plan.recipe.fp8 == "refuse":
        norm = summed(found.tensors.values()).relative_norm("distilled")
        raise BadInput(
            f"{plan.base.checkpoint.path} or {plan.recipe.distilled} has weights of 8 bits or fewer, whose rounding makes {noise:.2%} "
            f"of the base's norm, and the difference is {norm or 0:.2%}; use bf16 files, or --fp8 dequantise to take it all the same"
        )


def _differences(pieces: list[Segment]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the difference of a matrix some rows at a time: the first row, and fp32 [rows, columns]."""
    row = 0
    for piece in pieces:
        rows, columns = piece.count // piece.columns, piece.columns
        if piece.distilled is not None:
            step = max(ROWS // columns, 1)
            for first in range(0, rows, step):
                many = min(step, rows - first)
                place = first * columns, many * columns
                values = values_of(piece.distilled, *place) - values_of(piece.base, *place)
                yield row + first, values.reshape(many, columns)
        row += rows


def _squares(pieces: list[Segment]) -> float:
    return sum(_square(each) for _, each in _differences(pieces))


def _square(values: np.ndarray) -> float:
    return float(np.einsum("ij,ij->i", values, values).sum(dtype=np.float64))


def _low_rank(output: Output, pieces: list[Segment], rank: int) -> Module:
    rows, columns = output.shape[0], prod(output.shape[1:])
    width = min(rank + SPARE, rows, columns)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((columns, width), np.float32))[0]
    whole = 0.0
    for number in range(ITERATIONS if width < columns else 0):
        turned = np.zeros_like(basis)
        for _, difference in _differences(pieces):
            turned += difference.T @ (difference @ basis)
            whole += 0.0 if number else _square(difference)
        basis = np.linalg.qr(turned)[0]
    image = np.zeros((rows, width), np.float32)
    for row, difference in _differences(pieces):
        image[row : row + len(difference)] = difference @ basis
        whole += 0.0 if width < columns else _square(difference)
    left, values, right = np.linalg.svd(image, full_matrices=False)
    roots = np.sqrt(values[:rank])
    return Module(
        (right[:rank] * roots[:, None]) @ basis.T, left[:, :rank] * roots, values[:rank].astype(np.float64) ** 2, whole
    )


def _rank_for(energy: float, held: list[np.ndarray], whole: float) -> int:
    """Return the smallest rank for all modules that holds the share of the squared norm, or the largest there is."""
    sums = np.zeros(max(map(len, held)))
    for each in held:
        sums[: len(each)] += each
    reached = np.flatnonzero(np.cumsum(sums) >= energy * whole)
    return int(reached[0]) + 1 if len(reached) else len(sums)


def _write(
    plan: MergePlan,
    made: Extracted,
    modules: dict[str, tuple[Output, Module]],
    dtype: str,
    energy: float | None,
    overwrite: bool,
) -> int:
    """Write the modules, each of the same rank: diffusers takes the scale of all from the rank of one."""
    shapes, factors = {}, []
    for name, (output, module) in modules.items():
        down = np.zeros((made.rank, module.down.shape[1]), np.float32)
        up = np.zeros((len(module.up), made.rank), np.float32)
        down[: len(module.down)], up[:, : len(module.down)] = module.down[: made.rank], module.up[:, : made.rank]
        tail = output.shape[2:]
        a, b = ("lora_down", "lora_up") if name.startswith("lora_unet_") else ("lora_A", "lora_B")
        shapes[f"{name}.{a}.weight"] = (dtype, [made.rank, output.shape[1], *tail])
        shapes[f"{name}.{b}.weight"] = (dtype, [len(up), made.rank, *(1 for _ in tail)])
        factors += [dtypes.encode(down.reshape(-1), dtype), dtypes.encode(up.reshape(-1), dtype)]
    (_, base), (_, tuned) = plan.checkpoints
    recipe = {"v": 1, "rank": made.rank, "energy": energy, "held": float(f"{made.held:.4g}"), "left": len(made.left)}
    recipe |= {"base": base.path.name, "tuned": tuned.path.name, "relative_norm": float(f"{made.relative_norm:.4g}")}
    metadata = {"format": "pt", "dswm.version": __version__, RECIPE: json.dumps(recipe, sort_keys=True)}
    with lora_file(made.out, shapes, metadata, factors, overwrite) as target:
        target.place()
        return target.start + target.size


def _warnings(plan: MergePlan, made: Extracted, left: float, energy: float | None) -> list[str]:
    found = list(plan.warnings)
    if made.left:
        found.append(
            f"{len(made.left)} tensors differ that a LoRA cannot hold ({', '.join(made.left[:3])}{', ...' if len(made.left) > 3 else ''}): "
            f"{left:.2%} of the difference's norm"
        )
    if energy is not None and made.held**2 < energy:
        found.append(
            f"rank {made.rank} holds {made.held**2:.1%} of the energy, --energy is {energy:.1%}; raise --rank, or merge the checkpoint"
        )
    if exchanged := exchanged_warning(made.modules, plan.layout):
        found.append(exchanged)
    return found
