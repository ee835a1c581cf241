"""LoRA and LoKr files as low-rank deltas of the base's atoms, in PEFT's, kohya's and diffusers' naming.

LoRA: delta = s * B A with s = strength * alpha / r, arXiv:2106.09685. LoKr: delta = s * kron(w1, w2), arXiv:2309.14859.
    The
rows of a delta are computed when they are merged; no whole delta is ever held in memory.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite, prod
from typing import Any, Protocol

import numpy as np

from ..errors import BadInput
from ..weights import dtypes
from ..weights.checkpoint import Checkpoint, Tensor
from ..weights.dtypes import FLOATS
from ..weights.layout import Layout
from . import formula
from .names import Names
from .scales import Scales

_LORA = re.compile(r"(.+?)(?:\.lora_|\.lora\.|_lora\.)(A|B|down|up)(?:\.(?!weight$|bias$)[\w-]+)?(?:\.weight)?")
_LOKR = re.compile(r"(.+)\.lokr_(w[12](?:_[ab])?)")
_EMBEDDING = re.compile(r"(bundle_emb|emb_params|string_to_param)\b.*")
_KINDS = {
    r".+\.hada_\w+": "a LoHa, an elementwise product of two LoRAs",
    r".+\.(dora_scale|lora_magnitude_vector.*)": "a DoRA, whose delta depends on the weights",
    r".+\.(lora_mid(\.weight)?|lokr_t[12])": "a convolution with a Tucker core",
    r".+\.(diff|diff_b|w_norm|b_norm)": "a whole difference of weights, biases or norms",
    r".+\.set_weight": "a value that replaces the weight, and no delta",
    r".+\.reshape_weight": "a control LoRA for a model with more channels",
    r".+\.lora_B(\.[\w-]+)?\.bias": "a LoRA of a bias",
    r".+\.(oft_|boft_).+": "OFT, which rotates the weights",
    r".+\.(a1|a2|b1|b2)\.weight": "a GLoRA, whose delta depends on the weights",
    r".+\.(on_input|ia3_l)": "(IA)3, which scales the weights",
    r".+\.processor\.(qkv|proj)_lora[12]\..+": "a LoRA in the naming of XLabs",
}
"""What a tensor of a name belongs to that is no factor of a LoRA or LoKr."""
CACHE = 64 << 20
"""Bytes of fp64 factors kept in memory; the factors of the tensor in use are kept even if they are larger."""


class Product(Protocol):
    """A delta [rows, columns] given by its factors.

    scale: factor on the product, strength included.
    """

    rows: int
    columns: int
    scale: float

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        """Return the rows `first` to `last` of the delta times scale and `factor`, fp32 [last - first, columns]."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """The delta of some rows of an atom: some rows of a product.

    product: the whole delta, which may belong to several atoms (a fused qkv).
    row: the first row of the product.
    first, rows: the first row of the atom and how many; the delta of others is 0.
    factor: factor on the delta, from the recipe's blocks.
    """

    product: Product
    row: int
    first: int
    rows: int
    factor: float = 1.0

    def delta(self, start: int, stop: int, columns: int) -> np.ndarray:
        """Return the delta of the elements `start` to `stop` of the atom, which has `columns` a row: fp32 [stop -
        start]."""
        first, last = start // columns, -(-stop // columns)
        top, bottom = max(first, self.first), min(last, self.first + self.rows)
        if (top, bottom) == (first, last):
            found = self._rows(top, bottom)
        else:
            found = np.zeros((last - first, columns), np.float32)
            if top < bottom:
                found[top - first : bottom - first] = self._rows(top, bottom)
        return found.reshape(-1)[start - first * columns : stop - first * columns]

    def _rows(self, top: int, bottom: int) -> np.ndarray:
        skipped = self.row - self.first
        return self.product.delta(top + skipped, bottom + skipped, self.factor)


class _FactorCache:
    """The fp64 factors of the products used most recently, up to CACHE bytes. Threads share it."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, tuple[np.ndarray, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, owner: Any) -> tuple[np.ndarray, ...]:
        with self._lock:
            factors = self._held.pop(id(owner), None) or owner.load()
            self._held[id(owner)] = factors
            while len(self._held) > 1 and sum(each.nbytes for held in self._held.values() for each in held) > CACHE:
                self._held.popitem(last=False)
            return factors


