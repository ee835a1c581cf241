"""The survey before a merge: a sample of every tensor is read and merged, and nothing is written.

It finds inputs that were not made from the base, values that are not finite, tensors whose values equal the base's, and
deltas that would not survive rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import sqrt
from statistics import median

import numpy as np

from ..errors import BadInput
from ..weights import dtypes
from ..weights.dtypes import FLOATS
from ..weights.quantised import steps_of
from . import native
from .engine import Block, Engine, light_engine, measured
from .inputs import values_of
from .measures import Findings, Measures, summed
from .native import ROWS
from .plan import MergePlan, Part, Segment
from .sampling import Sampler

SLICE, SLICES = 2048, 4
"""Elements read at each place of a tensor, and the number of places; smaller tensors are read whole."""
CHUNK = 1 << 18
"""Elements (or bytes) read at a time where a whole tensor is read."""
SURVIVAL = 0.9
"""A smaller share of a delta left after rounding gives a warning."""
LARGE = 4.0
"""Root mean square of a matrix that no weights have: the codes of scaled fp8 have about 90."""

Cancel = Callable[[], bool]
"""Returns True to stop the merge."""


class Cancelled(Exception):
    """The caller stopped the merge. No file was left behind."""


@dataclass
class Survey:
    """Measures estimated from the sample, by tensor of the output and by block, and warnings for the user.

    noise: by role, the expected sum of the squared rounding errors of quantised weights in its delta.
    large: by role, root mean squares above LARGE of quantised matrices, by the name of the tensor.
    """

    tensors: dict[str, Measures] = field(default_factory=dict)
    blocks: dict[str, Measures] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    noise: dict[str, float] = field(default_factory=dict)
    large: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, segment: Segment, found: Measures) -> None:
        if (block := self.blocks.get(segment.block)) is None:
            block = self.blocks[segment.block] = Measures()
        block.add(found)
        if before := self.tensors.get(segment.output.name):
            before.add(found)
        else:
            self.tensors[segment.output.name] = found

    def findings(self) -> Findings:
        base = sum(block.base for block in self.blocks.values())
        noise = {role: sqrt(squares / base) for role, squares in self.noise.items() if base}
        return Findings(self.tensors, self.blocks, True, tuple(self.warnings), noise)


def survey(plan: MergePlan, cancel: Cancel | None = None) -> Survey:
    """Sample the inputs, and replace the plan's segments by simplified ones.

    Raises BadInput for values that are not finite, for inputs that were not made from the base, and for integers that
    differ; raises Cancelled if `cancel` returns True.
    """
    found = Survey(warnings=list(plan.warnings))
    simplified, engine = [], light_engine(SLICE * SLICES)
    memory = [memoryview(bytearray(SLICE * SLICES * max(FLOATS.values()))) for _ in range(ROWS)]

    def stop() -> None:
        if cancel and cancel():
            raise Cancelled

    for segment, measures, alike in _samples(plan, stop):
        if measures:
            found.add(segment, measures)
            simplified.append(segment.simplified(_equals(segment, measures, alike)))
            continue
        stop()
        if segment.merged:
            simplified.append(segment.simplified(_sample(plan, segment, found, engine, memory)))
        else:
            simplified.append(_copied(plan, segment))
    whole = summed(found.blocks.values())
    _check_norms(plan, found)
    if found.noise:
        _check_noise(plan, simplified, found, whole)
    _warn(plan, found, whole)
    plan.segments = tuple(simplified)
    return found


def _samples(plan: MergePlan, stop: Callable[[], None]) -> Iterable[tuple[Segment, Measures | None, set[str]]]:
    """Return the segments with what the kernel says of their samples, as `Sampler.samples` does."""
    if built := native.kernel():
        return Sampler(built, plan, SLICE, SLICES).samples(plan.segments, stop)
    return ((segment, None, set()) for segment in plan.segments)


def _equals(segment: Segment, measures: Measures, alike: set[str]) -> set[str]:
    """Return the roles of the sources whose values all equal the base's. alike: those whose samples have its bytes."""
    same = {role for role, delta in measures.deltas.items() if not delta.peak}
    known = alike if segment.count <= SLICE * SLICES else set()
    if same <= known:
        return same
    parts = dict(segment.sources())
    return {role for role in same if role in known or _equal(segment.base, parts[role])}


