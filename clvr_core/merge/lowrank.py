"""LoRA files of every kind as deltas of the base's atoms, in any trainer's naming.

`names` finds the weights, `scales` the factors from alpha and rank, `products` computes the rows of each delta.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite, prod

import numpy as np

from ..errors import BadInput
from ..weights import dtypes
from ..weights.checkpoint import Checkpoint, Tensor
from ..weights.dtypes import FLOATS
from ..weights.layout import Layout
from .inputs import Part, values_of
from .names import Names, Place
from .products import DifferenceProduct, DoraProduct, FactorCache, LokrProduct, LoraProduct, Pair, PairsProduct, Product
from .scales import Scales

_LORA = re.compile(r"(.+?)(?:\.lora_|\.lora\.|_lora\.)(A|B|down|up|mid)(?:\.(?!weight$|bias$)[\w-]+)?(?:\.weight)?")
_OTHERS = re.compile(
    r"(.+)\.(lokr_w[12](?:_[ab])?|lokr_t[12]|hada_w[12]_[ab]|hada_t[12]|diff|diff_b|w_norm|b_norm)(?:\.weight)?"
)
_BIAS = re.compile(r"(.+)\.lora_B(?:\.[\w-]+)?\.bias")
_MAGNITUDE = re.compile(r"(.+)\.(?:dora_scale|lora_magnitude_vector(?:\.[\w-]+)?)")
_HADA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_EMBEDDING = re.compile(r"(bundle_emb|emb_params|string_to_param)\b.*")
_KINDS = {
    r".+\.set_weight": "a value that replaces the weight, and no delta",
    r".+\.reshape_weight": "a control LoRA for a model with more channels",
    r".+\.(oft_|boft_).+": "OFT, which rotates the weights",
    r".+\.(a1|a2|b1|b2)\.weight": "a GLoRA, whose delta depends on the weights",
    r".+\.(on_input|ia3_l)": "(IA)3, which scales the weights",
    r".+\.processor\.(qkv|proj)_lora[12]\..+": "a LoRA in the naming of XLabs",
}
"""What a tensor of a name belongs to that is no factor of a LoRA or LoKr."""


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


def is_low_rank(names: Iterable[str]) -> bool:
    """Say whether one of the tensor names is that of a factor of a LoRA of any kind.

    Not those of nunchaku, which has a factor beside each quantised weight.
    """
    names = list(names)
    return not any(name.endswith(".qweight") for name in names) and any(_part_of(name) for name in names)


def terms_of(
    file: Checkpoint, strength: float, layout: Layout, atoms: Mapping[str, Part], warnings: list[str]
) -> dict[str, list[Term]]:
    """Return the deltas of each atom that a file of LoRAs changes.

    strength: factor on all deltas of the file.
    layout, atoms: of the base.
    warnings: takes a sentence for what is left out: the parts of text encoders that the base does not hold.

    Raises BadInput for tensors that belong to no LoRA, for modules that the base does not have, and for shapes that do
    not fit.
    """
    modules, alphas = _modules(file)
    names = Names(layout, {atom: part.shape for atom, part in atoms.items()})
    scales = Scales(file)
    if scales.dora and not any("magnitude" in factors for factors in modules.values()):
        raise BadInput(f"{file.path} is a DoRA by its settings and has no magnitudes; get the file anew")
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
    makers = _Makers(file, scales, strength, atoms)
    for module, factors in modules.items():
        where = f"{file.path}: {module}"
        alpha = _alpha(alphas[module]) if module in alphas else None
        for parameter, parts in _by_parameter(factors).items():
            places = names.find(module, parameter)
            if not places:
                raise BadInput(
                    f"{where} changes a bias, and the base has none there; use a LoRA trained for this model"
                )
            product = makers.product(where, module, alpha, parts, places)
            rows, columns = sum(place.rows for place in places), prod(atoms[places[0].atom].shape[1:])
            if (product.rows, product.columns) != (rows, columns):
                raise BadInput(
                    f"{where} is a delta of {product.rows} x {product.columns}, the base has {rows} x {columns} there ({places[0].atom}); "
                    "use a LoRA that was trained for this model"
                )
            for place in places:
                terms = found.setdefault(place.atom, [])
                if any(
                    term.first < place.first + place.rows and place.first < term.first + term.rows for term in terms
                ):
                    raise BadInput(f"{where} is given a second time, under another name; get the file anew")
                terms.append(Term(product, place.source, place.first, place.rows))
    return found


class _Makers:
    """Makes the product of a module from its factors."""

    def __init__(self, file: Checkpoint, scales: Scales, strength: float, atoms: Mapping[str, Part]) -> None:
        self._file, self._scales, self._strength, self._atoms = file, scales, strength, atoms
        self._cache = FactorCache()

    def product(
        self, where: str, module: str, alpha: float | None, factors: dict[str, Tensor], places: tuple[Place, ...]
    ) -> Product:
        magnitude = factors.pop("magnitude", None)
        strength = self._strength if magnitude is None else 1.0
        lora = partial(self._scales.lora, module, alpha)
        kinds = {name.partition("_")[0] for name in factors}
        if len(kinds - {"A", "B", "mid"}) > (0 if "A" in kinds or "B" in kinds else 1):
            raise BadInput(f"{where} has {', '.join(factors)}, which are of several kinds; get the file anew")
        if kinds <= {"A", "B", "mid"}:
            made: Product = _lora(self._cache, where, factors, lora, strength)
        elif kinds == {"hada"}:
            if lacking := [name for name in _HADA if name not in factors]:
                raise BadInput(f"{where} lacks {', '.join(lacking)}; get the file anew")
            w1_a, w1_b, w2_a, w2_b = (factors[name] for name in _HADA)
            one = Pair(where, w1_a, w1_b, factors.get("hada_t1"))
            two = Pair(where, w2_a, w2_b, factors.get("hada_t2"))
            made = PairsProduct(self._cache, where, (one, two), strength * lora(one.rank))
        elif kinds == {"lokr"}:
            made = LokrProduct(self._cache, factors, where, partial(self._scales.lokr, module, alpha), strength)
        elif (
            kinds == {"bias"} and "bias_rank" in factors
        ):  # of lora_B, which is scaled as the delta is; its rank is that of the module
            made = DifferenceProduct(factors["bias"], strength * lora(factors["bias_rank"].shape[0]))
        elif len(factors) == 1 and kinds != {"bias"}:
            (tensor,) = factors.values()
            made = DifferenceProduct(tensor, strength)
        else:
            raise BadInput(f"{where} has only {', '.join(factors)}; get the file anew")
        if magnitude is None:
            return made
        return DoraProduct(self._cache, where, made, magnitude, partial(self._weights, places), self._strength)

    def _weights(self, places: tuple[Place, ...], first: int, last: int) -> np.ndarray:
        """Return rows of the base, where a delta with these places has its rows, fp32 [last - first, columns]."""
        found = []
        for place in places:
            top, bottom = max(first - place.source, 0), min(last - place.source, place.rows)
            if top < bottom:
                part = self._atoms[place.atom]
                columns = prod(part.shape[1:])
                values = values_of(part, (place.first + top) * columns, (bottom - top) * columns)
                found.append((place.source + top, values.reshape(bottom - top, columns)))
        return np.concatenate([values for _, values in sorted(found, key=lambda each: each[0])])


def _by_parameter(factors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the factors of the weight and those of the bias."""
    biases = {name: factors[name] for name in ("diff_b", "b_norm", "bias") if name in factors}
    weight = {name: tensor for name, tensor in factors.items() if name not in biases}
    if "bias" in biases and "A" in factors:
        biases["bias_rank"] = factors["A"]
    return {name: parts for name, parts in (("weight", weight), ("bias", biases)) if parts}


