"""The header of a merged file: its tensors, and metadata with everything needed to make it again.

The metadata holds no folder and no date, so that equal merges are equal files. The `modelspec` keys are those of
https://github.com/Stability-AI/ModelSpec.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import BadInput
from ..reading import json_of
from ..weights.checkpoint import Checkpoint, File
from .formula import CONTRACT
from .plan import MergePlan, added_roles
from .recipe import Block, Lora, MergeRecipe

PAGE = 4096
"""Bytes. The data starts at a multiple of this, as writes past the page cache need."""
RECIPE = "dswm.recipe"
"""Key of the metadata that holds the recorded recipe."""
VERSION = 2
"""Of the recorded recipe: 2 has further checkpoints and ways to combine; without these it is 1."""
_OWN = ("dswm.", "modelspec.hash", "modelspec.date", "modelspec.title", "modelspec.thumbnail", "modelspec.merged_from")
_DROPPED = ("prompt", "workflow", "_quantization_metadata")
_IMPLEMENTATION = {
    "bfl": "https://github.com/black-forest-labs/flux2",
    "diffusers": "https://github.com/huggingface/diffusers",
}


def metadata(plan: MergePlan, sha256: Mapping[File, str], title: str) -> dict[str, str]:
    """Return the metadata of the merged file, sorted by key.

    sha256: the sums of the input files; files that are not in it are recorded without a sum.
    title: for `modelspec.title`.
    """
    base = plan.base.checkpoint
    kept = {
        key: value
        for key, value in base.metadata.items()
        if not key.startswith(_OWN) and key not in _DROPPED and key != "modelspec.license"
    }
    licenses = sorted(
        {
            file.metadata["modelspec.license"]
            for _, each in plan.checkpoints
            for file in each.files[:1]
            if _license(file)
        }
    )
    found = {
        "format": "pt",
        **kept,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.merged_from": ", ".join(_title(each) for _, each in plan.checkpoints),
        "dswm.version": __version__,
        "dswm.contract": CONTRACT,
        "dswm.formula": plan.recipe.formula,
        RECIPE: json.dumps(record(plan, sha256), sort_keys=True, separators=(",", ":")),
    }
    if plan.layout in _IMPLEMENTATION:
        found["modelspec.implementation"] = _IMPLEMENTATION[plan.layout]
    if licenses:
        found["modelspec.license"] = ", ".join(licenses)
    return {utf8(key): utf8(value) for key, value in sorted(found.items())}


def utf8(text: str) -> str:
    """Return the text as UTF-8 can write it: \\udcff for the byte FF of a file name that is no UTF-8, or for half a
    character in a metadata text. A safetensors file with such a character could not be read."""
    return text.encode("utf-8", "backslashreplace").decode()


def header(plan: MergePlan, texts: Mapping[str, str]) -> bytes:
    """Return the bytes in front of the data: the length, the JSON header, and spaces up to a multiple of PAGE."""
    entries: dict[str, Any] = {"__metadata__": dict(texts)}
    for output in plan.outputs:
        entries[output.name] = {
            "dtype": output.dtype,
            "shape": list(output.shape),
            "data_offsets": [output.start, output.start + output.nbytes],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % PAGE)
    return struct.pack("<Q", len(text)) + text


def no_sums(plan: MergePlan) -> dict[File, str]:
    """Return placeholders as long as the real sums, to compute the size of the header before the inputs are hashed."""
    return {file: "0" * 64 for _, checkpoint in plan.checkpoints for file in checkpoint.files}


def record(plan: MergePlan, sha256: Mapping[File, str]) -> dict[str, Any]:
    """Return the recipe and the input files as the JSON object to record, with the sums of the files that are in
    `sha256`."""
    recipe, inputs = plan.recipe, []
    strengths = iter([strength for _, strength in plan.loras])
    added = {role: each.strength for role, each in added_roles(recipe)}
    # Left out where it says nothing: files of earlier versions keep their bytes, and earlier versions read the rest.
    combine = {"combine": recipe.combine} if recipe.combine != "sum" else {}
    for role, checkpoint in plan.checkpoints:
        entry: dict[str, Any] = {"role": role, "name": utf8(checkpoint.path.name), "files": []}
        for file in checkpoint.files:
            entry["files"].append(
                {
                    "name": utf8(file.path.name),
                    "size": file.size,
                    **({"sha256": sha256[file]} if file in sha256 else {}),
                }
            )
        if role == "lora":
            entry["strength"] = next(strengths)
        if role in added:
            entry["strength"] = added[role]
        inputs.append(entry)
    return {
        "v": VERSION if combine or added else 1,
        **combine,
        "alpha": recipe.alpha,
        "beta": recipe.beta,
        "blocks": [[block.pattern, block.align, block.distil] for block in recipe.blocks],
        "include": list(recipe.include),
        "exclude": list(recipe.exclude),
        "layout": plan.layout,
        "dtype": recipe.dtype,
        "rounding": recipe.rounding,
        "seed": recipe.seed,
        "keep_lora": recipe.keep_lora,
        "limit": recipe.limit,
        "inputs": inputs,
    }


def without_sums(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record without the SHA-256 of its input files."""
    files = [[{key: part[key] for key in ("name", "size")} for part in entry["files"]] for entry in record["inputs"]]
    return {**record, "inputs": [{**entry, "files": parts} for entry, parts in zip(record["inputs"], files)]}


