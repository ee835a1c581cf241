"""The recipe of a merge: which weights, how much of each, and how the result is stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path
from typing import Literal

from ..errors import BadInput

FORMULA = "merged = base + alpha * (aligned - base) + beta * (distilled - base) + sum of strength * B A"
COMBINED = {
    "sum": "",
    "ties": ", of the terms that have the sign of their sum in an element",
    "orthogonal": ", less the share of the other terms along distilled - base in a tensor",
}
"""What each way to combine adds to the formula."""
MOST_ADDED = 5
DTYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32", "fp8": "F8_E4M3"}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA or LoKr file, or a further checkpoint, and the strength of its delta.

    path: a .safetensors file.
    strength: factor on the delta, -1000 to 1000.
    """

    path: Path
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """Parse FILE or FILE:STRENGTH; the strength is 1 if none is given."""
        found = re.fullmatch(rf"(.+):({_NUMBER})", text)
        return cls(Path(found[1]), float(found[2])) if found else cls(Path(text))


@dataclass(frozen=True, slots=True)
class Block:
    """Factors on the strengths of the tensors that match a pattern.

    pattern: a block or tensor name, as in `MergeRecipe`.
    align: factor on alpha and on the strengths of the LoRAs.
    distil: factor on beta.
    """

    pattern: str
    align: float
    distil: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Block:
        """Parse PATTERN=ALIGN or PATTERN=ALIGN,DISTIL. Raises BadInput for other text."""
        found = re.fullmatch(rf"(.+)=({_NUMBER})(?:,({_NUMBER}))?", text)
        if not found:
            raise BadInput(
                f"blocks: {text!r:.80} is not PATTERN=ALIGN or PATTERN=ALIGN,DISTIL; write for example double_blocks.3=0.5"
            )
        return cls(found[1], float(found[2]), float(found[3] or 1.0))

    @classmethod
    def parse_lines(cls, text: str) -> tuple[Block, ...]:
        """Parse one block a line; blanks and empty lines are ignored. Raises BadInput for a line that is no block."""
        return tuple(cls.parse(line) for line in re.sub(r"[^\S\n]+", "", text).splitlines() if line)


@dataclass(frozen=True, slots=True)
class MergeRecipe:
    """The inputs, strengths and output format of one merge.

    A path is a .safetensors file, the .index.json of shards, or a diffusers folder. A pattern is the name of a block or
    of a tensor, in either layout of FLUX.2, with the wildcards * and ?; the name of a block matches every tensor in it.

    base: the checkpoint that the others were made from.
    aligned: a fine-tuned checkpoint, or a LoRA, whose strength is then alpha.
    distilled: a checkpoint for few steps.
    loras: more LoRA or LoKr files with their strengths.
    alpha: strength of aligned - base, -1000 to 1000.
    beta: strength of distilled - base, -1000 to 1000.
    blocks: factors on the strengths by pattern; of several that match a tensor, the last counts.
    include: patterns of the tensors to merge; empty merges all. The other tensors keep the values of the base.
    exclude: patterns of tensors that keep the values of the base.
    layout: naming of the tensors in the output; `base` keeps the base's.
    dtype: dtype of the output; `base` keeps that of each tensor (bf16 where that is fp8).
    rounding: `nearest` (even), or `stochastic`, which keeps small deltas on average.
    seed: of stochastic rounding.
    keep_lora: write the LoRAs into a file beside the merged file instead of into it.
    limit: the largest median of |delta| / |base| over the matrices of a checkpoint that is accepted, above 0. A larger
        one means that the checkpoint was not made from this base.
    fp8: what to do with a difference of weights of which one has 8 bits or fewer, much of which is rounding noise:
        `refuse` it, or `dequantise` and merge the values all the same.

    added: further checkpoints that were made from the base, with the strengths of their differences; the factors of
        `blocks` on alpha act on them too.
    preset: blocks by words, see presets.py; they come before `blocks`, and `make_plan` puts them there. `all` for none.
    combine: how the deltas are added. `sum`; `ties`, in each element only those that have the sign of the sum of all;
        `orthogonal`, in each tensor the others without their share along the distilled delta. formula.py has the
        arithmetic.

    Raises BadInput for a recipe without anything to merge or convert, and for a strength or limit out of range.
    """

    base: Path
    aligned: Path | None = None
    distilled: Path | None = None
    loras: tuple[Lora, ...] = ()
    alpha: float = 1.0
    beta: float = 1.0
    blocks: tuple[Block, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    layout: Literal["base", "bfl", "diffusers"] = "base"
    dtype: Literal["base", "bf16", "fp16", "fp32", "fp8"] = "base"
    rounding: Literal["nearest", "stochastic"] = "nearest"
    seed: int = 0
    keep_lora: bool = False
    limit: float = 0.5
    fp8: Literal["refuse", "dequantise"] = "refuse"
    added: tuple[Lora, ...] = ()
    combine: Literal["sum", "ties", "orthogonal"] = "sum"
    preset: str = "all"

    def __post_init__(self) -> None:
        converts = self.layout != "base" or self.dtype != "base"
        if len(self.added) > MOST_ADDED:
            raise BadInput(f"--add is given {len(self.added)} times; at most {MOST_ADDED}; merge some of them before")
        if self.aligned is None and self.distilled is None and not (self.loras or self.added or converts):
            raise BadInput("there is nothing to merge into the base; give --aligned, --distilled or --lora")
        strengths = {"--alpha": self.alpha, "--beta": self.beta}
        strengths |= {f"--lora {lora.path}": lora.strength for lora in self.loras}
        strengths |= {f"--add {each.path}": each.strength for each in self.added}
        strengths |= {
            f"--blocks {block.pattern}": value for block in self.blocks for value in (block.align, block.distil)
        }
        for name, value in strengths.items():
            if not (isfinite(value) and abs(value) <= 1000):
                raise BadInput(f"{name} is {value}; strengths are numbers between -1000 and 1000")
        if not self.limit > 0:
            raise BadInput(f"--limit is {self.limit}; it must be above 0")

    @property
    def formula(self) -> str:
        """The formula in words, for the metadata and the report."""
        added = " + sum of strength * (added - base)" if self.added else ""
        return FORMULA + added + COMBINED[self.combine]

    def factors(self, names: tuple[str, ...]) -> tuple[float, float]:
        """Return the factors (align, distil) on the strengths of a tensor that has all of these names; 0 and 0 leaves
        it as it is."""
        if (self.include and not any(matches(pattern, names) for pattern in self.include)) or any(
            matches(pattern, names) for pattern in self.exclude
        ):
            return 0.0, 0.0
        return factors(self.blocks, names)


def factors(blocks: Sequence[Block], names: tuple[str, ...]) -> tuple[float, float]:
    """Return (align, distil) of the last block that matches one of the names, or (1, 1) if no block matches."""
    found = [block for block in blocks if matches(block.pattern, names)]
    return (found[-1].align, found[-1].distil) if found else (1.0, 1.0)


def matches(pattern: str, names: tuple[str, ...]) -> bool:
    """Say whether the pattern matches one of the names, or the block that one of them is in. Case counts."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, pattern + ".*") for name in names)


def flag_of(role: str) -> str:
    """Return the flag that gives the input of this role."""
    return "--add" if role.startswith("added ") else f"--{role}"
