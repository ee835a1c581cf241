"""The checkpoints of a merge, divided into atoms, and which of their weights belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import prod

import numpy as np

from ..errors import BadInput
from ..weights import dtypes
from ..weights.checkpoint import Checkpoint, Tensor
from ..weights.dtypes import FLOATS
from ..weights.layout import Layout, atoms_of, in_diffusion_model, kind_of, layout_of, prefix_of
from ..weights.quantised import dequantised, is_quantised
from .recipe import flag_of

MAX_NAMES = 20
"""Tensors named in one error message, at most."""
BUFFERS = frozenset(
    (
        *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
        *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "sigmas"),
        *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
        *("logvar", "lvlb_weights", "position_ids", "log_sigmas", "sigma_max", "sigma_min", "v_pred", "ztsnr"),
    )
)
"""Last names of tensors that a sampler computes anew: they hold no weights."""
COPIES = "model_ema."
"""Beginning of the names of a second, averaged copy of the diffusion model."""


@dataclass(frozen=True, slots=True)
class Part:
    """An atom in a file: consecutive rows of a tensor.

    tensor: the tensor in the file.
    first: element of the tensor where the rows begin.
    shape: of the atom.
    """

    tensor: Tensor
    first: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.tensor.nbytes // max(prod(self.tensor.shape), 1)

    @property
    def start(self) -> int:
        """Byte in the file where the rows begin, of a tensor without a codec."""
        return self.tensor.start + self.first * self.itemsize

    @property
    def form(self) -> tuple[str, float | None]:
        """The dtype in which the values are read, and their scale."""
        return ("F32", None) if self.tensor.codec is not None else (self.tensor.dtype, self.tensor.scale)

    @property
    def quantised(self) -> bool:
        """Whether the values were rounded to 8 bits or fewer."""
        return is_quantised(self.tensor)


@dataclass(frozen=True, slots=True)
class Model:
    """One input checkpoint, divided into atoms (see weights/layout.py).

    role: base, aligned, distilled, or `added 1` and so on.
    layout: naming of its tensors.
    prefix: what stands before every tensor name, such as `model.diffusion_model.`; "" for none.
    atoms: where each atom is, by its name.
    """

    role: str
    checkpoint: Checkpoint
    layout: Layout
    prefix: str
    atoms: dict[str, Part]

    def is_inside(self, part: Part) -> bool:
        """Say whether the part belongs to the diffusion model."""
        return in_diffusion_model(part.tensor.name, self.prefix)


def values_of(part: Part, start: int, count: int) -> np.ndarray:
    """Read `count` elements of the part from element `start` on, as fp32 [count]."""
    if part.tensor.codec is not None:
        return part.tensor.codec.values(part.first + start, count)
    size = FLOATS[part.tensor.dtype]
    raw = part.tensor.file.read(part.start + start * size, count * size)
    return dtypes.decode(np.frombuffer(raw, np.uint8), part.tensor.dtype, part.tensor.scale)


def cut(role: str, checkpoint: Checkpoint, warnings: list[str]) -> Model:
    """Divide a checkpoint into atoms, and add to `warnings` what is left out of it.

    Raises BadInput for weights that cannot be read or divided.
    """
    plain, calibrated = dequantised(checkpoint)
    if calibrated:
        warnings.append(
            f"{checkpoint.path.name}: its calibrated input scales belong to its own weights and are left out"
        )
    prefix = prefix_of(plain.tensors)
    layout = layout_of(name.removeprefix(prefix) for name in plain.tensors)
    atoms: dict[str, Part] = {}
    for name, tensor in plain.tensors.items():
        pieces = atoms_of(name.removeprefix(prefix), layout)
        rows = tensor.shape[0] if tensor.shape else 1
        if rows % len(pieces):
            raise BadInput(
                f"{tensor.file.path}: {name} has {rows} rows, which are not {len(pieces)} equal parts; use an unpruned checkpoint"
            )
        shape = (rows // len(pieces), *tensor.shape[1:]) if len(pieces) > 1 else tensor.shape
        for index, atom in enumerate(pieces):
            if atom in atoms:
                other = atoms[atom].tensor.name
                raise BadInput(
                    f"{tensor.file.path}: {name} and {other} are the same weight; get the file from a source you trust"
                )
            atoms[atom] = Part(tensor, index * prod(shape), shape)
    if not atoms:
        raise BadInput(f"{checkpoint.path} holds no tensors; give a checkpoint")
    return Model(role, plain, layout, prefix, atoms)


def matched(base: Model, other: Model, warnings: list[str]) -> Model:
    """Return the checkpoint with the atoms that can be merged into the base's.

    Outside the diffusion model (text encoders, VAE) a weight that only one of them has keeps the base's value or is
    passed by, as do averaged copies and the buffers of a sampler; `warnings` says so. Raises BadInput unless the
    diffusion models have the same atoms, of equal shapes and mergeable dtypes: the sentence lists the tensors that
    differ, each missing or extra one with the nearest name of the other side.
    """
    where, against = other.checkpoint.path, base.checkpoint.path
    refuse_other_kinds(base, other)
    idle = {atom for atom, part in other.atoms.items() if _is_idle(part.tensor.name)}
    atoms = {atom: part for atom, part in other.atoms.items() if atom not in idle}
    missing = {atom: part for atom, part in base.atoms.items() if atom not in other.atoms}
    extra = {atom: part for atom, part in other.atoms.items() if atom not in base.atoms}
    lacks = _names(part for part in missing.values() if base.is_inside(part) and not _is_idle(part.tensor.name))
    more = _names(part for atom, part in extra.items() if other.is_inside(part) and atom not in idle)
    if lacks or more:
        differences = [("-", name, more) for name in lacks] + [("+", name, lacks) for name in more]
        lines = [_with_near_name(sign + name, name, others) for sign, name, others in differences[:MAX_NAMES]]
        rest = f" and {len(differences) - MAX_NAMES} more" if len(differences) > MAX_NAMES else ""
        raise BadInput(
            f"{where} has not the weights of {against}: {len(lacks)} missing (-), {len(more)} too many (+): {', '.join(lines)}{rest}; "
            f"use a base of the same model as the {other.role} checkpoint"
        )
    wrong = {atom: part for atom, part in atoms.items() if atom in base.atoms and part.shape != base.atoms[atom].shape}
    if inside := {atom: part for atom, part in wrong.items() if other.is_inside(part)}:
        sizes = {
            part.tensor.name: f"{list(part.shape)} for {list(base.atoms[atom].shape)}" for atom, part in inside.items()
        }
        shapes = [f"{name} {size}" for name, size in sizes.items()]
        raise BadInput(
            f"{where} has other shapes than {against} in {len(shapes)} tensors: {', '.join(shapes[:MAX_NAMES])}; "
            "use one size of one model, 4B or 9B"
        )
    for atom, part in base.atoms.items():
        kinds = [each.form[0] for each in (part, atoms.get(atom, part))]
        if kinds[0] != kinds[1] and not FLOATS.keys() >= set(kinds):
            raise BadInput(
                f"{where}: {part.tensor.name} is {kinds[1]}, in {against} it is {kinds[0]}; use bf16, fp16 or fp32 checkpoints"
            )
    kept = [part for atom, part in base.atoms.items() if atom in missing or atom in wrong]
    kept += [part for atom, part in base.atoms.items() if atom in idle and part.tensor.name.startswith(COPIES)]
    if kept:
        warnings.append(
            f"{_groups(kept)} of the base keep their values, as {where.name} has nothing to merge with them"
        )
    if extra:
        warnings.append(f"{_groups(extra.values())} of {where.name} are passed by, as the base has none")
    left = {atom: part for atom, part in atoms.items() if atom in base.atoms and atom not in wrong}
    return replace(other, atoms=left)


def refuse_other_kinds(*models: Model) -> None:
    """Raise BadInput if one of the models is a VAE or a text encoder and the others, or a LoRA, want another kind."""
    kinds = {model.role: kind_of(model.checkpoint.tensors) for model in models}
    if len(models) == 1 and kinds[models[0].role] == "a VAE":
        raise BadInput(
            f"{models[0].checkpoint.path} is a VAE, and a LoRA is for a diffusion model; give that as --base"
        )
    if len(set(kinds.values())) > 1:
        said = " and ".join(
            f"{flag_of(model.role)} {model.checkpoint.path} is {kinds[model.role] or 'a diffusion model'}"
            for model in models
        )
        raise BadInput(f"{said}, which cannot be merged; give diffusion models of one family")


def _is_idle(name: str) -> bool:
    return name.startswith(COPIES) or name.rpartition(".")[2] in BUFFERS


def _names(parts) -> list[str]:
    return list(dict.fromkeys(part.tensor.name for part in parts))


def _groups(parts: Collection[Part]) -> str:
    """Return how many tensors there are by the first part of their names: "vae (120 tensors), text_encoders (398
    tensors)"."""
    found = Counter(name.partition(".")[0] for name in _names(parts))
    return ", ".join(f"{name} ({count} tensor{'s' * (count > 1)})" for name, count in found.items())


def _with_near_name(line: str, name: str, others: list[str]) -> str:
    near = get_close_matches(name, others[:200], 1, 0.6)
    return f"{line} (near {near[0]})" if near else line
