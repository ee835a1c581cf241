"""DSWM of small weights into a folder that draws: base, student and LoRA (arXiv 2605.14876)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..errors import BadInput
from ..executor.klein import KleinExecutor
from ..merge.plan import make_plan
from ..merge.recipe import Lora, MergeRecipe
from ..merge.report import merge_report
from ..merge.run import merge
from ..storage.atomic import write_bytes, writing
from ..weights.manifest import write_manifest
from ..weights.shared import copy
from .stage import RECORD, stage

TRANSFORMER = Path("transformer") / "diffusion_pytorch_model.safetensors"
LORA = "pytorch_lora_weights.safetensors"


@stage
def merge_weights(out: Path, base: Path, distilled: Path, lora: Path, beta: float) -> Path:
    """Merge into `out/weights`, whose other parts and sampling are those of the student.

    base, distilled: folders of weights. lora: the folder of a LoRA on the base. beta: strength of the student's delta.

    Returns the folder of the weights. Raises BadInput for inputs that are missing or do not fit together.
    """
    KleinExecutor.load(distilled)
    if not (lora / LORA).is_file():
        raise BadInput(f"there is no {LORA} in {lora}; give the folder `lora` that `sft` or `pprl` wrote, with --lora")
    weights, fresh = out / "weights", out / "weights-new"
    with writing(out):
        shutil.rmtree(fresh, ignore_errors=True)
        copy(distilled, fresh, leave=(RECORD,))
    recipe = MergeRecipe(base / TRANSFORMER, distilled=distilled / TRANSFORMER, loras=(Lora(lora / LORA),), beta=beta)
    with make_plan(recipe) as plan:
        done = merge(plan, fresh / TRANSFORMER, overwrite=True)
        model = merge_report(plan, done.found)["model"]
    command = f"clvr merge --base {base.name} --distilled {distilled.name} --lora {lora.name} --beta {beta:g}"
    record = {"stage": "dswm", "command": command, "model": model}
    with writing(out):
        write_bytes(fresh / RECORD, json.dumps(record, indent=1).encode())
        write_manifest(fresh)
        shutil.rmtree(weights, ignore_errors=True)
        fresh.rename(weights)
    return weights
