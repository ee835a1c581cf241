"""What is asked for: which weights, how much of each, and how the result is to be stored."""

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
DTYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32", "fp8": "F8_E4M3"}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True, slots=True)
class Lora:
    path: Path
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """FILE or FILE:STRENGTH."""
        found = re.fullmatch(rf"(.+):({_NUMBER})", text)
        return cls(Path(found[1]), float(found[2])) if found else cls(Path(text))


@dataclass(frozen=True, slots=True)
class Block:
    """Factors on the strengths where the pattern matches: `align` on alpha and the LoRAs, `distil` on beta."""

    pattern: str
    align: float
    distil: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Block:
        """PATTERN=ALIGN or PATTERN=ALIGN,DISTIL. Raises BadInput."""
        found = re.fullmatch(rf"(.+)=({_NUMBER})(?:,({_NUMBER}))?", text)
        if not found:
            raise BadInput(
                f"blocks: {text!r:.80} is not PATTERN=ALIGN or PATTERN=ALIGN,DISTIL; write for example double_blocks.3=0.5"
            )
        return cls(found[1], float(found[2]), float(found[3] or 1.0))

    @classmethod
    def parse_lines(cls, text: str) -> tuple[Block, ...]:
        """One a line, blanks as one likes. Raises BadInput."""
        return tuple(cls.parse(line) for line in re.sub(r"[^\S\n]+", "", text).splitlines() if line)


@dataclass(frozen=True, slots=True)
class MergeRecipe:
    """Paths are safetensors files, indices of shards, or diffusers folders; `aligned` may be a LoRA, whose strength is then alpha.

    Patterns are block or tensor names in either layout, with * and ?; a block's name matches all that is in it. What is excluded, or
    not included, stays as it is in the base. Of several `blocks` that match, the last counts.
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
    """The largest norm of a delta, relative to the base's, that is still taken for a delta of this base."""

    def __post_init__(self) -> None:
        converts = self.layout != "base" or self.dtype != "base"
        if self.aligned is None and self.distilled is None and not self.loras and not converts:
            raise BadInput("there is nothing to merge into the base; give --aligned, --distilled or --lora")
        strengths = {"--alpha": self.alpha, "--beta": self.beta}
        strengths |= {f"--lora {lora.path}": lora.strength for lora in self.loras}
        strengths |= {
            f"--blocks {block.pattern}": value for block in self.blocks for value in (block.align, block.distil)
        }
        for name, value in strengths.items():
            if not (isfinite(value) and abs(value) <= 1000):
                raise BadInput(f"{name} is {value}; strengths are numbers between -1000 and 1000")
        if not self.limit > 0:
            raise BadInput(f"--limit is {self.limit}; it must be above 0")

    def factors(self, names: tuple[str, ...]) -> tuple[float, float]:
        """The factors (align, distil) for a weight that goes by all of these names."""
        if (self.include and not any(matches(pattern, names) for pattern in self.include)) or any(
            matches(pattern, names) for pattern in self.exclude
        ):
            return 0.0, 0.0
        return factors(self.blocks, names)


def factors(blocks: Sequence[Block], names: tuple[str, ...]) -> tuple[float, float]:
    """(align, distil) of the last block that matches one of the names, 1 and 1 if none does."""
    found = [block for block in blocks if matches(block.pattern, names)]
    return (found[-1].align, found[-1].distil) if found else (1.0, 1.0)


def matches(pattern: str, names: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, pattern + ".*") for name in names)
