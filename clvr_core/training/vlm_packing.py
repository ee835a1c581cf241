"""Questions about one picture in one row: what they share is read once.

Each question sees what stands before it in its own prompt and nothing of the others, at the positions that it has there,
so the numbers are those of a row for each. On a CPU, where each token costs time, this is several times as fast as rows of
one question that are padded to one length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from .vlm_model import Pass

SHARED = 5
"""Tokens of a decision's question, at most, that are read with its pictures: most questions begin with the same."""
BUCKETS = (12, 13, 14, 16, 18, 20, 24, 28, 32, 36, 44, 64, 72, 80, 96, 160)
"""Tokens that what is a question's own is padded to."""
ROUND = 4
"""Questions of one bucket are a multiple of it: few sizes, for which a CPU's matrix products are prepared once."""
WHOLE, AT_ONCE = 32, 12_000
"""Rows that share nothing are padded to a multiple of so many tokens, and so many tokens of them are read at once."""
TAIL = 6
"""Tokens at the end of a prompt that are never read with its pictures, since answers are foretold from there on."""


@dataclass
class Line:
    """One prompt with its answers.

    tokens: the last is foretold and not read. spans: first and last + 1 place of each answer. pictures: numbers of its
    pictures in their order. kind: its number in TYPES, or less than 0 for an answer in words. head: tokens up to the end
    of its pictures. points: a token that names something and bits of the places that show it (vlm_pointing), of each.
    changed: a visual token of a second picture and whether its place has changed, of each. recalled: a token of an instruction
    that names something and what the brief says of that, as bits, of each.
    """

    tokens: list[int]
    spans: list[tuple[int, int]]
    pictures: list[int]
    kind: int
    head: int = 0
    points: list[tuple[int, int]] = field(default_factory=list)
    spelled: list[tuple[int, int]] = field(default_factory=list)
    changed: list[tuple[int, bool]] = field(default_factory=list)
    recalled: list[tuple[int, int]] = field(default_factory=list)

    def foretold(self, start: int = 0) -> tuple[list[int], list[int]]:
        """Return where the tokens of the answers are foretold, in a line that begins at `start`, and those tokens."""
        at = [start + place - 1 for first, end in self.spans for place in range(first, end)]
        return at, [self.tokens[place - start + 1] for place in at]


@dataclass
class Part:
    """S questions of L own tokens, padded at the right. head: int32 S, the row of what each shares. ids: int16 S x L.
    positions: int16 S x 3 x L."""

    head: np.ndarray
    ids: np.ndarray
    positions: np.ndarray


