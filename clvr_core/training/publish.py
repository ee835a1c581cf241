"""The weights of a training into the package: each part that several folders have alike lies there once."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import BadInput
from ..stickers import perceive
from ..stickers.reader import load as load_reader
from ..storage.atomic import writing
from ..weights.shared import copy, share
from ..world import ALIGNED, EMBEDDED, KINDS, world_named
from .merged import LORA

PARTS = ("vae", "text_encoder", "tokenizer")
"""Parts that student and merge may have as the base has them."""
MOST = 60_000_000
"""Bytes of all weights of the world, at most."""


def publish(out: Path, base: Path, student: Path, lora: Path, merged: Path, reader: Path) -> dict[str, int]:
    """Put weights into the folder of a world's package, in place of those that are there. Nothing is written before all
    are found whole.

    base, student, merged: folders of weights. lora: the folder of a LoRA on the base. reader: file of a reader.

    Returns the bytes of each that was written, by its name in `out`. Raises BadInput for weights that are missing,
    damaged or of another world, and for more than MOST bytes.
    """
    folders = {KINDS["-base"]: base, KINDS["-distilled"]: student, KINDS[""]: merged}
    aligned = ALIGNED.partition("/")[0]
    for folder in folders.values():
        world_named().load_executor(folder)
    if not (lora / LORA).is_file():
        raise BadInput(f"there is no {LORA} in {lora}; give the folder `lora` that `sft` or `pprl` wrote, with --lora")
    load_reader(reader)
    fresh = out / "published-new"
    with writing(out):
        shutil.rmtree(fresh, ignore_errors=True)
        for name, folder in (folders | {aligned: lora}).items():
            copy(folder, fresh / name)
            if folder in (student, merged):
                share(fresh / name, fresh / KINDS["-base"], PARTS)
        shutil.copyfile(reader, fresh / perceive.WEIGHTS.name)
        sizes = {each.name: _size(each) for each in sorted(fresh.iterdir())}
        if (size := sum(sizes.values())) > MOST:
            shutil.rmtree(fresh)
            raise BadInput(
                f"the weights of the {EMBEDDED} world take {size:,} bytes, and may take {MOST:,}; make a part smaller, or train "
                "the student with the VAE and the text encoder of the base, which then lie there once"
            )
        for each in sizes:
            if (out / each).is_dir():
                shutil.rmtree(out / each)
            (fresh / each).replace(out / each)
        fresh.rmdir()
    return sizes


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())
