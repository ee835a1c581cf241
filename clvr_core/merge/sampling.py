"""What the kernel reads by itself: samples of tensors for the survey, many in one call, and whole tensors for the stream.

Both do the rest in Python: low-rank deltas, weights of 8 bits or fewer, stochastic rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..weights.dtypes import FLOATS
from . import native
from .measures import Delta, Measures, Pair
from .plan import MergePlan, Segment

MANY = 64
"""Tensors of one call, between two of which a merge can be stopped."""
_KINDS = {name: kind for name, kind in native.KINDS.items() if name != "F8_E4M3"}


def tensor_of(
    segment: Segment, ties: bool, first: int = 0, count: int | None = None
) -> tuple[tuple[str, ...], list[Any]] | None:
    """Return the roles of a segment's deltas, and the fields with which the kernel reads it (`Kernel.merge_files`). None
    for a segment that has more than differences of bf16, fp16 and fp32, or nothing to compute.

    first, count: elements of it, all if count is None.
    """
    count = segment.count if count is None else count
    if segment.terms or segment.copy or not count or (to := _KINDS.get(segment.output.dtype)) is None:
        return None
    roles: list[str] = []
    fields: list[Any] = [count, 0, to, int(ties), 0]
    for role, part in segment.sources():
        tensor = part.tensor
        if tensor.codec is not None or (kind := _KINDS.get(tensor.dtype)) is None:
            return None
        roles.append(role)
        strength = 0.0 if role == "base" else segment.strength(role)
        start = tensor.start + (part.first + first) * FLOATS[tensor.dtype]
        fields += start, tensor.file.handle, kind, 1.0 if tensor.scale is None else tensor.scale, strength
    fields[1] = len(roles)
    return tuple(roles[1:]), fields


class Sampler:
    """Takes samples of the segments of a plan.

    slice, slices: elements at each place of a tensor, and the number of places; smaller tensors are taken whole.
    """

    def __init__(self, kernel: native.Kernel, plan: MergePlan, slice: int, slices: int) -> None:
        self._kernel, self._slice, self._slices = kernel, slice, slices
        self._memory = np.empty((native.ROWS + 1, slice * slices), np.float32)
        self._ties = plan.recipe.combine == "ties"
        self._fits = kernel.reads and plan.recipe.rounding == "nearest"

    def samples(
        self, segments: Sequence[Segment], stop: Callable[[], object]
    ) -> Iterator[tuple[Segment, Measures | None, set[str]]]:
        """Yield each segment with the measures of its sample, and the roles of the sources whose bytes in the sample
        equal the base's.

        None in place of measures, for the caller to take the sample: it is not one for the kernel, a file could not be
        read, or a value is not finite. stop: called before each call of the kernel.
        """
        for start in range(0, len(segments), MANY):
            stop()
            some = segments[start : start + MANY]
            taken = [
                (segment, *tensor) for segment in some if self._fits and (tensor := tensor_of(segment, self._ties))
            ]
            found = self._sampled(taken)
            for segment in some:
                measures, alike = found.get(segment.atom, (None, set()))
                yield segment, measures, alike

    def _sampled(self, taken: list[tuple[Segment, tuple[str, ...], list[Any]]]) -> dict[str, tuple[Measures, set[str]]]:
        found: dict[str, tuple[Measures, set[str]]] = {}
        if not taken:
            return found
        sums, states = self._kernel.sample([fields for *_, fields in taken], self._slice, self._slices, self._memory)
        rows = {many: sums[:, _columns(many)].tolist() for many in {len(roles) for _, roles, _ in taken}}
        for number, ((segment, roles, fields), state) in enumerate(zip(taken, states)):
            if state <= 0:
                continue
            measures = self._measures(segment, roles, fields, rows[len(roles)][number])
            alike = {role for place, role in enumerate(roles, 1) if state >> place & 1} if state > 1 else set()
            found[segment.atom] = measures, alike
        return found

    def _measures(self, segment: Segment, roles: tuple[str, ...], fields: list[Any], sums: list[float]) -> Measures:
        count, atom = int(fields[0]), segment.atom
        weight, at = count / min(count, self._slice * self._slices), 1
        deltas, sides, pairs = {}, {}, {}
        for number, role in enumerate(roles, 1):
            squares, error, peak, place = sums[at : at + 4]
            strength, at = fields[9 + 5 * number], at + 4
            squares *= weight
            place = atom, self._place(count, int(place))
            deltas[role] = Delta(squares, strength * strength * squares, weight * error, peak, place)
        for role in roles:
            sides[role], at = weight * sums[at], at + 1
        for two in combinations(roles, 2) if len(roles) > 1 else ():
            product, both, alike = sums[at : at + 3]
            pairs[two], at = Pair(weight * product, weight * both, weight * (both - alike)), at + 3
        return Measures(float(count), weight * sums[0], deltas, sides, pairs)

    def _place(self, count: int, index: int) -> int:
        """Return the element of a tensor that is at `index` of its sample."""
        if count <= self._slice * self._slices:
            return index
        number, place = divmod(index, self._slice)
        return number * (count - self._slice) // (self._slices - 1) + place


def _columns(roles: int) -> list[int]:
    """Return the places of the sums of so many deltas, each a side of its own."""
    places = [0, *range(native.TERM, native.TERM + 4 * roles), *range(native.SIDE, native.SIDE + roles)]
    for one, two in combinations(range(roles), 2):
        first = native.PAIR + 3 * (one * native.ROWS + two)
        places += range(first, first + 3)
    return places