@dataclass
class Packed:
    """R beginnings of H tokens and the questions that go on from them.

    ids: int16 R x H. slots: int32 R x H, the visual token (picture x 9 + place) that stands there, or -1.
    positions: int16 R x 3 x H. parts: the questions by their length.
    at: int32, where in all beginnings and then all parts, flattened, an answer's next token is foretold.
    target: int16, those tokens. kind: int8, of the line of each.
    named: int32, where in all beginnings and then all parts a token names something. shown: int32, the places that show it
    as bits (vlm_pointing). pictures: int8, of the question of each. compared: int32, where visual tokens of second pictures
    stand. changed: int8, 1 for those whose place has changed. spelled: int32, where in all beginnings and then all parts a
    token stands before a quoted letter. letters: int32, those that signs have there as bits. recalls: int32, where in all
    beginnings an instruction names something. asked: int64, what the brief says of it as bits. pad: the token that fills.
    """

    ids: np.ndarray
    slots: np.ndarray
    positions: np.ndarray
    parts: list[Part]
    at: np.ndarray
    target: np.ndarray
    kind: np.ndarray
    named: np.ndarray
    shown: np.ndarray
    pictures: np.ndarray
    compared: np.ndarray
    changed: np.ndarray
    spelled: np.ndarray
    letters: np.ndarray
    recalls: np.ndarray
    asked: np.ndarray
    pad: int

    def followed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where in all beginnings and then all parts a token of text follows another, and that other."""
        at, before, offset = [], [], 0
        for ids, slots in ((self.ids, self.slots), *((part.ids, None) for part in self.parts)):
            text = ids[:, 1:] != self.pad
            if slots is not None:
                text &= (slots[:, 1:] < 0) & (slots[:, :-1] < 0)
            row, place = np.nonzero(text)
            at.append(offset + row * ids.shape[1] + place + 1)
            before.append(ids[row, place])
            offset += ids.size
        return np.concatenate(at), np.concatenate(before)

    @property
    def tokens(self) -> int:
        """How many are read, padding included."""
        return self.ids.size + sum(part.ids.size for part in self.parts)


def pack(lines: Sequence[Line], pad: int, place: Any, most: int = 1 << 30) -> list[Packed]:
    """Return the lines by what they share, at most about so many beginnings in one. place: firsts of pictures, tokens ->
    slots and positions of one row, as Writer has them."""
    by_length: dict[int, dict[tuple[int, ...], list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        prompt = line.spans[0][0]
        shared = min(line.head + (SHARED if line.kind >= 0 else 0), prompt - TAIL)
        by_length[shared][(*line.pictures, -1, *line.tokens[:shared])].append(line)
    made = []
    for shared, groups in sorted(by_length.items()):
        several = list(groups.values())
        for first in range(0, len(several), most):
            made.append(_packed(several[first : first + most], shared, pad, place))
    return made


def whole(lines: Sequence[Line], pad: int, place: Any) -> list[Packed]:
    """Return lines that share nothing and in which nothing points at pictures, those of like length together."""
    made: list[Packed] = []
    by_length: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        by_length[-(-(len(line.tokens) - 1) // WHOLE) * WHOLE].append(line)
    for length, several in sorted(by_length.items()):
        most = max(1, AT_ONCE // length)
        for first in range(0, len(several), most):
            made.append(_beginnings(several[first : first + most], length, pad, place))
    return made


def _beginnings(lines: Sequence[Line], length: int, pad: int, place: Any) -> Packed:
    ids = np.full((len(lines), length), pad, np.int16)
    at, target, kinds = [], [], []
    for row, line in enumerate(lines):
        ids[row, : len(line.tokens) - 1] = line.tokens[:-1]
        places, tokens = line.foretold(row * length)
        at += places
        target += tokens
        kinds += [line.kind] * len(places)
    recalled = [(row * length + token, bits) for row, line in enumerate(lines) for token, bits in line.recalled]
    placed = [place(line, length) for line in lines]
    many, small = np.zeros(0, np.int32), np.zeros(0, np.int8)
    return Packed(
        ids,
        np.array([slots for slots, _ in placed], np.int32),
        np.array([positions for _, positions in placed], np.int16),
        [],
        np.array(at, np.int32),
        np.array(target, np.int16),
        np.array(kinds, np.int8),
        named=many,
        shown=many,
        pictures=small,
        compared=many,
        changed=small,
        spelled=many,
        letters=many,
        recalls=np.array([token for token, _ in recalled], np.int32),
        asked=np.array([bits for _, bits in recalled], np.int64),
        pad=pad,
    )


def _packed(groups: Sequence[Sequence[Line]], shared: int, pad: int, place: Any) -> Packed:
    heads = [place(lines[0], shared) for lines in groups]
    ids = np.array([lines[0].tokens[:shared] for lines in groups], np.int16)
    buckets: dict[int, list[tuple[int, Line]]] = defaultdict(list)
    for row, lines in enumerate(groups):
        for line in lines:
            own = len(line.tokens) - 1 - shared
            buckets[next((size for size in BUCKETS if size >= own), own)].append((row, line))
    parts, at, target, kinds = [], [], [], []
    named, shown, pictures, spelled, letters = [], [], [], [], []
    compares = [
        (row * shared + token, change) for row, lines in enumerate(groups) for token, change in lines[0].changed
    ]
    offset = ids.size
    for length, found in sorted(buckets.items()):
        count = -(-len(found) // ROUND) * ROUND
        part = Part(
            np.zeros(count, np.int32),
            np.full((count, length), pad, np.int16),
            np.zeros((count, 3, length), np.int16),
        )
        for number, (row, line) in enumerate(found):
            own = line.tokens[shared:-1]
            part.head[number] = row
            part.ids[number, : len(own)] = own
            part.positions[number] = place(line, shared + length)[1][:, shared:]
            start = offset + number * length - shared
            places, tokens = line.foretold(start)
            at += places
            target += tokens
            kinds += [line.kind] * len(places)
            for token, bits in line.points:
                named.append(row * shared + token if token < shared else start + token)
                shown.append(bits)
                pictures.append(len(line.pictures))
            for token, bits in line.spelled:
                spelled.append(row * shared + token if token < shared else start + token)
                letters.append(bits)
        offset += part.ids.size
        parts.append(part)
    return Packed(
        ids,
        np.array([slots for slots, _ in heads], np.int32),
        np.array([positions for _, positions in heads], np.int16),
        parts,
        np.array(at, np.int32),
        np.array(target, np.int16),
        np.array(kinds, np.int8),
        np.array(named, np.int32),
        np.array(shown, np.int32),
        np.array(pictures, np.int8),
        np.array([token for token, _ in compares], np.int32),
        np.array([change for _, change in compares], np.int8),
        np.array(spelled, np.int32),
        np.array(letters, np.int32),
        np.zeros(0, np.int32),
        np.zeros(0, np.int64),
        pad,
    )


def normed(each: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    from torch.nn import functional

    return functional.rms_norm(each, (each.shape[-1],), weight.to(each.dtype), epsilon)


def turned(each: Tensor, weight: Tensor, epsilon: float, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys with their norm and their positions."""
    from .vlm_model import _turned

    return _turned(normed(each, weight, epsilon), cos, sin)


def gated(both: Tensor) -> Tensor:
    from torch.nn import functional

    gate, up = both.chunk(2, -1)
    return functional.silu(gate) * up


@cache
def steps(compiled: bool) -> tuple[Any, Any, Any]:
    """Return normed, turned and gated. compiled: each in one loop, three times as fast on a CPU; compiling takes a quarter
    of a minute in each process. Raises BadInput if a C++ compiler is needed and there is none."""
    import torch

    from .compile import require_compiler

    each = normed, turned, gated
    if not compiled:
        return each
    require_compiler()
    norm, turn, gate = (torch.compile(step, dynamic=True) for step in each)
    return norm, turn, gate


