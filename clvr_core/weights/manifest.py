"""The manifest of a folder of weights: the SHA-256 of every file, to find missing and damaged ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from .shared import files_of, shared_parts

FILES = "clvr_files.json"
"""Name of the manifest in its folder."""
TOKENIZERS = (
    "the tokenizer folder of FLUX.2-klein-4B, the folder of a Qwen3, or comfy/text_encoders/qwen25_tokenizer of ComfyUI"
)
"""Where the user finds a tokenizer for Klein, for messages: no file of ComfyUI's layout contains one."""


def write_manifest(folder: Path) -> None:
    """Write the manifest of a folder, which `check_manifest` compares with its files."""
    (folder / FILES).write_text(json.dumps(digests(folder), indent=1))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in the folder except the manifest, by its relative path, and of those that the
    folder takes from the one beside it: they are the same as of a copy that has all its files itself."""
    return {name: _digest(path) for name, path in files_of(folder).items() if path.name != FILES}


def check_manifest(folder: Path, parts: Collection[str] = ()) -> None:
    """Compare a diffusers folder with its manifest, if it has one.

    parts: names of the models that are loaded from elsewhere.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one, BadInput as `shared_parts` does. The
    config of the text encoder is required even without a manifest, unless the text encoder is among `parts`: where the
    config is missing, transformers assumes a text encoder of 8B.
    """
    known = json.loads((folder / FILES).read_text()) if (folder / FILES).exists() else {}
    beside = shared_parts(folder)

    def place(name: str) -> Path:
        part, _, rest = name.partition("/")
        return beside[part] / rest if part in beside else folder / name

    for name in (*known, *(["text_encoder/config.json"] if "text_encoder" not in parts else [])):
        if not place(name).is_file():
            raise FileNotFoundError(f"{name} is missing{_beside(place(name), folder)}")
    for name, digest in known.items():
        if _digest(place(name)) != digest:
            raise ValueError(f"{name} is damaged{_beside(place(name), folder)}")


def _beside(path: Path, folder: Path) -> str:
    return "" if path.is_relative_to(folder) else f" in {path.parents[1]}"


def _digest(path: Path) -> str:
    data = path.read_bytes()
    # git may have converted the line ends of a text file.
    return hashlib.sha256(data if path.suffix == ".safetensors" else data.replace(b"\r\n", b"\n")).hexdigest()
