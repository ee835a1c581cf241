"""Merge three checkpoints: base, distilled and aligned. They are made here, tiny, so that the numbers can be checked by hand.

python examples/merge_weights.py folder
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import MergeRecipe
from clvr_core.merge.run import merge


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = {"base": 1.0, "aligned": 1.25, "distilled": 0.875}
    for name, value in values.items():
        save_file({"block.weight": np.full((2, 3), value, np.float32)}, folder / f"{name}.safetensors")

    recipe = MergeRecipe(
        base=folder / "base.safetensors",
        aligned=folder / "aligned.safetensors",
        distilled=folder / "distilled.safetensors",
        alpha=0.5,  # strength of aligned - base
        beta=1.0,  # strength of distilled - base
    )
    # The plan reads headers only and refuses what does not fit; no weight is read before.
    with make_plan(recipe) as plan:
        merged = merge(plan, folder / "merged.safetensors", overwrite=True)
    # 1 + 0.5 * (1.25 - 1) + 1 * (0.875 - 1) = 1
    print(load_file(merged.out)["block.weight"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