def low_rank(segment: Segment, start: int, count: int) -> np.ndarray | None:
    """Return the sum of the segment's low-rank deltas for `count` elements from `start` on, fp32 [count]; None if it
    has none."""
    found = None
    for term in segment.terms:
        delta = term.delta(start, start + count, segment.columns)
        found = delta if found is None else found + delta
    return found


def dither_key(plan: MergePlan, atom: str) -> int:
    """Return the key of stochastic rounding for an atom, a 64-bit hash of the recipe's seed and the atom's name."""
    return int.from_bytes(blake2b(f"{plan.recipe.seed}:{atom}".encode(), digest_size=8).digest(), "little")


def rounded_bytes(plan: MergePlan, segment: Segment, merged: np.ndarray, start: int, scale: float | None) -> np.ndarray:
    """Round merged values to the output's dtype by the recipe's rounding, and return their bytes.

    merged: fp32 [n], the elements of the segment's atom from `start` on.
    scale: of fp8, by which the stored values are multiplied when they are read; None for other dtypes.
    """
    dtype = segment.output.dtype
    if plan.recipe.rounding == "stochastic":
        if scale is not None:
            merged, scale = merged / np.float32(scale), None
        merged = dtypes.dither(merged, dtype, dither_key(plan, segment.atom), start)
    return dtypes.encode(merged, dtype, scale)