def read_record(file: File) -> dict[str, Any]:
    """Read the record of a merged file.

    Raises BadInput if the file is not a merged one, or one of a later version of clvr.
    """
    try:
        record = json_of(file.metadata.get(RECIPE, "null"))
        inputs = (
            [(str(entry["role"]), str(entry["name"]), list(entry["files"])) for entry in record["inputs"]]
            if record
            else []
        )
        version = record["v"] if record else None
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{file.path}: its recipe is damaged ({str(error)[:80]}); merge anew") from error
    if not inputs:
        raise BadInput(
            f"{file.path} was not merged by clvr: it has no {RECIPE} in its metadata; there is nothing to verify"
        )
    if version not in range(1, VERSION + 1):
        raise BadInput(
            f"{file.path} has a recipe of version {version!r:.20}, this version of clvr reads {VERSION}; update clvr"
        )
    return record


def recipe_of(file: File, record: Mapping[str, Any], paths: Mapping[str, Path], loras: tuple[Path, ...]) -> MergeRecipe:
    """Return the recorded recipe, with the inputs at these paths.

    paths: of the checkpoints by role.
    loras: of the LoRAs, in the order of the record.

    Raises BadInput for a record that no recipe could have given.
    """
    try:
        strengths = [float(entry["strength"]) for entry in record["inputs"] if entry["role"] == "lora"]
        return MergeRecipe(
            base=paths["base"],
            aligned=paths.get("aligned"),
            distilled=paths.get("distilled"),
            loras=tuple(Lora(path, strength) for path, strength in zip(loras, strengths)),
            added=tuple(
                Lora(paths[entry["role"]], float(entry["strength"]))
                for entry in record["inputs"]
                if entry["role"].startswith("added ")
            ),
            combine=record.get("combine", "sum"),
            alpha=float(record["alpha"]),
            beta=float(record["beta"]),
            blocks=tuple(
                Block(str(pattern), float(align), float(distil)) for pattern, align, distil in record["blocks"]
            ),
            include=tuple(map(str, record["include"])),
            exclude=tuple(map(str, record["exclude"])),
            layout="base" if record["layout"] == "plain" else record["layout"],
            dtype=record["dtype"],
            rounding=record["rounding"],
            seed=int(record["seed"]),
            keep_lora=bool(record["keep_lora"]),
            limit=float(record["limit"]),
            fp8="dequantise",  # it was merged
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{file.path}: its recipe is damaged ({str(error)[:80]}); merge anew") from error


def _title(checkpoint: Checkpoint) -> str:
    return checkpoint.metadata.get("modelspec.title") or checkpoint.path.name.removesuffix(".json").removesuffix(
        ".index"
    ).removesuffix(".safetensors")


def _license(file: File) -> bool:
    return bool(file.metadata.get("modelspec.license"))
