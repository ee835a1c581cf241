"""Presets by words: which blocks of FLUX.2 Klein the aligned delta and the LoRAs change.

They divide the network by what its parts do in the forward pass (`transformer_flux2.py` of diffusers): a double block has
weights of its own for the tokens of the text and of the picture, a single block has the same for both, and the embedding
of time, the modulations and the last layer follow the step schedule. That early blocks lay a picture out and late ones
finish it is what users of FLUX LoRAs report; it was not measured here. beta is left alone: a distilled delta works as a
whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import BadInput
from .recipe import Block

SCHEDULE = ("time_in", "double_stream_modulation_*", "single_stream_modulation", "final_layer")


@dataclass(frozen=True, slots=True)
class Preset:
    """Blocks, and in words which they are.

    words: for help and tooltips; of Klein 4B (5 double and 20 single blocks) and 9B (8 and 24).
    whole: the patterns count from all blocks, from which these are taken out; otherwise from none, and these are put in.
    patterns: of blocks and tensors by Black Forest Labs' names.
    first, second: whether the first or second half of the single blocks belongs to the patterns.
    """

    words: str
    patterns: tuple[str, ...]
    whole: bool = False
    first: bool = False
    second: bool = False


PRESETS = {
    "structure": Preset(
        "the double blocks and the first half of the single ones (4B: 0 to 9, 9B: 0 to 11)",
        ("double_blocks.*",),
        first=True,
    ),
    "style": Preset("the second half of the single blocks (4B: 10 to 19, 9B: 12 to 23)", (), second=True),
    "text": Preset(
        "what only the tokens of the text pass: txt_in, and txt_attn and txt_mlp of the double blocks",
        ("txt_in", "double_blocks.*.txt_*"),
    ),
    "steps": Preset(
        "all but the embedding of time, the modulations and the last layer, which follow the step schedule",
        SCHEDULE,
        whole=True,
    ),
}
ALL = "all"
"""The preset that changes every block."""


def preset_words() -> str:
    """Return one line of help for all presets."""
    return "; ".join(f"{name}: {preset.words}" for name, preset in PRESETS.items())


def preset_blocks(name: str, blocks: Iterable[str]) -> tuple[Block, ...]:
    """Return the factors by block that the preset stands for; none for `ALL`.

    blocks: names of the model's blocks, by Black Forest Labs' names.

    Raises BadInput for an unknown preset and for a model that has no blocks of FLUX.2.
    """
    if name == ALL:
        return ()
    if name not in PRESETS:
        raise BadInput(f"--preset is {name!r:.40}; choose from {', '.join((ALL, *PRESETS))}")
    preset, names = PRESETS[name], set(blocks)
    single = sorted(int(each.rpartition(".")[2]) for each in names if each.startswith("single_blocks."))
    if not single or not any(each.startswith("double_blocks.") for each in names):
        raise BadInput(
            f"--preset {name} names blocks of FLUX.2 Klein, and this base has none; give the patterns as --blocks"
        )
    half = len(single) // 2
    chosen = (*(single[:half] if preset.first else ()), *(single[half:] if preset.second else ()))
    patterns = (*preset.patterns, *(f"single_blocks.{number}" for number in chosen))
    if preset.whole:
        return tuple(Block(pattern, 0.0) for pattern in patterns)
    return (Block("*", 0.0), *(Block(pattern, 1.0) for pattern in patterns))