def read(
    passes: Pass, packed: Packed, seen: Tensor, deep: list[Tensor], compiled: bool = False, after: Sequence[int] = ()
) -> tuple[Tensor, dict[int, Tensor]]:
    """Return tokens x hidden after the last norm, of all beginnings and then all parts, and by number of layers the same after
    so many of them without a norm. seen, deep: as `Pass.see` gives them. compiled: see `steps`."""
    import torch
    from torch.nn import functional

    norm, turn, gate = steps(compiled)
    device = seen.device

    def numbers(given: np.ndarray) -> Tensor:
        return torch.from_numpy(given).to(device).long()

    ids = numbers(np.concatenate([packed.ids.reshape(-1), *(part.ids.reshape(-1) for part in packed.parts)]))
    slots = numbers(packed.slots.reshape(-1))
    shown = (slots >= 0).nonzero()[:, 0]
    slots = slots[shown]
    every = (packed.positions, *(part.positions for part in packed.parts))
    positions = np.concatenate([each.transpose(1, 0, 2).reshape(3, -1) for each in every], 1)
    hidden = passes.embedding(ids)
    kind = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else hidden.dtype
    hidden = hidden.to(kind).index_copy(0, shown, seen.flatten(0, 1)[slots].to(kind))
    cos, sin = (each[0, 0].to(kind)[:, None] for each in passes._angles(numbers(positions)[None]))
    rows, length = packed.ids.shape
    sizes = [packed.ids.size, *(part.ids.size for part in packed.parts)]
    heads = [numbers(part.head) for part in packed.parts]
    group = passes.heads // passes.shared
    masks = [_mask(0, length, group, device, kind)]
    masks += [_mask(length, part.ids.shape[1], group, device, kind) for part in packed.parts]
    wide = [passes.heads * passes.width, passes.shared * passes.width, passes.shared * passes.width]

    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """S x L x heads x width, S x K x shared x width (twice) -> S x L x (heads x width)."""
        count, own = query.shape[:2]
        query = query.view(count, own, passes.shared, group, -1).permute(0, 2, 3, 1, 4)
        query = query.reshape(count, passes.shared, group * own, -1)
        weights = torch.matmul(query, key.permute(0, 2, 3, 1)) + mask
        heard = torch.matmul(torch.softmax(weights, -1).to(value.dtype), value.transpose(1, 2))
        return heard.view(count, passes.shared, group, own, -1).permute(0, 3, 1, 2, 4).reshape(count, own, -1)

    middle: dict[int, Tensor] = {}
    for index, layer in enumerate(passes.text.layers):
        own, mlp = layer.self_attn, layer.mlp
        first = norm(hidden, layer.input_layernorm.weight, layer.input_layernorm.variance_epsilon)
        lines = functional.linear(first, torch.cat([own.q_proj.weight, own.k_proj.weight, own.v_proj.weight]))
        query, key, value = (each.view(len(ids), -1, passes.width) for each in lines.split(wide, -1))
        query = turn(query, own.q_norm.weight * passes.width**-0.5, own.q_norm.variance_epsilon, cos, sin)
        key = turn(key, own.k_norm.weight, own.k_norm.variance_epsilon, cos, sin)
        queries, keys, values = (each.split(sizes) for each in (query, key, value))
        first_key, first_value = (each[0].view(rows, length, passes.shared, -1) for each in (keys, values))
        heard = [attend(queries[0].view(rows, length, passes.heads, -1), first_key, first_value, masks[0])]
        for part, of, mask, asking, key, value in zip(
            packed.parts, heads, masks[1:], queries[1:], keys[1:], values[1:]
        ):
            size = part.ids.shape
            key = torch.cat([first_key[of], key.view(*size, passes.shared, -1)], 1)
            value = torch.cat([first_value[of], value.view(*size, passes.shared, -1)], 1)
            heard.append(attend(asking.view(*size, passes.heads, -1), key, value, mask))
        hidden = hidden + own.o_proj(torch.cat([each.flatten(0, 1) for each in heard]))
        then = norm(hidden, layer.post_attention_layernorm.weight, layer.post_attention_layernorm.variance_epsilon)
        both = functional.linear(then, torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))
        hidden = hidden + mlp.down_proj(gate(both))
        if index < len(deep):
            hidden = hidden.index_add(0, shown, deep[index].flatten(0, 1)[slots].to(kind))
        if index + 1 in after:
            middle[index + 1] = hidden
    return norm(hidden, passes.text.norm.weight, passes.text.norm.variance_epsilon), middle


def _mask(before: int, own: int, group: int, device: Any, kind: Any) -> Tensor:
    """(group x own) x (before + own): 0 where a token sees, else a large negative number."""
    import torch

    mask = torch.full((own, own), -1e4, device=device, dtype=kind).triu(1)
    return torch.cat([mask.new_zeros(own, before), mask], 1).repeat(group, 1)
