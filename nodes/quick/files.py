"""Model files on this machine: which ones the artist's choices mean, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import comfy.model_management
import folder_paths

import nodes as comfy_nodes

from ...clvr_core.errors import BadInput
from .families import FAMILIES, SHARE, VLM, Family, ModelFile, Part, family_of

AUTO, GB = "auto", 10**9
EMBEDDED = "embedded (no download)"
THEN = "Then press R, so that they are listed, and Run."
FOLDERS = {"model": "diffusion_models", "vlm": "text_encoders", "vae": "vae", "text_encoder": "text_encoders"}
"""Widget -> ComfyUI's kind of model folder."""


@dataclass(frozen=True)
class Choice:
    """What the widgets mean on this machine.

    family: of the diffusion model, None for the embedded models.
    recipe: how it is sampled.
    files: file of each widget of FOLDERS, for those that are there.
    missing: the part of each widget whose file is not.
    """

    family: Family | None
    recipe: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, Part] = field(default_factory=dict)

    @property
    def complaint(self) -> str:
        """Say what is missing and where to get it; "" if nothing is."""
        if not self.family:
            return ""
        if self.family.type not in comfy_nodes.CLIPLoader.INPUT_TYPES()["required"]["type"][0]:
            return (
                f"{self.family.title} needs a newer ComfyUI: Load CLIP has no type {self.family.type!r} in this one; "
                "update ComfyUI, or choose another model"
            )
        offers = "; ".join(part.offer for part in self.missing.values())
        return offers and f"{self.family.title} needs files that are not here: {offers}. {THEN}"


def files_of(widget: str) -> list[str]:
    """Return the names of the files that this widget lists, relative to their folder."""
    return [name for name in folder_paths.get_filename_list(FOLDERS[widget]) if not name.startswith("put_")]


def choose(asked: Mapping[str, str]) -> Choice:
    """Find the files. asked: the values of the widgets of FOLDERS and of `recipe`.

    AUTO takes for the diffusion model the first family of FAMILIES that has a file here, and for the others the files
    that go with it. Raises BadInput for a diffusion model whose family neither its name nor `recipe` tells.
    """
    name, recipe = asked.get("model", AUTO), asked.get("recipe", AUTO)
    family = _family(name, recipe)
    if family is None:
        return Choice(None)
    parts = {"model": family.model, "text_encoder": family.encoder, "vae": family.vae, "vlm": VLM}
    files, missing = {}, {}
    for widget, part in parts.items():
        given = asked.get(widget, AUTO)
        found = (
            part.found(files_of(widget), lambda file, of=widget: _size(of, file), _room()) if given == AUTO else given
        )
        if found:
            files[widget] = found
        else:
            missing[widget] = part
    return Choice(family, family.recipe if recipe == AUTO else recipe, files, missing)


def _family(name: str, recipe: str) -> Family | None:
    """Return the family of this value of the widget model, None for the embedded models."""
    if name == EMBEDDED:
        return None
    of_recipe = next((family for family in FAMILIES if family.recipe == recipe), None)
    if name != AUTO:
        if family := family_of(name) or of_recipe:
            return family
        known = ", ".join(sorted({family.title for family in FAMILIES}))
        raise BadInput(
            f"model is {name!r}, whose name tells no family that CLVR Quick knows ({known}); choose its recipe under the "
            "advanced inputs, or use the nodes Executor and Generate in a Loop"
        )
    if of_recipe:
        return of_recipe
    here = [family_of(file) for file in files_of("model")]
    return next((family for family in FAMILIES if family in here), None)


def loaders_of(asked: Mapping[str, str], side: str) -> list[tuple[str, dict[str, str]]]:
    """Return type and file of each loader that CLVR Quick becomes on this side, vlm or executor; a missing file has the
    name under which it is published.
    """
    choice = choose(asked)
    if choice.family is None:
        return [("CLVR_ShapesModels", {})]
    named = {widget: part.file.name for widget, part in choice.missing.items()} | choice.files
    if side == "vlm":
        return [("CLIPLoader", {"clip_name": named["vlm"]})]
    loaders = {"model": ("UNETLoader", "unet_name"), "text_encoder": ("CLIPLoader", "clip_name")}
    loaders["vae"] = ("VAELoader", "vae_name")
    return [(kind, {name: named[widget]}) for widget, (kind, name) in loaders.items()]


def offers_of(asked: Mapping[str, str]) -> list[ModelFile]:
    """Return the files to download for these values of the widgets: those that are missing, or all of the first family
    where the embedded models draw for want of any other.
    """
    choice = choose(asked)
    parts = list(choice.missing.values())
    if choice.family is None and asked.get("model", AUTO) == AUTO:
        first = FAMILIES[0]
        parts = [first.model, first.encoder, first.vae, VLM]
    return [part.small if part.small and part.file.gigabytes * GB > _room() * SHARE else part.file for part in parts]


def unknown_file(widget: str, value: str | None) -> str:
    """Say what to do about a value that this widget does not list; "" for one that it does, and for a link."""
    if value in (None, AUTO, EMBEDDED if widget == "model" else AUTO, *files_of(widget)):
        return ""
    parts = [VLM, *(part for family in FAMILIES for part in (family.model, family.encoder, family.vae))]
    published = [file for part in parts for file in (part.file, part.small) if file]
    known = next((file for file in published if file.name == Path(value).name and file.folder == FOLDERS[widget]), None)
    get = f"; put {known.offer} there and press R" if known else ""
    return f"{widget} is {value!r:.200}, which is not in models/{FOLDERS[widget]}{get}, or choose auto"


def _size(widget: str, name: str) -> int:
    """Return the bytes of a file, 0 for one that was deleted meanwhile."""
    path = folder_paths.get_full_path(FOLDERS[widget], name)
    try:
        return Path(path).stat().st_size if path else 0
    except OSError:
        return 0


def _room() -> int:
    """Return the bytes of memory of the device that models are loaded to."""
    return int(comfy.model_management.get_total_memory(comfy.model_management.get_torch_device()))
