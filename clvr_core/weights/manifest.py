"""A folder of weights, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

FILES = "clvr_files.json"
TOKENIZERS = (
    "the tokenizer folder of FLUX.2-klein-4B, the folder of a Qwen3, or comfy/text_encoders/qwen25_tokenizer of ComfyUI"
)
"""Where Klein's words come from. They are in none of ComfyUI's files."""


def list_files(folder: Path) -> None:
    """Writes down what every file of the folder holds, so that `check` knows a damaged one from a whole one."""
    (folder / FILES).write_text(json.dumps(digests(folder), indent=1))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the folder by its name, the list of `list_files` left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILES)
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def check(folder: Path, parts: Collection[str] = ()) -> None:
    """Raises FileNotFoundError or ValueError. parts: come from elsewhere. Libraries fill in for some missing files: without its config, a
    text encoder of 8B."""
    listed = json.loads((folder / FILES).read_text()) if (folder / FILES).exists() else {}
    for name in (*listed, *(["text_encoder/config.json"] if "text_encoder" not in parts else [])):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{name} is missing")
    for name, digest in listed.items():
        if _digest(folder / name) != digest:
            raise ValueError(f"{name} is damaged")


def _digest(path: Path) -> str:
    data = path.read_bytes()
    # A checkout may have turned the line ends of a text.
    return hashlib.sha256(data if path.suffix == ".safetensors" else data.replace(b"\r\n", b"\n")).hexdigest()