class LoraProduct:
    """The delta B A of one LoRA module."""

    def __init__(self, cache: _FactorCache, down: Tensor, up: Tensor, scale: float) -> None:
        self._cache, self._down, self._up, self.scale = cache, down, up, scale
        self.rank, self.rows, self.columns = down.shape[0], up.shape[0], prod(down.shape[1:])

    def raw(self) -> tuple[np.ndarray, np.ndarray]:
        """Return A [r, columns] and B [rows, r] in fp32 as the file has them.

        Raises BadInput for values that are not finite.
        """
        return _matrix(self._down, self.rank), _matrix(self._up, self.rows)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        down, up = self.raw()
        return formula.on_grid(down.astype(np.float64), up.astype(np.float64))

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        down, up = self._cache.get(self)
        product = formula.product(up[first:last], down)
        product *= self.scale * factor
        return product.astype(np.float32)


class LokrProduct:
    """The delta kron(w1, w2) of one LoKr module, where w1 or w2 may itself be stored as a product of two factors."""

    def __init__(
        self,
        cache: _FactorCache,
        factors: dict[str, Tensor],
        where: str,
        scale: Callable[[int | None], float],
        strength: float,
    ) -> None:
        self._cache, self._parts = cache, {}
        ranks = []
        for name in ("w1", "w2"):
            if name in factors:
                self._parts[name] = (factors[name],)
                shape = (factors[name].shape[0], prod(factors[name].shape[1:]))
            elif {f"{name}_a", f"{name}_b"} <= factors.keys():
                a, b = self._parts[name] = (factors[f"{name}_a"], factors[f"{name}_b"])
                if len(a.shape) != 2 or a.shape[1] != b.shape[0]:
                    raise BadInput(
                        f"{where}: {a.name} {list(a.shape)} and {b.name} {list(b.shape)} do not multiply; get the file anew"
                    )
                shape = (a.shape[0], prod(b.shape[1:]))
                ranks.append(b.shape[0])
            else:
                raise BadInput(f"{where} lacks lokr_{name}; get the file anew")
            self._parts[name] += (shape,)
        (p, q), (r, c) = self._parts["w1"][-1], self._parts["w2"][-1]
        self.rows, self.columns = p * r, q * c
        self.scale = strength * scale(ranks[-1] if ranks else None)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        made = []
        for *parts, (rows, _) in (self._parts["w1"], self._parts["w2"]):
            left = _matrix(parts[0], rows).astype(np.float64)
            if len(parts) == 2:
                right = _matrix(parts[1], parts[1].shape[0]).astype(np.float64)
                right, left = formula.on_grid(right, left)
                left = formula.product(left, right)
            made.append(left)
        return tuple(made)

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        w1, w2 = self._cache.get(self)
        rows = np.arange(first, last)
        product = w1[rows // len(w2)][:, :, None] * w2[rows % len(w2)][:, None, :]
        product *= self.scale * factor
        return product.reshape(last - first, self.columns).astype(np.float32)


def _matrix(tensor: Tensor, rows: int) -> np.ndarray:
    values = dtypes.decode(np.frombuffer(tensor.read(), np.uint8), tensor.dtype)
    if not np.isfinite(values).all():
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise BadInput(
            f"{tensor.file.path}: {tensor.name} holds {count} values that are NaN or infinite; get the file anew"
        )
    return values.reshape(rows, -1)


def is_low_rank(names: Iterable[str]) -> bool:
    """Say whether one of the tensor names is that of a factor of a LoRA or LoKr.

    Not those of nunchaku, which has a factor beside each quantised weight.
    """
    names = list(names)
    return not any(name.endswith(".qweight") for name in names) and any(
        _LORA.fullmatch(name) or _LOKR.fullmatch(name) for name in names
    )


def terms_of(
    file: Checkpoint, strength: float, layout: Layout, atoms: Mapping[str, tuple[int, ...]], warnings: list[str]
) -> dict[str, list[Term]]:
    """Return the deltas of each atom that a LoRA or LoKr file changes.

    strength: factor on all deltas of the file.
    layout: of the base.
    atoms: the shapes of the base's atoms by name.
    warnings: takes a sentence for what is left out: the parts of text encoders that the base does not hold.

    Raises BadInput for tensors that belong to no LoRA or LoKr, for modules that the base does not have, and for shapes
    that do not fit.
    """
    modules, alphas = _modules(file)
    names = Names(layout, atoms)
    scales = Scales(file)
    cache = _FactorCache()
    encoders = {module: encoder for module in modules if (encoder := names.encoder_of(module))}
    left = [module for module, encoder in encoders.items() if not names.holds(encoder)]
    if left:
        warnings.append(
            f"{file.path.name}: {len(left)} modules of text encoders are left out, as the base holds none of theirs "
            f"({', '.join(sorted({encoders[module] for module in left}))})"
        )
    modules = {module: factors for module, factors in modules.items() if module not in left}
    unknown = sorted(module for module in modules if not names.find(module))
    if unknown or not modules:
        raise BadInput(
            f"{file.path}: {len(unknown or left)} of {len(modules) + len(left)} modules fit no weight of the base "
            f"({', '.join((unknown or left)[:20])}); use a LoRA that was trained for this model"
        )
    found: dict[str, list[Term]] = {}
    for module, factors in modules.items():
        places = names.find(module)
        where = f"{file.path}: {module}"
        alpha = _alpha(alphas[module]) if module in alphas else None
        rows, columns = sum(place.rows for place in places), prod(atoms[places[0].atom][1:])
        if "A" in factors or "B" in factors:
            product = _lora(cache, where, factors, partial(scales.lora, module, alpha), strength)
        else:
            product = LokrProduct(cache, factors, where, partial(scales.lokr, module, alpha), strength)
        if (product.rows, product.columns) != (rows, columns):
            raise BadInput(
                f"{where} is a delta of {product.rows} x {product.columns}, the base has {rows} x {columns} there ({places[0].atom}); "
                "use a LoRA that was trained for this model"
            )
        for place in places:
            terms = found.setdefault(place.atom, [])
            if any(term.first < place.first + place.rows and place.first < term.first + term.rows for term in terms):
                raise BadInput(f"{where} is given a second time, under another name; get the file anew")
            terms.append(Term(product, place.source, place.first, place.rows))
    return found


def _modules(file: Checkpoint) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the factors of each module (A and B, or w1, w2, w1_a, ...), and the alpha tensors by module."""
    modules: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, Tensor] = {}
    for name, tensor in file.tensors.items():
        if name.endswith(".alpha"):
            alphas[name.removesuffix(".alpha")] = tensor
            continue
        if _EMBEDDING.fullmatch(name):  # of a text encoder, beside the LoRA
            continue
        if found := _LORA.fullmatch(name):
            part = {"down": "A", "up": "B"}.get(found[2], found[2])
        elif found := _LOKR.fullmatch(name):
            part = found[2]
        else:
            kind = next((kind for pattern, kind in _KINDS.items() if re.fullmatch(pattern, name)), "")
            raise BadInput(
                f"{file.path}: {name} is no factor of a LoRA or LoKr{f', but of {kind}' if kind else ''}; use a plain LoRA or LoKr, or "
                "merge the file where it was made and give the checkpoint as --aligned"
            )
        if tensor.dtype not in FLOATS:
            raise BadInput(f"{file.path}: {name} is {tensor.dtype}; use a LoRA saved in bf16, fp16 or fp32")
        if not tensor.shape or not tensor.nbytes:
            raise BadInput(f"{file.path}: {name} has shape {list(tensor.shape)}, which is no matrix; get the file anew")
        if part in modules.setdefault(found[1], {}):
            raise BadInput(f"{file.path}: {name} is a second adapter for {found[1]}; give a file with one")
        modules[found[1]][part] = tensor
    if not modules:
        raise BadInput(
            f"{file.path} holds no LoRA or LoKr; give a full checkpoint as --aligned, a LoRA as --lora FILE:STRENGTH"
        )
    return modules, alphas


def _lora(
    cache: _FactorCache, where: str, factors: dict[str, Tensor], scale: Callable[[int], float], strength: float
) -> LoraProduct:
    if factors.keys() != {"A", "B"}:
        raise BadInput(f"{where} has only {', '.join(factors)} of lora_A and lora_B; get the file anew")
    down, up = factors["A"], factors["B"]
    if len(up.shape) < 2 or down.shape[0] != up.shape[1] or any(size != 1 for size in up.shape[2:]):
        raise BadInput(
            f"{where}: lora_A {list(down.shape)} and lora_B {list(up.shape)} do not multiply; get the file anew"
        )
    return LoraProduct(cache, down, up, strength * scale(down.shape[0]))


def _alpha(tensor: Tensor) -> float:
    if tensor.dtype in FLOATS and tensor.nbytes == FLOATS[tensor.dtype]:
        value = float(dtypes.decode(np.frombuffer(tensor.read(), np.uint8), tensor.dtype)[0])
        if isfinite(value):
            return value
    if tensor.dtype in ("I8", "I16", "I32", "I64", "U8") and prod(tensor.shape) == 1:
        return float(int.from_bytes(tensor.read(), "little", signed=tensor.dtype != "U8"))
    raise BadInput(
        f"{tensor.file.path}: {tensor.name} is {tensor.dtype} {list(tensor.shape)}, not one finite number; get the file anew"
    )
