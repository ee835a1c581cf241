"""Merges of checkpoint files inside ComfyUI: choice of files, place of the result, progress and Cancel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from ...clvr_core.errors import BadInput
from ...clvr_core.merge.plan import MergePlan, make_plan
from ...clvr_core.merge.recipe import Block, Lora, MergeRecipe
from ..host.file_names import name_error
from ..host.pictures import as_image
from ..host.progress import show_text

NONE, FP8 = "none", ("refuse", "dequantise")
SUFFIX = ".safetensors"
KINDS = {"base": "diffusion_models", "distilled": "diffusion_models", "aligned": "diffusion_models", "lora": "loras"}
"""Widget -> ComfyUI's kind of model folder."""
MAX_BLOCKS = 10_000
"""Characters that the list of blocks may have."""


@dataclass(frozen=True)
class MergeInputs:
    """Values of the node's widgets, by their names."""

    base: str
    distilled: str = NONE
    aligned: str = NONE
    lora: str = NONE
    lora_strength: float = 1.0
    alpha: float = 1.0
    beta: float = 1.0
    blocks: str = ""
    fp8: str = "refuse"
    dtype: str = "base"
    rounding: str = "nearest"
    keep_lora: bool = False
    every_weight: bool = False
    limit: float = 0.5
    overwrite: bool = False

    def recipe(self) -> MergeRecipe:
        """Make the core's recipe. Raises BadInput for a file outside ComfyUI's model folders and for a line of `blocks`
        that is malformed.
        """
        files = {role: file_of(role, name) for role in KINDS if (name := getattr(self, role)) != NONE}
        loras = (Lora(files["lora"], self.lora_strength),) if "lora" in files else ()
        return MergeRecipe(
            files["base"],
            files.get("aligned"),
            files.get("distilled"),
            loras,
            self.alpha,
            self.beta,
            Block.parse_lines(self.blocks),
            dtype=self.dtype,
            rounding=self.rounding,
            keep_lora=self.keep_lora,
            limit=self.limit,
            fp8=self.fp8,
        )


def list_files(kind: str) -> list[str]:
    """Return the safetensors files in ComfyUI's model folders of this kind."""
    return [name for name in folder_paths.get_filename_list(kind) if name.endswith(SUFFIX)]


def file_of(role: str, name: str) -> Path:
    """Return the path of a file that a widget names. Raises BadInput unless it is listed and lies in a model folder
    with symbolic links resolved.

    The name may come from a workflow that somebody else made.
    """
    kind = KINDS[role]
    path = folder_paths.get_full_path(kind, name) if name in list_files(kind) else None
    if path is None or not any(
        folder_paths.is_within_directory(folder, path) for folder in folder_paths.get_folder_paths(kind)
    ):
        raise BadInput(
            f"{role} is {name!r:.80}, which does not lie in a folder of {kind}; pick one of the list, and put the file itself there, not a "
            "link, or name its own folder in extra_model_paths.yaml"
        )
    return Path(path)


def stamps(names: dict[str, str]) -> list[str]:
    """Return time and size of each file: another file of the same name executes the node again."""
    found = []
    for role, kind in KINDS.items():
        if path := folder_paths.get_full_path(kind, names.get(role, NONE)):
            state = Path(path).stat()
            found.append(f"{role} {state.st_mtime_ns} {state.st_size}")
    return found


def input_error(name: str | None, blocks: str | None) -> bool | str:
    """Return what validate_inputs returns: True or an error sentence. None is a value that comes by a link, later."""
    if name is not None and (error := name_error(name)):
        return error
    if blocks is not None and len(blocks) > MAX_BLOCKS:
        return f"blocks has {len(blocks):,} characters; at most {MAX_BLOCKS:,} are read"
    try:
        Block.parse_lines(blocks or "")
    except BadInput as error:
        return in_widgets(str(error))
    return True