def _places(count: int) -> list[tuple[int, int]]:
    if count <= SLICE * SLICES:
        return [(0, count)]
    return [(index * (count - SLICE) // (SLICES - 1), SLICE) for index in range(SLICES)]


def _sample(plan: MergePlan, segment: Segment, found: Survey, engine: Engine, memory: Sequence[memoryview]) -> set[str]:
    """Add the measures of a sample to `found`, and return the roles of the sources whose values all equal the
    base's.

    memory: for the sample of each input; it is overwritten.
    """
    if not segment.count:
        return set()
    places, parts, dtype = _places(segment.count), dict(segment.sources()), segment.output.dtype
    count = min(segment.count, SLICE * SLICES)
    roles, weight = tuple(parts)[1:], segment.count / count
    lows = [low for start, many in places if (low := low_rank(segment, start, many)) is not None]
    block = Block(
        [_row(part, places, count, memory[index]) for index, part in enumerate(parts.values())],
        [part.form for part in parts.values()],
        roles,
        [segment.strength(role) for role in roles],
        np.concatenate(lows) if lows else None,
        count,
        ties=plan.recipe.combine == "ties",
    )
    scale = None
    if dtype == "F8_E4M3":
        engine.merge(block, "")
        scale = max(engine.peak(count), 1e-30) / dtypes.LARGEST[dtype]
    nearest = plan.recipe.rounding == "nearest"
    if not engine.merge(block, dtype if nearest else "", 0, scale, nearest):
        for part, values in zip(parts.values(), block.values()):
            if not np.isfinite(values).all():
                refuse_not_finite(part)
    if any(part.quantised for part in parts.values()):
        for start, many in places:
            values = {role: values_of(part, start, many) for role, part in parts.items()}
            _add_noise(segment, start, many, weight, values, found)
    if nearest:
        measures = engine.measures(segment.atom, 0, weight)
    else:
        merged, at, stored = engine.merged(count), 0, []
        for start, many in places:
            stored.append(rounded_bytes(plan, segment, merged[at : at + many], start, scale))
            at += many
        back = dtypes.decode(np.concatenate(stored), dtype, scale)
        measures = measured(block, segment.atom, 0, weight, merged, back)
    same = {role for role in roles if not measures.deltas[role].peak}
    for delta in measures.deltas.values():
        delta.place = segment.atom, _place(places, delta.place[1])
    found.add(segment, measures)
    return {role for role in same if _same_bytes(block, role, places) or _equal(segment.base, parts[role])}


def _same_bytes(block: Block, role: str, places: list[tuple[int, int]]) -> bool:
    """Say whether the sample shows that all values equal the base's: it is whole, and stored alike."""
    index = 1 + block.roles.index(role)
    return len(places) == 1 and block.forms[0] == block.forms[index] and block.rows[0] == block.rows[index]


def _row(part: Part, places: list[tuple[int, int]], count: int, memory: memoryview) -> memoryview:
    """Read the elements of the part at all places, one after the other, as `Part.form` says that they are stored.
    Returns the part of the memory that holds them."""
    tensor = part.tensor
    size = FLOATS[part.form[0]]
    row, at = memory[: count * size], 0
    if tensor.codec is None:
        first, read = part.start, tensor.file.read_into
        for start, many in places:
            read(row[at : at + many * size], first + start * size)
            at += many * size
        return row
    for start, many in places:
        row[at : at + many * size] = values_of(part, start, many).data.cast("B")
        at += many * size
    return row


def _place(places: list[tuple[int, int]], index: int) -> int:
    """Return the element of the atom that is at `index` of the sample."""
    for start, many in places:
        if index < many:
            return start + index
        index -= many
    raise IndexError(index)


def _add_noise(
    segment: Segment, start: int, count: int, weight: float, values: dict[str, np.ndarray], found: Survey
) -> None:
    """Add what the rounding of quantised weights alone gives the deltas: a twelfth of the squared step, for each."""
    squares = {}
    for role, part in segment.sources():
        steps = steps_of(part.tensor, part.first + start, count) if part.quantised else None
        if steps is None:
            continue
        squares[role] = weight * float(np.dot(steps, steps)) / 12
        size = float(np.sqrt(np.mean(np.square(values[role]))))
        if segment.columns > 1 and size > LARGE:
            found.large.setdefault(role, {})[part.tensor.name] = size
    for role in values:
        if role != "base" and not squares.keys().isdisjoint((role, "base")):
            found.noise[role] = found.noise.get(role, 0.0) + squares.get(role, 0.0) + squares.get("base", 0.0)


def _equal(left: Part, right: Part) -> bool:
    """Say whether all values, decoded to fp32, have the same bits."""
    for start in range(0, left.count, CHUNK):
        count = min(CHUNK, left.count - start)
        if not np.array_equal(
            values_of(left, start, count).view(np.uint32), values_of(right, start, count).view(np.uint32)
        ):
            return False
    return True


def _copied(plan: MergePlan, segment: Segment) -> Segment:
    """Return the segment as a copy of the base. Raises BadInput if another input holds other integers."""
    size = segment.base.itemsize
    for role, part in segment.sources():
        for start in range(0, part.count * size, CHUNK):
            count = min(CHUNK, part.count * size - start)
            if part.tensor.file.read(part.start + start, count) != segment.base.tensor.file.read(
                segment.base.start + start, count
            ):
                path = plan.base.checkpoint.path
                raise BadInput(
                    f"{part.tensor.file.path}: {part.tensor.name} ({part.tensor.dtype}) differs from {path}, and integers are not merged; "
                    f"use {role} weights that were trained from this base, or the bf16 safetensors if these are quantised"
                )
    return replace(segment, aligned=None, distilled=None, copy="base")


def refuse_not_finite(part: Part) -> None:
    """Raise BadInput, with their number, if the part's tensor holds values that are NaN or infinite."""
    tensor = part.tensor
    whole = replace(part, first=0, shape=tensor.shape)
    count = 0
    for start in range(0, whole.count, CHUNK):
        count += int(np.count_nonzero(~np.isfinite(values_of(whole, start, min(CHUNK, whole.count - start)))))
    if count:
        raise BadInput(
            f"{tensor.file.path}: {tensor.name} holds {count} values that are NaN or infinite; copy the file anew or use another checkpoint"
        )


def _check_norms(plan: MergePlan, found: Survey) -> None:
    """Raise BadInput for an input whose deltas are too large for one made from the base.

    The median over the matrices decides, because a few tensors of any fine-tune may differ much.
    """
    paths = {model.role: model.checkpoint.path for model in plan.models}
    matrices = {segment.output.name for segment in plan.segments if segment.columns > 1} or found.tensors.keys()
    for role in list(paths)[1:]:
        norms = {
            name: norm
            for name, each in found.tensors.items()
            if name in matrices and (norm := each.relative_norm(role)) is not None
        }
        if norms and (norm := median(norms.values())) > plan.recipe.limit:
            raise BadInput(
                f"{paths[role]} was not derived from {paths['base']}: its tensors differ by {norm:.0%} of the base's norm (median), "
                f"most of all {max(norms, key=norms.__getitem__)}, where 2 to 3 % are usual and the limit is {plan.recipe.limit:.0%}; "
                "give the base it was made from, or raise --limit"
            )


def _check_noise(plan: MergePlan, segments: list[Segment], found: Survey, whole: Measures) -> None:
    """Raise BadInput for a delta of quantised weights, or warn of it, as the recipe says."""
    paths = {model.role: model.checkpoint.path for model in plan.models}
    blamed: dict[str, str] = {}
    for segment in segments:
        parts = {} if segment.copy else dict(segment.sources())
        for role in parts.keys() - {"base"}:
            if source := next((each for each in (role, "base") if parts[each].quantised), None):
                blamed.setdefault(role, source)
    floors = found.findings().noise
    for role in [model.role for model in plan.models[1:]]:
        norm = whole.relative_norm(role)
        if role not in blamed or not norm:
            continue
        share = min(floors[role] / norm, 1.0) ** 2
        said = (
            f"{paths[blamed[role]]} has weights of 8 bits or fewer: their rounding alone makes {floors[role]:.2%} of the base's norm, and "
            f"the {role} delta is {norm:.2%}, so about {share:.0%} of its square is noise"
        )
        if plan.recipe.fp8 == "refuse":
            raise BadInput(
                f"{said}; use the bf16 file of the same model, or --fp8 dequantise to merge the values all the same"
            )
        found.warnings.append(f"{said}; the bf16 file of the same model has none")


def _warn(plan: MergePlan, found: Survey, whole: Measures) -> None:
    for role, delta in whole.deltas.items():
        if not delta.squares and role != "lora":
            found.warnings.append(f"the {role} weights are those of the base; is it the right file?")
    for role, large in found.large.items():
        worst = max(large, key=large.__getitem__)
        found.warnings.append(
            f"{len(large)} quantised matrices of the {role} weights are far larger than weights are ({worst} has a root mean "
            f"square of {large[worst]:.3g}): are their scales missing?"
        )
    dtypes = sorted({segment.output.dtype for segment in plan.segments if segment.merged})
    if "F8_E4M3" in dtypes and any(part.quantised for model in plan.models for part in model.atoms.values()):
        found.warnings.append(
            "fp8 weights are merged and rounded to fp8 again; with --dtype bf16 less of the deltas is lost"
        )
    found.warnings += survival_warnings(plan, found.tensors, whole)


def survival_warnings(plan: MergePlan, tensors: dict[str, Measures], whole: Measures) -> list[str]:
    """Return a sentence for each delta that loses more than 10 % to rounding in at least one tensor."""
    warnings = []
    names = {"F32": "fp32", "BF16": "bf16", "F16": "fp16", "F8_E4M3": "fp8"}
    dtypes = ", ".join(sorted({names[segment.output.dtype] for segment in plan.segments if segment.merged}))
    advice = "--rounding stochastic, --dtype fp32" if plan.recipe.rounding == "nearest" else "--dtype fp32"
    for role in whole.deltas:
        by_tensor = {name: kept for name, each in tensors.items() if (kept := each.survival(role)) is not None}
        low = {name: kept for name, kept in by_tensor.items() if kept < SURVIVAL}
        overall = whole.survival(role)
        if overall is not None and low:
            worst = min(low, key=low.__getitem__)
            keep = ", --keep-lora" if role == "lora" else ""
            warnings.append(
                f"{overall:.0%} of the {role} delta survives rounding to {dtypes}; "
                f"below {SURVIVAL:.0%} in {len(low)} of {len(by_tensor)} tensors, least in {worst} ({low[worst]:.0%}); try {advice}{keep}"
            )
    return warnings
