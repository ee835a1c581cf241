"""Merges of checkpoint files inside ComfyUI: choice of files, place of the result, progress and Cancel."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from ...clvr_core.errors import BadInput
from ...clvr_core.merge.presets import ALL
from ...clvr_core.merge.recipe import Block, Lora, MergeRecipe
from ..host.file_names import name_error
from ..host.pictures import as_image
from ..host.progress import show_text
from ..host.sticker_files import STICKERS, sticker_file

if TYPE_CHECKING:
    from ...clvr_core.merge.plan import MergePlan

NONE, FP8 = "none", ("refuse", "dequantise")
SUFFIX = ".safetensors"
SUFFIXES = (SUFFIX, ".sft")
"""Endings of safetensors files. What is written ends in the first."""
KINDS = {
    "base": "diffusion_models",
    "distilled": "diffusion_models",
    "aligned": "diffusion_models",
    "lora": "loras",
    "recipe_of": "diffusion_models",
    "weights": "diffusion_models",
}
"""Widget -> ComfyUI's kind of model folder."""
SMALL = 64 << 20
"""Bytes that a file of the embedded world has at most."""
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
    more_loras: Mapping[str, Any] = field(default_factory=dict)
    lora_factor: float = 1.0
    preset: str = ALL
    recipe_of: str = NONE

    def recipe(self) -> MergeRecipe:
        """Make the core's recipe, that of the file `recipe_of` if one is named. Raises BadInput for a file outside
        ComfyUI's model folders and for a line of `blocks` that is malformed.
        """
        if self.recipe_of != NONE:
            return recorded_recipe(self.recipe_of)
        names = {role: getattr(self, role) for role in ("base", "distilled", "aligned")}
        files = {role: file_of(role, name) for role, name in names.items() if name != NONE}
        first = {"lora_1": self.lora, "strength_1": self.lora_strength}
        loras = loras_in({**first, **self.more_loras}, self.lora_factor)
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
            preset=self.preset,
        )


def loras_in(given: Mapping[str, Any], factor: float = 1.0) -> tuple[Lora, ...]:
    """Return the LoRAs of a list of widgets, see `nodes.lora_list`; entries without a file are left out.

    given: lora_N and strength_N by name, entries after the first inside the choice that opens them.
    factor: on every strength.

    Raises BadInput for a file outside ComfyUI's model folders.
    """
    widgets = dict(_widgets(given))
    return tuple(
        Lora(file_of("lora", value), widgets[name.replace("lora", "strength")] * factor)
        for name, value in widgets.items()
        if name.startswith("lora_") and value != NONE
    )


def _widgets(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each widget, those that a choice has opened included."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _widgets(value)
        else:
            yield name, value


def list_files(kind: str) -> list[str]:
    """Return the safetensors files in ComfyUI's model folders of this kind."""
    return [name for name in folder_paths.get_filename_list(kind) if name.endswith(SUFFIXES)]


def choices(kind: str) -> list[str]:
    """Return what a widget offers: the files of `list_files`, then the embedded weights."""
    return [*list_files(kind), *STICKERS[kind]]


def small_files() -> list[str]:
    """Return those of the diffusion models that are no larger than the embedded ones may be."""
    kind = KINDS["weights"]
    return [name for name in list_files(kind) if (path := path_of(kind, name)) and path.stat().st_size <= SMALL]


def path_of(kind: str, name: str) -> Path | None:
    """Return the path of a file in ComfyUI's model folders of this kind, or of embedded weights; None if there is none."""
    if path := sticker_file(kind, name):
        return path
    found = folder_paths.get_full_path(kind, name)
    return Path(found) if found else None


def file_of(role: str, name: str) -> Path:
    """Return the path of a file that a widget names; it may be a symbolic link to any place. Raises BadInput unless it
    is in ComfyUI's own list, or an embedded one.

    The name may come from a workflow that somebody else made. The list holds only what the owner of the machine put
    into a model folder, links included, and ComfyUI's loaders read the same files.
    """
    kind = KINDS[role]
    path = path_of(kind, name) if name in choices(kind) else None
    if path is None:
        raise BadInput(f"{role} is {name!r:.80}, which does not lie in a folder of {kind}; pick one of the list")
    return path


def recorded_recipe(name: str) -> MergeRecipe:
    """Return the recipe in the metadata of a merged file, with the inputs found in ComfyUI's model folders by their
    recorded names and sizes, and among the embedded weights by their checksums.

    Raises BadInput for a file that was not merged by this pack, and for an input that is in no model folder.
    """
    from ...clvr_core.merge import header
    from ...clvr_core.weights.checkpoint import File

    path = file_of("recipe_of", name)
    file = File(path)
    try:
        record = header.read_record(file)
        paths: dict[str, Path] = {}
        loras = []
        for entry in record["inputs"]:
            role = entry["role"]
            found = _recorded_input("loras" if role == "lora" else "diffusion_models", entry, path)
            loras.append(found) if role == "lora" else paths.update({role: found})
        return header.recipe_of(file, record, paths, tuple(loras))
    finally:
        file.close()


def _recorded_input(kind: str, entry: Mapping[str, Any], merged: Path) -> Path:
    size, sha256 = (entry["files"][0].get(name) if entry["files"] else None for name in ("size", "sha256"))
    for name in STICKERS[kind]:
        path = sticker_file(kind, name)
        if path and path.stat().st_size == size and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return path
    for name in list_files(kind):
        if Path(name).name == entry["name"]:
            path = Path(folder_paths.get_full_path_or_raise(kind, name))
            if path.stat().st_size == size:
                return path
    raise BadInput(
        f"recipe_of is {merged.name}, which was merged from {entry['name']!r:.80} ({size} bytes), and no folder of {kind} holds that file; "
        f"put it there, or set recipe_of to {NONE} and choose the files by hand"
    )


def stamps(inputs: Mapping[str, Any]) -> list[str]:
    """Return time and size of each file that the widgets name: another file of the same name executes the node
    again.
    """
    found = []
    for name, value in _widgets(inputs):
        role = name.partition("_")[0] if name not in KINDS else name
        if role in KINDS and isinstance(value, str) and (path := path_of(KINDS[role], value)):
            state = path.stat()
            found.append(f"{name} {state.st_mtime_ns} {state.st_size}")
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
            refuse_fp8(plan, recipe.fp8)
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
    from ...clvr_core.merge.plan import make_plan

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