def merge_files(name: str, inputs: MergeInputs) -> tuple[str, torch.Tensor, str]:
    """Write output/diffusion_models/NAME.safetensors, unless it already holds this merge.

    Return the file's name for a loader, the report as an IMAGE and its summary. Raises BadInput, with widgets named as
    the node names them.
    """
    from ...clvr_core.merge.native import build_in_background
    from ...clvr_core.merge.picture import picture
    from ...clvr_core.merge.report import merge_report, merge_summary
    from ...clvr_core.merge.run import made_before, merge
    from ...clvr_core.merge.survey import survey

    try:
        if (error := input_error(name, inputs.blocks)) is not True:
            raise BadInput(error)
        recipe, out = inputs.recipe(), place_for("diffusion_models", name)
        with planned(recipe) as plan:
            refuse_fp8(plan, inputs.fp8)
            kept = place_for("loras", name) if plan.kept else None
            if made_before(plan, out) and (kept is None or kept.exists()):
                values = merge_report(plan, survey(plan, interrupted).findings())
                done = f"{out.name} is this merge already; nothing was written"
            else:
                build_in_background()  # for the next merge; this one does not wait
                made = merge(
                    plan,
                    out,
                    progress=progress_of(out.name),
                    cancel=interrupted,
                    overwrite=inputs.overwrite,
                    measured=inputs.every_weight,
                    lora_out=kept,
                )
                values = merge_report(plan, made.found, made.seconds, made.read, made.nbytes, made.engine)
                done = f"{made.nbytes / 1e9:.3g} GB in {made.seconds:.1f} s: {out.name}"
                done += f", and its LoRA {kept.name}" if kept else ""
    except BadInput as error:
        raise BadInput(in_widgets(str(error))) from error
    warnings = (in_widgets(f"warning: {warning}") for warning in values["warnings"])
    text = "\n".join([done, merge_summary(values), *warnings])
    show_text(text)
    return out.name, as_image(picture(values)), text


@contextmanager
def planned(recipe: MergeRecipe) -> Iterator[MergePlan]:
    """Plan the merge in a layout that Load Diffusion Model reads: for FLUX.2 that of Black Forest Labs."""
    plan = make_plan(recipe)
    if plan.layout == "diffusers":
        plan.close()
        plan = make_plan(replace(recipe, layout="bfl"))
    with plan:
        yield plan


def refuse_fp8(plan: MergePlan, choice: str) -> None:
    """Raise BadInput for a model with fp8 weights, unless `choice` is dequantise."""
    for model in plan.models:
        if choice != "dequantise" and any(part.quantised for part in model.atoms.values()):
            raise BadInput(
                f"{model.role} is {model.checkpoint.path.name}, whose fp8 weights have lost most of what a small delta changes; "
                "use the bf16 file of the same model, or set fp8 to dequantise to merge the values that they stand for all the same"
            )


def place_for(kind: str, name: str) -> Path:
    """Return the path to write. Raises BadInput if ComfyUI's loader would find another file of this name first."""
    folder = Path(folder_paths.get_output_directory()) / kind
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{name}{SUFFIX}"
    found = folder_paths.get_full_path(kind, out.name)
    if found is not None and Path(found) != out:
        raise BadInput(
            f"name is {name!r}, and a model folder has a {out.name} already, which the loader would take instead; choose another"
        )
    return out


def progress_of(name: str):
    """Make the merge's progress callback, which takes bytes done and bytes in all: it moves the executing node's bar
    and sets its text once.
    """
    bar: list[comfy.utils.ProgressBar] = []

    def show(done: int, total: int) -> None:
        if not bar:
            bar.append(comfy.utils.ProgressBar(total))
            show_text(f"merging {total / 1e9:.3g} GB, inputs' checksums included, into {name}")
        bar[0].update_absolute(done, total)

    return show


def interrupted() -> bool:
    """Raise ComfyUI's own exception after Cancel; otherwise return False, which lets the merge go on."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    return False


def in_widgets(text: str) -> str:
    """Replace command-line options in an error of the core by names of widgets: --some-name -> some_name."""
    return re.sub(r"--([a-z]+)(?:-([a-z]+))?", lambda found: "_".join(filter(None, found.groups())), text)