def _part_of(name: str) -> tuple[str, str] | None:
    """Return the module that a tensor belongs to and which of its factors it is; None for a name of no known kind."""
    if found := _LORA.fullmatch(name):
        return found[1], {"down": "A", "up": "B"}.get(found[2], found[2])
    if found := _OTHERS.fullmatch(name):
        return found[1], found[2]
    for pattern, part in ((_BIAS, "bias"), (_MAGNITUDE, "magnitude")):
        if found := pattern.fullmatch(name.removesuffix(".weight")):
            return found[1], part
    return None


def _modules(file: Checkpoint) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the factors of each module (A and B, or lokr_w1, ...), and the alpha tensors by module."""
    modules: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, Tensor] = {}
    for name, tensor in file.tensors.items():
        if name.endswith(".alpha"):
            alphas[name.removesuffix(".alpha")] = tensor
            continue
        if _EMBEDDING.fullmatch(name):  # of a text encoder, beside the LoRA
            continue
        if not (found := _part_of(name)):
            kind = next((kind for pattern, kind in _KINDS.items() if re.fullmatch(pattern, name)), "")
            raise BadInput(
                f"{file.path}: {name} is no factor of a LoRA or LoKr{f', but of {kind}' if kind else ''}; use a plain LoRA or LoKr, or "
                "merge the file where it was made and give the checkpoint as --aligned"
            )
        module, part = found
        if tensor.dtype not in FLOATS:
            raise BadInput(f"{file.path}: {name} is {tensor.dtype}; use a LoRA saved in bf16, fp16 or fp32")
        if not tensor.shape or not tensor.nbytes:
            raise BadInput(f"{file.path}: {name} has shape {list(tensor.shape)}, which is no matrix; get the file anew")
        if part in modules.setdefault(module, {}):
            raise BadInput(f"{file.path}: {name} is a second adapter for {module}; give a file with one")
        modules[module][part] = tensor
    if not modules:
        raise BadInput(
            f"{file.path} holds no LoRA or LoKr; give a full checkpoint as --aligned, a LoRA as --lora FILE:STRENGTH"
        )
    return modules, alphas


def _lora(
    cache: FactorCache, where: str, factors: dict[str, Tensor], scale: Callable[[int], float], strength: float
) -> Product:
    if not {"A", "B"} <= factors.keys():
        raise BadInput(f"{where} has only {', '.join(factors)} of lora_A and lora_B; get the file anew")
    down, up = factors["A"], factors["B"]
    if mid := factors.get("mid"):
        return PairsProduct(cache, where, (Pair(where, up, down, mid, True),), strength * scale(down.shape[0]))
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
