"""The workflow goes into the picture that a run hands over, beside the trajectory, so that both open when it is dropped on the graph."""

from __future__ import annotations

import json
from typing import Any

from comfy.cli_args import args

from ..clvr_core.folder import BEST
from ..clvr_core.report import read_png, write_png
from .sockets import Run


def carry_workflow(run: Run, hidden: Any) -> None:
    """Nothing is written where no workflow is known, as in headless use, nor where ComfyUI was told to write none."""
    path, told = run.folder / BEST, hidden.extra_pnginfo or {}
    if args.disable_metadata or "workflow" not in told or not path.is_file():
        return
    picture, texts = read_png(path)
    extra = {key: json.dumps(value) for key, value in (("prompt", hidden.prompt), *told.items())}
    if any(texts.get(key) != value for key, value in extra.items()):
        write_png(path, picture, texts | extra)
